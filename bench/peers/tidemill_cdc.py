"""Tidemill: changes of a table of PostgreSQL into log and state. Run by bench/sources_cdc.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

COLUMNS = "id, customer, total, name, updated_at, paid, weight, day"


def load(url: str, batch: str) -> None:
    """One batch."""
    import tidemill as tm
    from tidemill import sources

    os.environ["TIDEMILL_CONN_SHOP_DB"] = url
    pipeline = tm.Pipeline("bench")
    pipeline.source(sources.cdc("shop_db", ["public.orders"], slot="bench", max_changes=100_000_000))
    pipeline.run(batch)


def check(url: str, work: Path) -> None:
    """Compare both ways: rows that are missing, and rows that are too many."""
    import duckdb
    from adbc_driver_postgresql import dbapi

    import tidemill as tm

    here = tm.query(f"SELECT {COLUMNS} FROM bench.orders", project=work).to_arrow()
    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, customer, total::text AS total, name, updated_at, paid, weight, day FROM orders")
        there = cursor.fetch_arrow_table()
    with duckdb.connect() as engine:
        engine.register("here", here)
        engine.register("there", there)
        one = f"SELECT {COLUMNS.replace('total', 'total::decimal(12,2) AS total')} FROM there"
        for first, second in ((one, "FROM here"), ("FROM here", one)):
            found = engine.execute(f"SELECT count(*) FROM (({first}) EXCEPT ALL ({second}))").fetchone()
            print(*(found or ()), end=" ")


if __name__ == "__main__":
    work = Path(sys.argv[3])
    os.environ["TIDEMILL_PROJECT"] = str(work)
    if sys.argv[1] == "check":
        check(sys.argv[2], work)
    else:
        load(sys.argv[2], sys.argv[1])
