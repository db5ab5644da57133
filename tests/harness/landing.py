"""Databases that batches are loaded into, for the suite of the port `destination`: how to open one, and to ask it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tidemill.adapters.arrow.types import to_arrow
from tidemill.model.table import Schema, WriteMode
from tidemill.ports.destination import Destination, Load, TableLoad


@dataclass
class Landing:
    """One empty database.

    Args:
        kind: of which technology.
        opened: opens the destination, as another process would.
        ask: gives the rows of a query.
    """

    kind: str
    opened: Callable[[], Destination]
    ask: Callable[[str], list[tuple[Any, ...]]]

    def load(self, *tables: TableLoad, source: str = "s", before: str | None = None, after: str = "1") -> int:
        """One load."""
        return self.opened().load(Load(source, before, after, tables))


def rows(
    columns: dict[str, str],
    values: Sequence[tuple[Any, ...]],
    *,
    table: str = "t",
    cut: int = 2,
    **how: Any,
) -> TableLoad:
    """Rows as a load of a table, in batches of `cut`."""
    schema = Schema.of(columns)
    whole = pa.table(
        [pa.array([row[place] for row in values], kind) for place, kind in enumerate(to_arrow(schema).types)],
        schema=to_arrow(schema),
    )
    write = how.pop("write", "append")
    return TableLoad(table, schema, whole.to_batches(cut), WriteMode(write), **how)
