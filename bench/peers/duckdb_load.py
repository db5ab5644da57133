"""Raw DuckDB: `create table as` from its own readers into a database file. No archive, no batch, no contract.

The limit of what one machine does; a nested input becomes a parent and two child tables, in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

TABLES = {"": "loaded", "items": "loaded_items", "tags": "loaded_tags"}


def reader(spec: dict[str, Any]) -> str:
    """The table function over the input's files.

    Types come from the first 20,480 rows of a file, unless a column appears later: then the load would stop with an
    error, so every row is looked at first.
    """
    files = "[" + ", ".join("'" + name.replace("'", "''") + "'" for name in spec["files"]) + "]"
    if spec["format"] == "csv":
        return f"read_csv({files})"
    whole = ", sample_size = -1" if spec["name"].startswith("late") else ""
    return f"read_json({files}, format = 'newline_delimited'{whole})"


def load(spec: dict[str, Any], work: Path, variant: str) -> None:
    """Load the input; there is one variant."""
    connection = duckdb.connect(str(work / "raw.duckdb"))
    source = reader(spec)
    if "items" not in spec["tables"]:
        connection.execute(f"create table loaded as from {source}")
    else:
        connection.execute("begin")
        connection.execute(f"create temp table rows as from {source}")
        connection.execute("""create table loaded as select id, ts, event, amount, "user".id as user__id,
            "user".name as user__name, "user".addr.city as user__addr__city, "user".addr.zip as user__addr__zip
            from rows""")
        connection.execute(
            "create table loaded_items as select id as parent, unnest(items, recursive := true) from rows"
        )
        connection.execute("create table loaded_tags as select id parent, unnest(tags) as value from rows")
        connection.execute("commit")
    connection.close()


def opened(spec: dict[str, Any], work: Path, variant: str) -> tuple[Callable[[str], list[Any]], dict[str, str]]:
    """A query function over the database, and the tables' names."""
    connection = duckdb.connect(str(work / "raw.duckdb"), read_only=True)
    connection.execute("set TimeZone = 'UTC'")
    return lambda sql: connection.execute(sql).fetchall(), TABLES
