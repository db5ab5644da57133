"""A pipeline with every write mode, run in processes that die; and what its tables must hold, in plain Python.

The oracle reads the feed files with `csv` and applies the write modes by loops: it never asks Tidemill.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import Connection, Engine, event

from harness.project import Project, without_system_columns
from harness.s3keys import KEY, SECRET
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.branches import drop_branch
from tidemill.flow.maintain import vacuum
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.testing.clock import ManualClock
from tidemill.testing.faults import FaultPoints

DAYS = [f"2026-01-{d:02d}" for d in range(1, 11)]
#: Which table is written by which mode.
WRITES = {"bronze": "orders", "append": "facts", "upsert": "latest", "history": "places", "replace": "summary"}
TABLES = ("orders", "latest", "places", "facts", "summary", "shown")


def write_feeds(root: Path, days: list[str]) -> None:
    """Feed files: keys come again on other days with other values, one row a day has no key and one no number."""
    folder = root / "feeds"
    folder.mkdir(parents=True, exist_ok=True)
    for at, day in enumerate(days):
        lines = ["id,place,amount"]
        lines += [f"{key},p{(key + at // 2) % 3},{key * 10 + at}" for key in range(at, at + 6)]
        lines.append(f",p0,{at}")
        (folder / f"{day}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def declare(project: Project) -> Pipeline:
    """Bronze by append; an upsert, a history, a replaced aggregate, an appended one, a view."""
    p = project.pipeline("shop")
    p.files("feeds/{{ ds }}.csv", name="orders", columns={"id": "long", "place": "string", "amount": "long"})

    @p.table(key="id", write="upsert")
    def latest(orders: Any) -> Any:
        return orders

    @p.table(key="id", write="history")
    def places(orders: Any) -> Any:
        return orders.filter(pl.col("id").is_not_null()).select("id", "place")

    @p.table(write="append")
    def facts(orders: Any) -> Any:
        return orders.select("id", "amount")

    p.sql(text="select count(*) as n, sum(amount) as total from {{ ref('facts') }}", name="summary")
    p.sql(text="select n from {{ ref('summary') }}", name="shown", materialized="view")
    return p


def feed(root: Path, day: str) -> list[tuple[int | None, str, int]]:
    """The rows of a day, read from the file."""
    with (root / "feeds" / f"{day}.csv").open(encoding="utf-8", newline="") as lines:
        return [(int(r["id"]) if r["id"] else None, r["place"], int(r["amount"])) for r in csv.DictReader(lines)]


def expected(root: Path, days: list[str]) -> dict[str, list[tuple[Any, ...]]]:
    """What the tables hold after `days`, in any order of runs."""
    orders: list[tuple[Any, ...]] = []
    latest: dict[int, tuple[Any, ...]] = {}
    versions: dict[int, list[list[Any]]] = {}
    for day in sorted(days):
        end = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
        for key, place, amount in feed(root, day):
            orders.append((key, place, amount))
            if key is None:
                continue
            latest[key] = (key, place, amount)
            known = versions.setdefault(key, [])
            if not known or known[-1][1] != place:
                if known:
                    known[-1][3] = end
                known.append([key, place, end, None])
    total = sum(amount for _, _, amount in orders)
    return {
        "orders": _sorted(orders),
        "latest": _sorted(latest.values()),
        "places": _sorted((*v, v[3] is None) for all_ in versions.values() for v in all_),
        "facts": _sorted((key, amount) for key, _, amount in orders),
        "summary": [(len(orders), total)] if orders else [],
        "shown": [(len(orders),)] if orders else [],
    }


def _sorted(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(r) for r in rows), key=repr)


def found(project: Project) -> dict[str, list[tuple[Any, ...]]]:
    """What readers of `main` see: all tables by one query, as a query for each would cost 30 ms."""
    if not project.tables():
        return {name: [] for name in TABLES}
    rows = project.rows("select " + ", ".join(f"(select list(t) from shop.{name} t) as {name}" for name in TABLES))
    return {
        name: _sorted(tuple(without_system_columns(row).values()) for row in listed or [])
        for name, listed in rows[0].items()
    }


def check_whole(project: Project, days: list[str]) -> None:
    """`main` holds exactly `days`, on every table."""
    wanted = expected(project.root, days)
    seen = found(project)
    for name, rows in wanted.items():
        assert seen[name] == rows, f"{name} after {days}: {seen[name]} instead of {rows}"


def check_no_orphans(project: Project) -> None:
    """After the collector, the lake holds what `main` needs and nothing else; so does the archive."""
    services = project.services
    if "://" in project.settings.lake_url:  # stores tell whole seconds, and a file counts as stored at their end
        services = replace(services, clock=ManualClock(services.clock.now() + timedelta(seconds=2)))
    with services.metadata.read() as tx:
        left = tx.refs.all(kinds=[RefKind.RUN], states=[RefState.OPEN, RefState.FAILED])
    for ref in left:
        drop_branch(services, ref.name)
    vacuum(services, grace=timedelta(0), keep=timedelta(0))
    with services.metadata.read() as tx:
        needed = services.catalog.reachable(tx.refs.pointers(MAIN).items())
        parts = {p.path for m in tx.archive.recent() for p in m.parts}
    kept = {f.path for f in services.lake.list()}
    assert kept == needed, f"orphans {kept - needed}, missing {needed - kept}"
    archived = {f.path for f in services.archive.files.list() if not f.path.endswith(".json")}
    assert archived == parts, f"archive orphans {archived - parts}"


# -- what runs in processes of its own -----------------------------------------------------------------------


def guarded(work: Callable[[], None], report: Path) -> None:
    """Run in a child: note what went wrong, and leave without any clean-up of the interpreter's."""
    code = 0
    # What forks this process was begun before the test said who it is.
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    try:
        work()
    except BaseException:
        import traceback

        report.write_text(traceback.format_exc(), encoding="utf-8")
        code = 1
    os._exit(code)


def run_days(root: Path, days: list[str], report: Path, at: int | None = None) -> None:
    """Run `days`; with `at` die at that fault point, counted from the first run on."""

    def work() -> None:
        points = FaultPoints(at)
        project = Project(root, wrap_files=points.files, wrap_metadata=points.metadata)
        p = declare(project)
        for day in days:
            assert project.run(p, day).ok
        report.write_text("\n".join(points.passed), encoding="utf-8")

    guarded(work, report)


def run_watched(root: Path, day: str, report: Path) -> None:
    """Run `day`; note the fault points that it passed, and what it did as the disk and the SQL driver saw it."""

    def work() -> None:
        points = FaultPoints()
        project = Project(root, wrap_files=points.files, wrap_metadata=points.metadata)
        p = declare(project)
        project.tables()  # opens the store: a new one is migrated, which is no effect of a run
        before, sql = _files(root), _WatchedSql()
        assert project.run(p, day).ok
        after = _files(root)
        seen = {
            "made": [path for path, state in after.items() if before.get(path) != state],
            "gone": sorted(before.keys() - after.keys()),
            "commits": sql.commits,
            "loose": sql.loose,
        }
        report.write_text(json.dumps({"passed": points.passed, **seen}), encoding="utf-8")

    guarded(work, report)


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """All files below a project's folder but the database; each with what tells that it was written again."""
    files = [f for f in root.rglob("*") if f.is_file() and not f.name.startswith("tidemill.db")]
    return {str(f.relative_to(root)): (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


class _WatchedSql:
    """What every engine in this process is told from now on, PyIceberg's included."""

    def __init__(self) -> None:
        #: Write transactions that were committed.
        self.commits = 0
        #: Statements that write outside of such a transaction.
        self.loose: list[str] = []
        self._writing: set[int] = set()
        event.listen(Engine, "before_cursor_execute", self._executes)
        event.listen(Engine, "commit", self._commits)

    def _executes(self, connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        if statement == "BEGIN IMMEDIATE":
            self._writing.add(id(connection))
        elif id(connection) not in self._writing and not statement.startswith(("SELECT", "WITH", "BEGIN", "PRAGMA")):
            self.loose.append(statement)

    def _commits(self, connection: Connection) -> None:
        if id(connection) in self._writing:
            self._writing.remove(id(connection))
            self.commits += 1


def recover(root: Path, before: list[str], day: str, report: Path) -> None:
    """After a death: readers see the old or the new state whole; running again gives the new one, and the collector
    leaves that and nothing else.
    """

    def work() -> None:
        project = Project(root)
        p = declare(project)
        with project.services.metadata.read() as tx:
            published = any(c.batch_id == len(before) + 1 for c in tx.refs.commits(MAIN))
        check_whole(project, [*before, day] if published else before)
        done = project.run(p, day)
        assert done.ok, done
        check_no_orphans(project)
        check_whole(project, [*before, day])

    guarded(work, report)
