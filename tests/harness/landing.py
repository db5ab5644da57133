"""Databases that batches are loaded into, for the suite of the port `destination`: how to open one, and to ask it."""

from __future__ import annotations

import json
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


def files_landing(folder: Path, reader: str = "read_parquet") -> Landing:
    """Files in a folder; `ask` sees the Parquet files that the newest manifests list, as tables."""
    import duckdb

    from tidemill.adapters.arrow.destination import FilesDestination
    from tidemill.adapters.localfs.files import LocalFiles
    from tidemill.adapters.system.clock import SystemClock

    folder.mkdir(parents=True, exist_ok=True)

    def ask(query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for name, told in listed(folder).items():
                schema, _, table = name.rpartition(".")
                into = f'"{table}"'
                if schema:
                    connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
                    into = f'"{schema}"."{table}"'
                paths = [str(folder / one["path"]) for one in told["files"]]
                columns = ", ".join(f'"{column}"' for column in told["columns"])
                rows = f"FROM {reader}($1, union_by_name=true, hive_partitioning=false)"
                if not paths:
                    columns = ", ".join(f'CAST(NULL AS {kind}) AS "{c}"' for c, kind in told["columns"].items())
                    rows = "WHERE FALSE"
                made = f"CREATE TABLE {into} AS SELECT {columns} {rows}"
                connection.execute(made, [paths] if paths else [])
            return [tuple(row.values()) for row in connection.sql(query).to_arrow_table().to_pylist()]

    return Landing("files", lambda: FilesDestination(LocalFiles(folder), SystemClock()), ask)


def listed(folder: Path) -> dict[str, Any]:
    """The tables that the newest manifest of each source lists."""
    newest: dict[Path, Path] = {}
    for path in sorted(folder.glob("_tidemill/**/manifest-*.json")):
        newest[path.parent] = path
    found: dict[str, Any] = {}
    for path in newest.values():
        found |= json.loads(path.read_text())["tables"]
    return found
