"""What pages and API take: time of each route over a million runs, reads a second, event streams, what a browser shows.

    ./run bench web [--runs 1000000] [--only routes,reads,streams,browser] [--postgresql] [--folder F]

- *routes*: every page and every read of the API, the slowest of five after one to warm up, in milliseconds.
- *reads*: the reads that pages make, in turn, over eight connections; without and with the tags of known answers.
- *streams*: 200 open event streams while nothing happens: share of a core over 20 s, and memory.
- *browser*: Chromium without a window, drawing in software: the first page, a grid, a graph, a log.

The project is made first: real runs for its tables, and a history of `--runs` rows ([web_store.py](web_store.py)); with
`--folder` it is kept there, and used again. `--postgresql` keeps its metadata in a server that is started for it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import measure
from figures import keep
from web_reads import Server, reads_a_second, serving, streams_at_rest, times_of
from web_store import fill, log_of, make_log, make_project

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

#: Milliseconds that a route may take.
ROUTE = 200
TIMES = 5

#: What is asked for, in words of the project: `{run}` a run in the middle, `{wide}` one with 900 tasks.
ROUTES = (
    "/", "/pipelines", "/pipelines?search=p1", "/pipelines/p150", "/pipelines/rare", "/pipelines/wide",
    "/pipelines/p150?run={run}&view=gantt", "/pipelines/p150?view=runs", "/pipelines/p150?view=code", "/runs",
    "/runs?state=failed", "/runs?pipeline=rare", "/runs?pipeline=p150&state=failed", "/runs?kind=scheduled",
    "/runs?since=2026-11-01&until=2026-11-02", "/lineage", "/data", "/data/shop.latest",
    "/data/shop.latest?view=versions", "/data/shop.latest?view=batches", "/data/shop.latest?view=checks",
    "/data/shop.latest?view=failing", "/data/shop.latest?view=schema", "/batches/{run}", "/branches",
    "/branches/{branch}", "/streams", "/quality", "/quality?table=shop.latest&name=price_is_low",
    *(f"/api/v1/{path}" for path in (
        "pipelines", "pipelines?limit=500", "pipelines/p150", "pipelines/p150/graph", "pipelines/large/graph",
        "pipelines/p150/grid", "pipelines/rare/grid", "pipelines/wide/grid?limit=25", "pipelines/p150/next", "runs",
        "runs?limit=500", "runs?state=failed&limit=500", "runs?state=running,publishing", "runs?state=failed,success",
        "runs?pipeline=rare", "runs?pipeline=p150,p151,rare", "runs?pipeline=p150&state=failed", "runs?kind=backfill",
        "runs?until=2025-01-02T00:00:00Z", "runs?until=2025-06-01T00:00:00Z",
        "runs?since=2026-11-01T00:00:00Z&until=2026-11-02T00:00:00Z",
        "runs?cursor={early}", "runs/{run}", "runs/{wide}", "runs/{run}/logs?task=load",
        "runs/{run}/logs/lines?task=load&text=nowhere", "backfills", "batches", "batches?limit=500",
        "batches?pipeline=rare", "batches/{run}", "tables", "tables/shop.latest", "tables/shop.latest/versions",
        "tables/shop.latest/rows", "tables/shop.latest/failing", "checks", "checks?limit=500",
        "checks?table=shop.latest&name=price_is_low", "branches", "branches/{branch}/diff", "branches/{branch}/gates",
        "streams", "throughput", "connections", "search?q=p1", "search?q=node_0500",
    )),
    "/metrics", "/ready",
)  # fmt: skip

#: The reads that open pages make again and again.
READS = (
    "/api/v1/pipelines/p150/grid?limit=25", "/api/v1/runs?limit=50", "/api/v1/runs/{run}",
    "/api/v1/pipelines/p150/graph?run={run}", "/api/v1/runs?pipeline=p150&limit=25", "/api/v1/runs?state=failed",
    "/api/v1/search?q=p15", "/api/v1/batches/{run}", "/api/v1/checks?limit=50", "/api/v1/branches",
)  # fmt: skip


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench web", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1_000_000, help="of the history")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--postgresql", action="store_true", help="metadata in PostgreSQL instead of SQLite")
    parser.add_argument("--folder", type=Path, help="where the project is kept")
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    found: dict[str, Any] = {"runs": options.runs, "metadata": "postgresql" if options.postgresql else "sqlite"}
    missed: list[str] = []
    kept = nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory(prefix="tidemill-bench-")
    with kept as folder, _database(options.postgresql) as url:
        names = prepared(Path(folder), url, options.runs)
        with serving(Path(folder)) as server:
            for part in options.only.split(","):
                figures, told = PARTS[part](server, names)
                found[part] = figures
                missed += told
    for text in missed:
        print(f"missed: {text}")
    keep("web", about, found)
    return 1 if missed else 0


@contextmanager
def _database(postgresql: bool) -> Iterator[str | None]:
    if not postgresql:
        yield None
        return
    from harness.postgres import running

    with running() as server:
        yield server.new_database()


def prepared(folder: Path, url: str | None, count: int) -> dict[str, str]:
    """A project in a folder, unless it is there already; the names that addresses have."""
    from tidemill.web.paging import cursor_of
    from tidemill.wiring.services import open_metadata, system_clock
    from tidemill.wiring.settings import load_settings

    if url is not None or not (folder / "filled").exists():
        settings = make_project(folder, url)
        fill(settings, count)
        (folder / "filled").touch()
    metadata = open_metadata(load_settings(folder), system_clock())
    try:
        with metadata.read() as tx:
            (ref,) = [one for one in tx.refs.all() if one.name == "look"][:1]
            newest = tx.runs.listed(limit=1)[0].run.id
            run = next(
                one.run.id for one in tx.runs.listed(before=newest - count // 2, limit=200) if one.pipeline == "p150"
            )
            wide = tx.runs.listed(pipelines=["wide"], limit=1)[0].run.id
    finally:
        metadata.close()
    if not log_of(load_settings(folder), run).exists():
        make_log(load_settings(folder), run)
    return {
        "folder": str(folder),
        "log": str(log_of(load_settings(folder), run)),
        "branch": quote(ref.name, safe=""),
        "run": str(run),
        "wide": str(wide),
        "early": cursor_of(newest - count + 500),
    }


Part = tuple[Any, list[str]]


def routes(server: Server, names: dict[str, str]) -> Part:
    """The slowest of some requests of each, before each of which something is committed."""
    stir = _stirring(Path(names["folder"]))
    found, missed = [], []
    for route in ROUTES:
        path = route.format(**names)
        times: list[float] = []
        for attempt in range(TIMES + 1):
            stir()  # or a kept answer would be measured
            some, status, length = times_of(server, path, 1)
            times += some if attempt else []
        found.append(
            {"path": route, "worst_ms": max(times), "fastest_ms": min(times), "status": status, "bytes": length}
        )
        said = "" if max(times) <= ROUTE else f"OVER {ROUTE}"
        print(f"{route:<72} {min(times):>8.1f} {max(times):>8.1f} ms {length:>9,} bytes  {said}", flush=True)
        if status != 200:
            missed.append(f"{route} answered {status}")
        if said:
            missed.append(f"{route}: {max(times):.0f} ms, wanted {ROUTE}")
    return found, missed


def _stirring(folder: Path) -> Callable[[], None]:
    """Commits something that no answer tells of."""
    from tidemill.wiring.services import open_metadata, system_clock
    from tidemill.wiring.settings import load_settings

    metadata = open_metadata(load_settings(folder), system_clock())
    slots = itertools.count(1)

    def stir() -> None:
        with metadata.write() as tx:
            tx.runs.pools({"bench": next(slots)})

    return stir


def reads(server: Server, names: dict[str, str]) -> Part:
    """Reads a second."""
    paths = [path.format(**names) for path in READS]
    found, missed = {}, []
    for name, tags in (("whole answers", False), ("known answers (304)", True)):
        reads_a_second(server, paths, 1, tags=tags)
        figures = found[name] = reads_a_second(server, paths, 10, tags=tags)
        print(
            f"{name:<20} {figures['reads_a_second']:>8.0f} reads/s, {figures['server_us_a_read']:.0f} us of the"
            f" server's processor a read; server {figures['server_cpu']:.0%}, client"
            f" {figures['client_cpu']:.0%} of a core"
        )
        if figures["reads_a_second"] < 1500:
            missed.append(f"{name}: {figures['reads_a_second']:.0f} reads/s, wanted 1500")
    return found, missed


def streams(server: Server, _names: dict[str, str]) -> Part:
    """Open event streams."""
    found = streams_at_rest(server, 200, 20)
    print(f"200 event streams: {found['core']:.1%} of a core, {found['memory_mb']:.0f} MB")
    missed = [f"200 event streams: {found['core']:.1%} of a core"] if found["core"] >= 0.1 else []
    missed += [f"200 event streams: {found['memory_mb']:.0f} MB"] if found["memory_mb"] >= 150 else []
    return found, missed


def browser(server: Server, names: dict[str, str]) -> Part:
    """What a browser shows; see `web_browser.py`."""
    from web_browser import shown

    return shown(server, names)


PARTS: dict[str, Callable[[Server, dict[str, str]], Part]] = {
    "streams": streams, "routes": routes, "reads": reads, "browser": browser,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
