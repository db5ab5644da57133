"""dlt into a DuckDB file, in two ways: dicts (what its documentation does for one's own source), or Arrow batches.

In the Arrow way DuckDB decodes the files and dlt passes record batches through to Parquet and the destination;
nested values are then not taken apart.
"""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dlt
import duckdb
import orjson

from peers.duckdb_load import reader

BLOCK = 10_000
TABLES = {"": "bench.loaded", "items": "bench.loaded__items", "tags": "bench.loaded__tags"}


def load(spec: dict[str, Any], work: Path, variant: str) -> None:
    """Load the input; variant "dicts" or "arrow"."""
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.duckdb(str(work / "dlt.duckdb")),
        dataset_name="bench",
        pipelines_dir=str(work / "pipelines"),
    )
    if variant == "arrow":
        resource = dlt.resource(lambda: arrow(spec), name="loaded")
        pipeline.run(resource, write_disposition="append", loader_file_format="parquet")
    else:
        pipeline.run(dicts(spec), table_name="loaded", write_disposition="append")


def dicts(spec: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Rows as dicts, in blocks."""
    rows = (row for name in spec["files"] for row in (csv_rows(name) if spec["format"] == "csv" else json_rows(name)))
    while block := list(itertools.islice(rows, BLOCK)):
        yield block


def json_rows(name: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file."""
    with gzip.open(name, "rb") as file:
        yield from map(orjson.loads, file)


def csv_rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a CSV file; an empty field is None."""
    with gzip.open(name, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {column: value or None for column, value in row.items()}


def arrow(spec: dict[str, Any]) -> Iterator[Any]:
    """Record batches, decoded by DuckDB."""
    yield from duckdb.connect().sql(f"from {reader(spec)}").to_arrow_reader(100_000)


def opened(spec: dict[str, Any], work: Path, variant: str) -> tuple[Callable[[str], list[Any]], dict[str, str]]:
    """A query function over the database, and the tables' names."""
    connection = duckdb.connect(str(work / "dlt.duckdb"), read_only=True)
    connection.execute("set TimeZone = 'UTC'")
    return lambda sql: connection.execute(sql).fetchall(), TABLES
