"""What the benches of destinations check: the loaded table, by DuckDB, wherever it is."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb


def opened(file: Path, table: str) -> tuple[Callable[[str], list[Any]], dict[str, str]]:
    """A query function over the DuckDB file, or over a copy of the table in PostgreSQL."""
    inside = os.environ["BENCH_INTO"] == "duckdb"
    connection = duckdb.connect(str(file), read_only=True) if inside else _copied(table)
    connection.execute("set TimeZone = 'UTC'")
    return lambda sql: connection.execute(sql).fetchall(), {"": table}


def _copied(table: str) -> duckdb.DuckDBPyConnection:
    """The table by way of CSV: DuckDB's own reader of PostgreSQL is an extension, which is not installed."""
    rows = Path("arrived.csv")
    with rows.open("wb") as file:
        _copy(os.environ["BENCH_ADDRESS"], f"COPY (SELECT * FROM {table}) TO STDOUT (FORMAT csv, HEADER)", file)
    connection = duckdb.connect()
    schema, _, name = table.partition(".")
    connection.execute(f"create schema if not exists {schema}")
    columns = "auto_type_candidates = ['BIGINT', 'DOUBLE', 'TIMESTAMP', 'TIMESTAMPTZ', 'BOOLEAN', 'VARCHAR']"
    connection.execute(f"create table {schema}.{name} as from read_csv('{rows}', sample_size = -1, {columns})")
    return connection


def _copy(address: str, statement: str, file: Any) -> None:
    """By psycopg, or by the older one, which dlt brings."""
    if importlib.util.find_spec("psycopg") is None:
        driver: Any = importlib.import_module("psycopg2")
        driver.connect(address).cursor().copy_expert(statement, file)
        return
    import psycopg

    with psycopg.connect(address) as connection, connection.cursor().copy(statement.encode()) as copy:
        for block in copy:
            file.write(block)
