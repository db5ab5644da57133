"""Tidemill: a Singer tap into the lake, the whole path. Run by bench/sources_singer.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

TAP = Path(__file__).resolve().parent / "singer_tap.py"


def load(spec: dict[str, int], variant: str) -> None:
    """Load the tap's stream as one batch; the variant is the write mode."""
    import tidemill as tm
    from tidemill import sources

    pipeline = tm.Pipeline("bench")
    keys = {"orders": "id"} if variant == "upsert" else None
    for each in sources.singer(str(TAP), select=["orders"], config={"rows": spec["rows"]}, key=keys, discover=False):
        pipeline.source(each)
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
    os.environ["TIDEMILL_PROJECT"] = sys.argv[3]
    if sys.argv[1] == "load":
        load(json.loads(Path(sys.argv[2]).read_text("utf-8")), sys.argv[4])
    else:
        check(Path(sys.argv[3]))
