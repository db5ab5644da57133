"""Partitions of assets: which keys runs have and tell, and for which keys the planner asks for runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from harness.driving import AtOnce, dag
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.planner import Planner
from tidemill.flow.scheduler import Scheduler
from tidemill.model.asset import TOLD
from tidemill.model.condition import Condition, Published
from tidemill.model.definition import Definition, Schedule, TaskInfo
from tidemill.model.graph import Node
from tidemill.model.instance import Report
from tidemill.model.partition import Mapper, Only, Rollup, Same, Spread, StartOf, Window
from tidemill.plan.schedule import parse_timetable
from tidemill.plan.values import dump_value
from tidemill.ports.executor import Job
from tidemill.testing.clock import ManualClock

MONTHS = Schedule(parse_timetable("0 0 1 * *"), key="%Y-%m-%d")


def pipeline(name: str, schedule: Schedule, *outlets: str, **options: Any) -> Definition:
    made: Definition = dag(name, Node("a"), tasks={"a": TaskInfo(outlets=outlets)}, schedule=schedule, **options)
    return made


def waiting(name: str, on: Condition, mapper: Mapper, *outlets: str, **own: Mapper) -> Definition:
    mappers = {asset: own.get(asset, mapper) for asset in on.assets()}
    return pipeline(name, Schedule(on=on, mappers=mappers), *outlets)


class Mill:
    """A planner, and a scheduler whose workers are done at once and say of their assets what `said` has."""

    def __init__(self, store: SqlMetadata, clock: ManualClock) -> None:
        self.store, self.clock, self.planner = store, clock, Planner(store, clock)
        self.said: dict[str, list[dict[str, Any]]] = {}

    def keep(self, *definitions: Definition) -> None:
        with self.store.write() as tx:
            for one in definitions:
                assert Definition.from_json(one.as_json()) == one
                tx.definitions.keep([one], "c0de", one.file, self.clock.now())

    def tell(self, asset: str, *keys: str) -> None:
        with self.store.write() as tx:
            tx.events.add("published", {"tables": [asset], "keys": {asset: list(keys)}}, self.clock.now())
        self.planner.turn()

    def go(self) -> None:
        """Ask for what is due, and let it end."""
        self.planner.turn()
        runs = SqlRunStore(self.store, self.clock, own_time=False)
        scheduler = Scheduler(runs, AtOnce(report=self._report), self.clock, runs.definition, "s")
        for _ in range(30):
            scheduler.turn()

    def _report(self, job: Job) -> Report:
        said = self.said.get(job.run.pipeline if job.run else "", [])
        return Report(xcoms=((TOLD, dump_value(said)),))

    def asked(self, name: str) -> list[tuple[str, str | None]]:
        """Keys and dates of a pipeline's runs, in the order in which they were asked for."""
        with self.store.read() as tx:
            found = [tx.runs.order(run.id) for run in reversed(tx.runs.recent(pipeline=name))]
        parts = [one.conf["partition"] for one in found if one is not None]
        return [(one["key"], (one["date"] or "")[:10] or None) for one in parts]


@pytest.fixture
def mill(store: SqlMetadata, clock: ManualClock) -> Mill:
    made = Mill(store, clock)
    clock.advance((datetime(2026, 4, 2, tzinfo=UTC) - clock.now()).total_seconds())
    return made


def test_keys_go_from_ticks_through_roll_ups_and_are_told_on(mill: Mill) -> None:
    """Months -> quarters -> years; one who waits for the asset itself is not begun by its partitions."""
    start = datetime(2025, 12, 1, tzinfo=UTC)
    quarters = Rollup(StartOf("quarter", read="%Y-%m-%d", write="%Y-Q{quarter}"), Window("quarter"))
    mill.keep(
        pipeline("months", MONTHS, "month", start=start, catchup=True, max_active_runs=9),
        waiting("quarters", Published("month"), quarters, "quarter"),
        waiting("early", Published("month"), Rollup(quarters.by, quarters.window, least=1)),
        waiting("same", Published("quarter"), Same()),
        pipeline("plain", Schedule(on=Published("month"))),
    )
    for _ in range(4):
        mill.go()
    assert mill.asked("quarters") == [("2026-Q1", "2026-01-01")], "April alone is no quarter"
    assert [key for key, _ in mill.asked("early")] == ["2026-Q1", "2026-Q1", "2026-Q1", "2026-Q2"]
    assert mill.asked("same") == [("2026-Q1", "2026-01-01")], "a key that is taken as it is keeps its date"
    assert mill.asked("plain") == []


def test_all_assets_are_needed_for_one_key(mill: Mill) -> None:
    hour = StartOf("hour", write="%Y-%m-%dT%H")
    mill.keep(
        waiting("both", Published("a") & Published("b"), hour),
        waiting("never", Published("a") & Published("b"), hour, b=StartOf("year", write="%Y")),
        waiting("some", Published("a"), Only(("eu",))),
    )
    mill.tell("a", "2026-01-15T06:00:00", "2026-01-15T07:00:00")
    mill.tell("b", "2026-01-15T07:30:00", "no time")
    assert mill.asked("both") == [("2026-01-15T07", "2026-01-15")]
    mill.tell("b", "2026-01-15T06:30:00")
    assert [key for key, _ in mill.asked("both")] == ["2026-01-15T07", "2026-01-15T06"]
    mill.tell("b", "2026-01-15T06:31:00")
    assert len(mill.asked("both")) == 2, "what is told again waits for the others again"
    mill.tell("a", "2026-01-15T06:01:00")
    assert len(mill.asked("both")) == 3
    assert mill.asked("never") == []
    assert mill.asked("some") == []


def test_tasks_say_keys_and_one_key_is_spread_over_many_runs(mill: Mill) -> None:
    mill.said["lives"] = [{"asset": "live", "keys": ["eu", "us", "eu"]}]
    scattered = Spread(Same(), Window(segments=("x", "y")), Same())
    mill.keep(
        pipeline("lives", Schedule(parse_timetable("@daily")), "live"),
        waiting("each", Published("live"), Same()),
        waiting("scattered", Published("live"), scattered),
        waiting("regions", Published("live"), Rollup(Only(("eu", "us")), Window(segments=("eu",)))),
    )
    mill.go()
    mill.go()
    assert mill.asked("each") == [("eu", None), ("us", None)]
    assert sorted(mill.asked("scattered")) == [("x", None), ("y", None)], "of one publish once"
    assert ("eu", None) in mill.asked("regions")
