"""`pipeline.deliver(...)`: declaring which tables are mirrored outside the lake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tidemill.authoring.handles import Handle
from tidemill.authoring.place import here, is_interactive, placed
from tidemill.model.delivery import DeliveredTable, DeliverySpec
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.pipeline import Materialized, PipelineSpec
from tidemill.model.redshift import Layout
from tidemill.model.table import Partition, TableName

_CONNECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What a destination may be told about a table, beside its name.
_LAYOUT = ("distkey", "diststyle", "sortkey", "encode")
_OPTIONS = ("format", "compression", "partition", "key", *_LAYOUT)


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    to: str
    into: DeliveredTable
    place: str


class HasDeliveries:
    """The part of a pipeline that declares what it delivers."""

    name: str

    def __init__(self) -> None:
        super().__init__()
        self._delivered: list[_Asked] = []

    def deliver(self, *tables: str | Handle, to: str, table: str | None = None, **options: Any) -> None:
        """Mirror tables in a database, in files or in topics, after each publish.

        What one pipeline delivers to one destination goes there together. A destination that is away delays nothing: it
        is tried again until it is done, and no row is there twice.

        Args:
            tables: of this pipeline, by name or as what declared them.
            to: the connection of the destination: `TIDEMILL_CONN_<NAME>`.
            table: what it is called there, `name` or `schema.name`; left out, `<pipeline>.<table>`.
            options: of files: `format` ("parquet", "csv", "jsonl", "avro"), `compression`, `partition`
                ("day(time)", or several); of topics: `key`, columns; of Redshift: `distkey`, `diststyle`, `sortkey`
                (columns), `encode` (column -> encoding), as `model.redshift.Layout` says, for a table that is made.
        """
        place = here()
        if not tables:
            raise DefinitionError("deliver() names no table.", where=place, hint='deliver("orders", to="warehouse")')
        if not _CONNECTION.fullmatch(str(to)):
            raise DefinitionError(
                f"to={to!r} is not the name of a connection.",
                where=place,
                hint='to="warehouse", TIDEMILL_CONN_WAREHOUSE',
            )
        if table is not None and len(tables) > 1:
            raise DefinitionError("table= is the name of one table.", where=place, hint="call deliver() for each")
        checked = _options(options, place)
        for one in tables:
            name = self._own(one, place)
            into = table or f"{self.name}.{name}"
            if not into.strip() or into.count(".") > 1 or not all(into.split(".")):
                raise DefinitionError(f'table="{into}" cannot name a table there.', where=place, hint='"schema.name"')
            if is_interactive(place):
                self._delivered = [d for d in self._delivered if (d.name, d.to) != (name, to)]
            made = DeliveredTable(TableName(self.name, name), into, checked)
            self._delivered.append(_Asked(name, to, made, place))

    def _own(self, one: str | Handle, place: str) -> str:
        if isinstance(one, Handle):
            pipeline, name = one.pipeline.name, one.name
        else:
            found = placed(TableName.parse, one, self.name)
            pipeline, name = found.namespace, found.table
        if pipeline != self.name:
            raise DefinitionError(
                f'"{pipeline}.{name}" is a table of another pipeline.',
                where=place,
                hint=f"{pipeline}.deliver(...): what is published together is delivered together",
            )
        return name

    def _deliveries(self, made: PipelineSpec) -> PipelineSpec:
        """The pipeline with its deliveries, checked against its tables."""
        by: dict[str, DeliverySpec] = {}
        for asked in self._delivered:
            if not made.has(asked.name):
                known = [*made.sources, *made.transforms]
                raise UnknownName.of("table", asked.name, known, where=asked.place)
            transform = made.transforms.get(asked.name)
            if transform is not None and transform.materialized is Materialized.VIEW:
                raise DefinitionError(
                    f'"{asked.name}" is a view: it has no rows of its own.',
                    where=asked.place,
                    hint='materialized="table", or deliver the tables that it reads',
                )
            earlier = by.get(asked.to, DeliverySpec(self.name, asked.to, (), asked.place))
            for other in earlier.tables:
                if other.into.lower() == asked.into.into.lower() or other.table == asked.into.table:
                    raise DefinitionError(
                        f'"{other.table}" and "{asked.into.table}" are delivered to "{asked.to}" as "{other.into}" and '
                        f'"{asked.into.into}": once, and under one name each.',
                        where=asked.place,
                    )
            tables = tuple(sorted((*earlier.tables, asked.into), key=lambda one: one.table))
            by[asked.to] = replace(earlier, tables=tables)
        return replace(made, deliveries=tuple(by[to] for to in sorted(by)))


def _options(options: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What was asked for, as JSON values."""
    made: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _OPTIONS:
            raise UnknownName.of("option", name, _OPTIONS, where=place)
        if name == "encode":
            if not isinstance(value, Mapping):
                raise DefinitionError(
                    f"encode={value!r} names no columns.", where=place, hint='encode={"note": "zstd"}'
                )
            made[name] = {str(column): str(encoding) for column, encoding in value.items()}
        elif name in ("partition", "key", "sortkey"):
            listed = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
            if not listed or not all(isinstance(one, str) for one in listed):
                raise DefinitionError(f"{name}={value!r} names no columns.", where=place)
            made[name] = [str(placed(Partition.parse, one)) for one in listed] if name == "partition" else listed
        elif isinstance(value, str):
            made[name] = value
        else:
            raise DefinitionError(f"{name}={value!r} is no text.", where=place)
    if layout := {name: value for name, value in made.items() if name in _LAYOUT}:
        placed(partial(Layout, **layout))
    return made
