"""Part `rest` of the bench of sources, by Tidemill: python tidemill_rest.py load|check SPEC FOLDER VARIANT."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def load(spec: dict[str, str], variant: str) -> None:
    """Run a pipeline of one source; a number as variant asks for details, so many at a time."""
    import tidemill as tm
    from tidemill import sources

    Path("tidemill.toml").write_text('[project]\nname = "bench"\n', encoding="utf-8")
    shop = tm.Pipeline("shop")
    shop.source(
        sources.rest(
            f"{spec['url']}/orders",
            records="$.data[*]",
            paginate=sources.by_cursor("$.next", param="after"),
            details=sources.details("/orders/{id}", parallel=int(variant)) if variant else None,
        ),
        name="orders",
    )
    if not shop.run("1").last.ok:
        sys.exit("the run failed")


def check() -> None:
    """Print what was loaded: rows and the sum of ids."""
    import tidemill as tm

    rows = tm.read("shop.orders").to_arrow()
    print(rows.num_rows, sum(rows.column("id").to_pylist()))


if __name__ == "__main__":
    # Else the project is that of this file, which declares the pipeline.
    os.environ["TIDEMILL_PROJECT"] = sys.argv[3]
    if sys.argv[1] == "load":
        load(json.loads(Path(sys.argv[2]).read_text("utf-8")), sys.argv[4])
    else:
        check()
