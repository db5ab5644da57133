"""dlt into DuckDB or PostgreSQL: Arrow batches, which go to PostgreSQL as CSV by COPY, or dicts as by default."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import dlt

from peers import arrived
from peers.dlt_load import arrow, dicts


def load(spec: dict[str, Any], work: Path, variant: str) -> None:
    """Load the input; variant "arrow" or "dicts"."""
    if os.environ["BENCH_INTO"] == "duckdb":
        destination: Any = dlt.destinations.duckdb(str(work / "dlt.duckdb"))
        file_format: Literal["parquet", "csv"] = "parquet"
    else:
        destination = dlt.destinations.postgres(os.environ["BENCH_ADDRESS"])
        file_format = "csv"
    pipeline = dlt.pipeline(
        "bench", destination=destination, dataset_name="bench", pipelines_dir=str(work / "pipelines")
    )
    if variant == "arrow":
        resource = dlt.resource(lambda: arrow(spec), name="loaded")
        pipeline.run(resource, write_disposition="append", loader_file_format=file_format)
    else:
        pipeline.run(dicts(spec), table_name="loaded", write_disposition="append")


def opened(spec: dict[str, Any], work: Path, variant: str) -> tuple[Callable[[str], list[Any]], dict[str, str]]:
    """A query function over what arrived, and the tables' names."""
    return arrived.opened(work / "dlt.duckdb", "bench.loaded")
