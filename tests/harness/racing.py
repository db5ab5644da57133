"""What runs in processes of its own while others kill it, or race with it.

Functions that take a `Connection` say "ready" through it, or are told through it to stop; each leaves its findings
in a file. The oracles are plain Python and never ask Tidemill.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from sqlalchemy.exc import OperationalError

from harness import crashing
from harness.crashing import guarded
from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.maintain import vacuum
from tidemill.flow.query import query, reading
from tidemill.model.batch import BatchState
from tidemill.model.branch import MAIN
from tidemill.model.errors import Conflict
from tidemill.model.table import TableName

NOTHING = timedelta(0)
#: How often a reader looks, in seconds.
LOOK_EVERY = 0.02

_FACTS, _SUMMARY = TableName("shop", "facts"), TableName("shop", "summary")
_BOTH = """
    select f.n as n, f.total as total, s.n as summed_n, s.total as summed_total
    from (select count(*) as n, sum(amount) as total from shop.facts) f cross join shop.summary s
"""


def check_log(project: Project) -> None:
    """The log of `main` counts 1, 2, 3 ... up to its head, whatever died or lost in between."""
    with project.services.metadata.read() as tx:
        main = tx.refs.get(MAIN)
        numbers = [c.seq for c in tx.refs.commits(MAIN)]
    assert main is not None
    assert numbers == list(range(main.head, 0, -1)), f"the log of main has gaps: {numbers}"


def backfill(root: Path, days: list[str], ready: Connection, report: Path) -> None:
    """Run the days that are not published yet, as the leader of a process group that may be killed at any moment.

    It first collects garbage without any grace: what a reader needs must survive that. The report holds the seconds
    before the first run, and those of each run.
    """
    began = time.monotonic()
    os.setpgid(0, 0)
    ready.send("ready")

    def work() -> None:
        project = Project(root)
        p = crashing.declare(project)
        vacuum(project.services, grace=NOTHING, keep=NOTHING)
        with project.services.metadata.read() as tx:
            done = {b.key.interval.ds for b in tx.batches.recent("shop", state=BatchState.PUBLISHED) if b.key.interval}
        seconds = [time.monotonic() - began]
        for day in days:
            if day not in done:
                ended = project.run(p, day)
                assert ended.ok, f"{day}: {ended.error}"
                seconds.append(ended.seconds)
        report.write_text(json.dumps(seconds), encoding="utf-8")

    guarded(work, report)


def compare(root: Path, stop: Connection, report: Path) -> None:
    """Read a fact table and its aggregate by one query, every 20 ms until told to stop; note each difference.

    A read that takes longer is followed by the next one at once.
    """

    def work() -> None:
        project = Project(root)
        reads, states = 0, set()
        began = time.monotonic()
        while not stop.poll(max(0.0, began + LOOK_EVERY - time.monotonic())):
            began = time.monotonic()
            with reading(project.services) as seen:
                assert (_FACTS in seen.pointers) == (_SUMMARY in seen.pointers), "one table without the other"
                if _FACTS not in seen.pointers:
                    continue
                with query(project.services, _BOTH, seen) as reader:
                    (row,) = reader.read_all().to_pylist()
            assert (row["n"], row["total"]) == (row["summed_n"], row["summed_total"]), f"read {reads}: {row}"
            reads += 1
            states.add(row["n"])
        report.write_text(json.dumps({"reads": reads, "states": sorted(states)}), encoding="utf-8")

    guarded(work, report)


def verify(root: Path, days: list[str], report: Path) -> None:
    """After a whole backfill: all tables as the oracle has them, a log without gaps, and no file that nobody needs."""

    def work() -> None:
        project = Project(root)
        crashing.check_whole(project, days)
        check_log(project)
        crashing.check_no_orphans(project)
        crashing.check_whole(project, days)

    guarded(work, report)


# -- processes that race with each other and with plain PyIceberg --------------------------------------------

RACED = [f"2026-01-{d:02d}" for d in range(1, 13)]
#: Days whose run fails after some of its tables have been written.
BROKEN = {"2026-01-06", "2026-01-12"}
TABLES = ("orders", "facts", "latest", "places", "summary")

BRONZE = ("shop", "orders")

Row = dict[str, Any]


def rows_of(day: str, version: int = 0) -> list[Row]:
    """The source's rows of a day: keys come again on other days, and some days bring columns of their own."""
    number = int(day[-2:])
    extra: Row = {"colour": f"c{number}"} if number % 3 == 1 else {}
    extra |= {"weight": number + 0.5} if number % 5 == 2 else {}
    keys = range(number % 4, number % 4 + 5)
    return [{"id": k, "place": f"p{(k + number // 2) % 3}", "amount": k * 10 + number + version, **extra} for k in keys]


def declare_raced(project: Project) -> Pipeline:
    """A bronze table, an appended one, an upsert, a history and a replaced aggregate; `BROKEN` days fail."""
    p = project.pipeline("shop")

    @p.source
    def orders(interval: Any) -> Iterator[Row]:
        yield from rows_of(interval.ds)

    @p.table(key="id", write="upsert")
    def latest(orders: Any) -> Any:
        return orders

    @p.table(key="id", write="history")
    def places(orders: Any) -> Any:
        return orders.select("id", "place")

    @p.table
    def facts(orders: Any, interval: Any) -> Any:
        if interval.ds in BROKEN:
            raise RuntimeError(interval.ds)
        return orders.select("id", "amount")

    p.sql(text="select count(*) as n, sum(amount) as total from {{ ref('facts') }}", name="summary")
    return p


def raced_tables(days: Iterable[str], plain: Iterable[int]) -> dict[str, list[str]]:
    """What the tables hold once `days` are published, in any order, and `plain` was appended by PyIceberg."""
    rows: list[Row] = []
    latest: dict[int, Row] = {}
    versions: dict[int, list[Row]] = {}
    for day in sorted(days):
        end = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
        for row in rows_of(day):
            rows.append(row)
            latest[row["id"]] = row
            known = versions.setdefault(row["id"], [])
            if not known or known[-1]["place"] != row["place"]:
                if known:
                    known[-1] |= {"valid_to": end, "is_current": False}
                known.append({"id": row["id"], "place": row["place"], "valid_from": end, "is_current": True})
    facts = [{"id": row["id"], "amount": row["amount"]} for row in rows]
    found = {
        "orders": [*rows, *(plain_row(number) for number in plain)],
        "facts": facts,
        "latest": latest.values(),
        "places": [version for all_ in versions.values() for version in all_],
        "summary": [{"n": len(facts), "total": sum(f["amount"] for f in facts)}],
    }
    return {name: comparable(rows) for name, rows in found.items()}


def plain_row(number: int) -> Row:
    """A row that PyIceberg appends: its key is no batch's."""
    return {"id": -number, "place": "plain", "amount": number}


def comparable(rows: Iterable[Row]) -> list[str]:
    """Rows in one order, without nulls: a column that came later counts as absent from earlier rows."""
    return sorted(repr(sorted((k, _plainly(v)) for k, v in row.items() if v is not None)) for row in rows)


def _plainly(value: object) -> object:
    """Times as text: libraries have different objects for the same zone."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def tables_of(project: Project, names: Iterable[str] = TABLES) -> dict[str, list[str]]:
    """What readers of `main` see."""
    return {name: comparable(project.rows(f"select * from shop.{name}")) for name in names}


def plain_catalog(project: Project) -> SqlCatalog:
    """Main as any tool with PyIceberg opens it."""
    database = project.root / project.settings.metadata_url.removeprefix("sqlite:///")
    return SqlCatalog("test", uri=f"sqlite:///{database}", warehouse=str(project.root / project.settings.lake_url))


def append_plain(catalog: SqlCatalog, number: int) -> None:
    """Append one row to the bronze table, past Tidemill."""
    catalog.load_table(BRONZE).append(pa.Table.from_pylist([plain_row(number)]))


def race(root: Path, seed: int, count: int, report: Path) -> None:
    """Run `count` random days one after another; note of each what became of it."""

    def work() -> None:
        project = Project(root)
        p = declare_raced(project)
        rng = random.Random(seed)
        told = []
        for day in rng.choices(RACED, k=count):
            try:
                ended = project.run(p, day)
            except Conflict as conflict:
                told.append({"day": day, "ended": type(conflict).__name__, "attempt": 0, "run": None})
            else:
                how = "ok" if ended.ok else type(ended.error).__name__
                told.append({"day": day, "ended": how, "attempt": ended.run.attempt, "run": ended.run.id})
        report.write_text(json.dumps(told), encoding="utf-8")

    guarded(work, report)


def keep_appending(root: Path, stop: Connection, report: Path) -> None:
    """Append to `main` with plain PyIceberg until told to stop; a row whose commit failed is given again.

    It appends after each time that somebody else has moved the table: appends in a close row would starve runs that
    bring new columns, which start again where the head has moved and hold no ticket that PyIceberg knows of.
    """

    def work() -> None:
        catalog = plain_catalog(Project(root))
        acknowledged, lost, last = 0, 0, ""
        while not stop.poll(LOOK_EVERY):
            if catalog.load_table(BRONZE).metadata_location == last:
                continue
            try:
                append_plain(catalog, acknowledged + 1)
            except (CommitFailedException, OperationalError):
                lost += 1
            else:
                acknowledged += 1
                last = catalog.load_table(BRONZE).metadata_location
        report.write_text(json.dumps({"acknowledged": acknowledged, "lost": lost}), encoding="utf-8")

    guarded(work, report)


def verify_race(root: Path, days: list[str], runs: list[int], plain: int, report: Path) -> None:
    """After the race: exactly the acknowledged writes are there, each published once, and no file that nobody needs."""

    def work() -> None:
        project = Project(root)
        for _ in range(2):  # before and after the collector
            wanted, seen = raced_tables(days, range(1, plain + 1)), tables_of(project)
            for name in TABLES:
                more, less = (Counter(a) - Counter(b) for a, b in permutations((seen[name], wanted[name])))
                assert not more + less, f"{name} after {days} has {more} and not {less}"
            check_log(project)
            with project.services.metadata.read() as tx:
                published = sorted(c.run_id or 0 for c in tx.refs.commits(MAIN))
            assert published == sorted(runs), "each acknowledged run has one entry in the log, and nobody else has"
            crashing.check_no_orphans(project)

    guarded(work, report)
