"""Part `rest` of the bench of sources, by dlt's REST source into DuckDB: python dlt_rest.py load|check SPEC FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def load(spec: dict[str, str]) -> None:
    """Run a pipeline of one resource."""
    import dlt
    from dlt.sources.rest_api import rest_api_source

    source = rest_api_source(
        {
            "client": {"base_url": spec["url"]},
            "resources": [
                {
                    "name": "orders",
                    "endpoint": {
                        "path": "orders",
                        "data_selector": "data",
                        "paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "after"},
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline("bench", destination=dlt.destinations.duckdb("bench.duckdb"), dataset_name="shop")
    pipeline.run(source).raise_on_failed_jobs()


def check() -> None:
    """Print what was loaded: rows and the sum of ids."""
    import duckdb

    found = (
        duckdb.connect("bench.duckdb", read_only=True).execute("SELECT count(*), sum(id) FROM shop.orders").fetchone()
    )
    assert found is not None
    print(*found)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(json.loads(Path(sys.argv[2]).read_text("utf-8")))
    else:
        check()
