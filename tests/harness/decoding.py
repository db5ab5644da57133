"""Decoding in tests: feeds from bytes, and a decode that restarts as a load does and checks each chunk's form."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.adapters.arrow.decoder import ArrowDecoder
from tidemill.adapters.arrow.types import to_arrow
from tidemill.model.table import Contract, Schema
from tidemill.model.types import List, Struct, Type
from tidemill.ports.decoder import DecodeOptions, Feed, Restart


@dataclass
class Decodes:
    """What came out: types by column, rows as dictionaries, rejected rows as (line, raw, error); by child tables."""

    schema: Schema = field(default_factory=Schema)
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    restarts: int = 0
    children: dict[str, Decodes] = field(default_factory=dict)

    @property
    def types(self) -> dict[str, str]:
        return {column.name: str(column.type) for column in self.schema}


def feed(data: str | bytes, name: str, **more: Any) -> Feed:
    """A feed of these bytes."""
    raw = data.encode() if isinstance(data, str) else data
    return Feed(name, lambda: io.BytesIO(raw), len(raw), **more)


def decode(
    data: str | bytes | Sequence[Feed],
    name: str = "feed.jsonl",
    *,
    contract: Contract | None = None,
    tables: Mapping[str, Schema] | None = None,
    block: int = 4 << 20,
    **options: Any,
) -> Decodes:
    """Decode to the end, with restarts; rows of early chunks have nulls for columns that came later."""
    feeds = [feed(data, name)] if isinstance(data, str | bytes) else data
    found, restarts = Schema(), 0
    while True:
        made = Decodes(restarts=restarts)
        try:
            for chunk in ArrowDecoder(block).decode(
                feeds,
                tables=tables or {},
                found=found,
                contract=contract or Contract(),
                options=DecodeOptions(**options),
            ):
                chunk.batch.validate(full=True)
                assert chunk.batch.schema.equals(to_arrow(chunk.schema), check_metadata=False)
                into = made if not chunk.child else made.children.setdefault(chunk.child, Decodes())
                into.schema = chunk.schema
                into.rows += chunk.batch.to_pylist()
                made.rejected += [(r.line, r.raw, r.error) for r in chunk.rejected]
                made.files += [r.file for r in chunk.rejected]
            break
        except Restart as restart:
            found, restarts = restart.found, restarts + 1
            assert restarts < 4, "restarts do not end"
    for part in (made, *made.children.values()):
        whole = Struct(tuple((column.name, column.type) for column in part.schema))
        part.rows = [_filled(row, whole) for row in part.rows]
    return made


def _filled(value: Any, kind: Type) -> Any:
    """A value with nulls for the fields that came later."""
    if isinstance(kind, Struct) and value is not None:
        return {name: _filled(value.get(name), part) for name, part in kind.fields}
    if isinstance(kind, List) and value is not None:
        return [_filled(each, kind.element) for each in value]
    return value
