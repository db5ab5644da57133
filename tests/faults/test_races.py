"""Races on one project: every acknowledged write is there, and every other was reported as a conflict.

A stress test with eight processes and plain PyIceberg beside them; a model test with every interleaving in one.
TIDEMILL_RACE_SEED repeats the choices of an earlier stress, TIDEMILL_RACE_RUNS sets how many runs each process does.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import forking, racing, services
from harness.examples import few
from harness.project import Project
from tidemill.flow.branches import revert_batch
from tidemill.flow.maintain import vacuum
from tidemill.model.errors import Busy

SEED = int(os.environ.get("TIDEMILL_RACE_SEED", random.randrange(1 << 32)))
PROCESSES = 8
RUNS = int(os.environ.get("TIDEMILL_RACE_RUNS", "2"))
#: What a run may be told; a day that is broken by design fails with its own error.
REPORTED = {"ok", "Busy", "Conflict", "PublishConflict", "Fenced"}


def ended(child: BaseProcess, report: Path) -> str:
    child.join(forking.PATIENCE)
    told = report.read_text(encoding="utf-8") if report.exists() else "no report"
    assert child.exitcode == 0, f"seed {SEED}: {told}"
    return told


@pytest.mark.slow
def test_eight_processes_and_plain_pyiceberg_lose_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root, reports = tmp_path / "project", [tmp_path / f"{n}.json" for n in range(PROCESSES)]
    first = tmp_path / "first.json"
    seed = next(s for s in range(100) if random.Random(s).choices(racing.RACED)[0] not in racing.BROKEN)
    told = json.loads(ended(forking.started(racing.race, root, seed, 1, first), first))
    stop, tell = forking.pipe()
    plain = forking.started(racing.keep_appending, root, stop, tmp_path / "plain.json")
    racers = [forking.started(racing.race, root, SEED + n, RUNS, report) for n, report in enumerate(reports)]
    for racer, report in zip(racers, reports, strict=True):
        told += json.loads(ended(racer, report))
    tell.send("stop")
    appended = json.loads(ended(plain, tmp_path / "plain.json"))
    outcomes = Counter(t["ended"] for t in told)
    retried = sum(t["attempt"] > 1 for t in told)
    services.tell(request, f"races: seed {SEED}: {dict(outcomes)}, {retried} on a later attempt; PyIceberg {appended}")
    for t in told:
        broken = t["day"] in racing.BROKEN
        assert t["ended"] in (REPORTED - {"ok"} | {"RuntimeError"} if broken else REPORTED), f"seed {SEED}: {t}"
    good = [t for t in told if t["ended"] == "ok"]
    days, runs = sorted({t["day"] for t in good}), [t["run"] for t in good]
    judge = tmp_path / "judge.txt"
    ended(forking.started(racing.verify_race, root, days, runs, appended["acknowledged"], judge), judge)
    assert len(good) > 1
    assert appended["acknowledged"] > 1


def test_rows_of_plain_pyiceberg_do_not_make_appends_conflict(tmp_path: Path) -> None:
    """They belong to no batch, so no batch rewrites their files: a publish that meets more of them is a rebase."""
    project = Project(tmp_path)
    p = project.pipeline("shop")
    catalog = racing.plain_catalog(project)

    @p.source
    def orders(interval: Any) -> Any:
        yield {"id": int(interval.ds[-2:]), "place": "p", "amount": 1}

    @p.table
    def after(orders: Any) -> Any:
        if during:
            racing.append_plain(catalog, during.pop())
        return orders

    during: list[int] = []
    assert project.run(p, "2026-01-01").ok
    racing.append_plain(catalog, 1)
    during.append(2)
    report = project.run(p, "2026-01-02")
    assert report.ok
    assert report.run.attempt == 1
    assert [r["id"] for r in project.rows("select id from shop.orders order by id")] == [-2, -1, 1, 2]
    catalog.close()
    project.close()


def test_a_reverted_batch_that_replaced_a_table_twice_gives_back_what_another_put_there_in_between(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path)
    p = project.pipeline("shop")

    @p.source
    def orders(interval: Any) -> Any:
        yield {"day": "d" + interval.ds[-2:]}

    @p.table(write="replace")
    def newest(orders: Any) -> Any:
        return orders

    first = project.run(p, "2026-01-01")
    for day in ("2026-01-02", "2026-01-01", "2026-01-01"):
        assert project.run(p, day).ok
    assert project.table("shop.newest") == [("d01",)]
    revert_batch(project.services, first.batch.id)
    assert project.table("shop.newest") == [("d02",)]
    project.close()


def test_a_revert_never_brings_back_what_was_reverted(tmp_path: Path) -> None:
    project = Project(tmp_path)
    p = project.pipeline("shop")

    @p.source
    def orders(interval: Any) -> Any:
        yield {"day": "d" + interval.ds[-2:]}

    @p.table(write="replace")
    def newest(orders: Any) -> Any:
        return orders

    first, second, again = (project.run(p, f"2026-01-0{day}") for day in (1, 2, 1))
    revert_batch(project.services, second.batch.id)
    assert project.table("shop.newest") == [("d01",)], "what a later run put there stays"
    revert_batch(project.services, first.batch.id)
    assert project.table("shop.newest") == [], "the second day stood there before, and is reverted"
    assert again.ok
    project.close()


#: One thing to do: run a day, let a run of it fail, revert it, append by PyIceberg, collect garbage.
ACTIONS = ("run", "run", "fail", "revert", "plain", "vacuum")
ACTION = st.tuples(st.sampled_from(ACTIONS), st.sampled_from(racing.RACED[:4]))
NOTHING = timedelta(0)


@dataclass
class Running:
    """A run that is under way: what its source gives, and what happens in the middle of it."""

    day: str
    version: int
    fails: bool
    meanwhile: tuple[str, str] | None


class World:
    """A project, and in a dict what its `main` must hold."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.catalog = racing.plain_catalog(self.project)
        #: Published days, each with the version of its source that was extracted.
        self.days: dict[str, int] = {}
        self.plain: list[int] = []
        self.batches: dict[str, int] = {}
        self.running: list[Running] = []
        self.versions = 0
        self.pipeline = p = self.project.pipeline("shop")

        @p.source
        def orders(interval: Any) -> Any:
            yield from racing.rows_of(interval.ds, self.running[-1].version)

        @p.table(key="id", write="upsert")
        def latest(orders: Any) -> Any:
            return orders

        @p.table
        def facts(latest: Any, orders: Any) -> Any:
            run = self.running[-1]
            meanwhile, run.meanwhile = run.meanwhile, None
            if meanwhile is not None:
                self.do(*meanwhile)
                self.check()
            if run.fails:
                raise RuntimeError(run.day)
            return orders.select("id", "amount")

    def close(self) -> None:
        self.catalog.close()
        self.project.close()

    def do(self, action: str, day: str, meanwhile: tuple[str, str] | None = None) -> None:
        if action in ("run", "fail"):
            self.run(day, fails=action == "fail", meanwhile=meanwhile)
        elif action == "revert":
            self.revert(day)
        elif action == "vacuum":
            vacuum(self.project.services, grace=NOTHING, keep=NOTHING)
        elif "shop.orders" in self.project.tables():
            self.plain.append(len(self.plain) + 1)
            racing.append_plain(self.catalog, self.plain[-1])

    def run(self, day: str, *, fails: bool, meanwhile: tuple[str, str] | None) -> None:
        """Run a day whose source gives other rows than ever before."""
        self.versions += 1
        run = Running(day, self.versions, fails, meanwhile)
        busy = any(r.day == day for r in self.running)
        self.running.append(run)
        try:
            report = self.project.run(self.pipeline, day, refetch=True)
        except Busy:
            assert busy
            return
        finally:
            self.running.remove(run)
        assert not busy
        assert report.ok is not fails, report.error
        assert fails is isinstance(report.error, RuntimeError)
        if report.ok:
            self.days[day], self.batches[day] = run.version, report.batch.id

    def revert(self, day: str) -> None:
        if day not in self.days:
            return
        if any(r.day == day for r in self.running):
            with pytest.raises(Busy):
                revert_batch(self.project.services, self.batches[day])
            return
        revert_batch(self.project.services, self.batches[day])
        del self.days[day]

    def check(self) -> None:
        """`main` holds what the dict says, on every table."""
        found = [racing.rows_of(day, self.days[day]) for day in sorted(self.days)]
        rows = [row for day in found for row in day]
        if not self.project.tables():
            assert not rows
            return
        seen = racing.tables_of(self.project, ("orders", "latest", "facts"))
        assert seen["orders"] == racing.comparable([*rows, *map(racing.plain_row, self.plain)])
        assert seen["latest"] == racing.comparable({row["id"]: row for row in rows}.values())
        assert seen["facts"] == racing.comparable({"id": row["id"], "amount": row["amount"]} for row in rows)
        racing.check_log(self.project)


@pytest.mark.slow
@settings(max_examples=few(12), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(ACTION, st.none() | ACTION), min_size=2, max_size=5))
def test_main_is_what_a_dict_would_be_whatever_happens_in_the_middle_of_runs(
    steps: list[tuple[tuple[str, str], tuple[str, str] | None]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        for action, meanwhile in steps:
            world.do(*action, meanwhile)
            world.check()
        world.close()
