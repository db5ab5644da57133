"""Tidemill: a table of PostgreSQL into the lake, the whole path. Run by bench/sources_sql.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def load(spec: dict[str, str], work: Path, variant: str) -> None:
    """Load the table as one batch; the variant is how many connections read."""
    import tidemill as tm
    from tidemill import sources

    os.environ["TIDEMILL_CONN_SHOP_DB"] = spec["url"]
    pipeline = tm.Pipeline("bench")
    pipeline.source(sources.sql("shop_db", spec["table"], parallel=int(variant)), name="orders")
    pipeline.run("once")


def check(work: Path) -> None:
    """Show what the table holds."""
    import tidemill as tm

    query = """
        SELECT count(*) AS a, sum(id)::bigint AS b, sum(total)::decimal(20,2) AS c, sum(length(name))::bigint AS d,
            max(updated_at)::date AS e FROM bench.orders
    """
    (row,) = tm.query(query, project=work).to_arrow().to_pylist()
    print(*row.values())


if __name__ == "__main__":
    work = Path(sys.argv[3])
    os.environ["TIDEMILL_PROJECT"] = str(work)
    if sys.argv[1] == "load":
        load(json.loads(Path(sys.argv[2]).read_text("utf-8")), work, sys.argv[4])
    else:
        check(work)
