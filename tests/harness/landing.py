"""Databases that batches are loaded into, for the suite of the port `destination`: how to open one, and to ask it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
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


def duckdb_landing(path: Path) -> Landing:
    import duckdb

    from tidemill.adapters.duckdb.destination import DuckDestination

    def ask(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            made = connection.sql(query)
            # By Arrow: DuckDB's own way to Python wants a package for time zones.
            return [] if made is None else [tuple(row.values()) for row in made.to_arrow_table().to_pylist()]

    return Landing("duckdb", lambda: DuckDestination(path), ask)


def postgres_landing(url: str) -> Landing:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    from tidemill.adapters.postgres.destination import PostgresDestination

    plain = url.replace("+psycopg", "")

    def ask(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(plain, options="-c TimeZone=UTC", autocommit=True) as connection:
            made = connection.execute(query.encode())
            return made.fetchall() if made.description else []

    return Landing("postgresql", lambda: PostgresDestination(conninfo_to_dict(plain)), ask)
