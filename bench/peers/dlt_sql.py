"""dlt: a table of PostgreSQL into a DuckDB file, by one of its backends. Run by bench/sources_sql.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import dlt
import duckdb


def load(spec: dict[str, str], work: Path, variant: str) -> None:
    """Load the table; the variant is the backend: sqlalchemy (its default), pyarrow, connectorx."""
    from dlt.sources.sql_database import sql_table

    # The driver has to be named: newer SQLAlchemy takes psycopg 3 where none is. For connectorx dlt leaves it out.
    url = spec["url"].replace("postgresql://", "postgresql+psycopg2://")
    pipeline = dlt.pipeline(
        "bench",
        destination=dlt.destinations.duckdb(str(work / "dlt.duckdb")),
        dataset_name="bench",
        pipelines_dir=str(work / "pipelines"),
    )
    table = sql_table(
        url, table=spec["table"], backend=cast(Any, variant), reflection_level="full_with_precision"
    ).with_name("orders")
    pipeline.run(table, write_disposition="append", loader_file_format="parquet")


def check(work: Path) -> None:
    """Show what the table holds."""
    connection = duckdb.connect(str(work / "dlt.duckdb"), read_only=True)
    connection.execute("set TimeZone = 'UTC'")
    query = """
        SELECT count(*), sum(id)::bigint, sum(total)::decimal(20,2), sum(length(name))::bigint, max(updated_at)::date
        FROM bench.orders
    """
    print(*(connection.execute(query).fetchone() or ()))


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(json.loads(Path(sys.argv[2]).read_text("utf-8")), Path(sys.argv[3]), sys.argv[4])
    else:
        check(Path(sys.argv[3]))
