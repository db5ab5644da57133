"""What a run costs beside its data: an empty run, a publish, an upsert into a large table, the thousandth batch.

    ./run bench runs [--batches 1000]

Everything in one process, after imports, in a fresh project on SQLite and a local folder, through the public API. The
exit code is 1 where a median is over its limit.

- *empty run*: a source without rows, from the start to the publish.
- *publish of five tables*: from the first look at `main` to the end of the transaction; five tables have changed.
- *upsert 100k into 1M*: a run that extracts, loads and upserts 100,000 keys, half of them new, into a million.
- *batch 1 and batch N*: runs of a small batch, at the beginning and at the end of a history of N.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import measure
import tidemill as tm
from figures import keep, verdict

#: Figure -> the most milliseconds that its median may take (None: shown to compare).
LIMITS: dict[str, float | None] = {
    "empty run": 150,
    "publish of five tables": 50,
    "upsert 100k into 1M": None,
    "batches 1 to 10": None,
    "last ten batches": None,
}


def timed(work: Callable[[str], Any], name: str) -> float:
    """Milliseconds that `work` takes."""
    began = time.perf_counter()
    work(name)
    return (time.perf_counter() - began) * 1000


def empty_runs(count: int) -> list[float]:
    """Runs of a source without rows."""
    p = tm.Pipeline("empty")

    @p.source(columns={"id": "long"})
    def nothing(context: Any) -> Any:
        yield from ()

    return [timed(p.run, f"empty-{n}") for n in range(count + 1)][1:]


def publishes(count: int) -> list[float]:
    """The publish alone of runs that change five tables."""
    from tidemill.flow import run as flow
    from tidemill.flow.publish import publish_run

    p = tm.Pipeline("five")

    def rows(batch: Any) -> Any:
        yield {"id": 1, "run": str(batch)}

    for number in range(5):
        p.source(name=f"t{number}")(rows)
    taken: list[float] = []
    real = publish_run

    def publish(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        made = real(*args, **options)
        taken.append((time.perf_counter() - began) * 1000)
        return made

    with patch.object(flow, "publish_run", publish):
        for number in range(count + 1):
            p.run(f"five-{number}")
    return taken[1:]


def upserts(first: int, count: int) -> list[float]:
    """Runs that upsert 100,000 keys, half of them new, into a table that held `first` before."""
    p = tm.Pipeline("upsert")
    Path("feeds").mkdir()
    p.files("feeds/{{ run_key }}.csv", name="given")

    @p.table(key="id", write="upsert")
    def kept(given: Any) -> Any:
        return given

    def feed(name: str, keys: range) -> str:
        lines = [f"{key},{key * 7 % 1000},name {key}" for key in keys]
        Path(f"feeds/{name}.csv").write_text("\n".join(["id,n,name", *lines, ""]), encoding="utf-8")
        return name

    p.run(feed("base", range(first)))
    names = [feed(f"more-{n}", range(first + (n - 1) * 50_000, first + (n + 1) * 50_000)) for n in range(count)]
    return [timed(p.run, name) for name in names]


def batches(count: int) -> list[float]:
    """Runs of ten rows each, one after another."""
    p = tm.Pipeline("many")

    @p.source
    def rows(batch: Any) -> Any:
        yield from ({"id": n, "batch": str(batch)} for n in range(10))

    return [timed(p.run, f"batch-{n}") for n in range(count)]


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench runs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, default=1000, help="length of the history")
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as folder:
        Path(folder, "tidemill.toml").write_text('[project]\nname = "bench"\n', encoding="utf-8")
        os.chdir(folder)
        os.environ["TIDEMILL_PROJECT"] = folder
        found["empty run"] = empty_runs(20)
        found["publish of five tables"] = publishes(20)
        found["upsert 100k into 1M"] = upserts(1_000_000, 4)[1:]  # the first one loads the engines
        history = batches(options.batches)
        found["batches 1 to 10"], found["last ten batches"] = history[:10], history[-10:]
        os.chdir("/")
    print(f"{'':<26} {'fastest':>8} {'median':>8} {'slowest':>8}   milliseconds")
    code = 0
    for name, times in found.items():
        most, median = LIMITS[name], statistics.median(times)
        says = verdict(median, most)
        code = 1 if says.startswith("OVER") else code
        print(f"{name:<26} {min(times):>8.1f} {median:>8.1f} {max(times):>8.1f}   {says}")
    keep("runs", about, found)
    return code


if __name__ == "__main__":
    sys.exit(main())
