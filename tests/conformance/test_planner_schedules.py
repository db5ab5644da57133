"""`@once` and `@continuous`, asked for by the planner on a real store, with runs that a scheduler drives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from harness.driving import AtOnce
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.authoring.schedules import read_schedule
from tidemill.flow.planner import Planner
from tidemill.flow.scheduler import Scheduler
from tidemill.model.batch import Interval
from tidemill.model.definition import Definition, Kind
from tidemill.model.errors import DefinitionError
from tidemill.model.graph import Graph, Node
from tidemill.testing.clock import ManualClock

SECOND = timedelta(seconds=1)


class Mill:
    """A pipeline `p` with a schedule, its planner, and a scheduler whose workers are done at once."""

    def __init__(self, store: SqlMetadata, clock: ManualClock, schedule: str, start: datetime | None = None) -> None:
        self.store, self.clock = store, clock
        made = Definition(
            "p", Kind.TASKS, Graph([Node("a")]), schedule=read_schedule(schedule, "UTC", start), start=start
        )
        made = Definition.from_json(made.as_json())
        with store.write() as tx:
            tx.definitions.keep([made], "c0de", "p.py", clock.now())
        self.planner = Planner(store, clock)
        runs = SqlRunStore(store, clock, own_time=False)
        self.scheduler = Scheduler(runs, AtOnce(), clock, runs.definition, "a")

    def intervals(self) -> list[Interval | None]:
        """Of all runs that were asked for, in their order."""
        with self.store.read() as tx:
            return [batch.key.interval for batch in reversed(tx.batches.recent("p"))]

    def finish(self) -> None:
        """Drive what was asked for to its end."""
        for _ in range(20):
            self.clock.advance(self.scheduler.turn().total_seconds() / 1000)


def test_once_is_one_run_at_the_start(store: SqlMetadata, clock: ManualClock) -> None:
    start = clock.now() + timedelta(hours=1)
    mill = Mill(store, clock, "@once", start)
    mill.planner.turn()
    assert mill.intervals() == []
    clock.advance(3601)
    for _ in range(3):
        mill.planner.turn()
        mill.finish()
        clock.advance(86_400)
    [interval] = mill.intervals()
    assert interval is not None
    assert interval.start == start


def test_continuous_goes_on_when_the_run_has_ended_and_leaves_no_gap(store: SqlMetadata, clock: ManualClock) -> None:
    mill = Mill(store, clock, "@continuous")
    mill.planner.turn()
    begun = clock.now()
    clock.advance(60)
    mill.planner.turn()
    assert len(mill.intervals()) == 1, "one run at a time"
    mill.finish()
    mill.planner.turn()
    first, second = mill.intervals()
    assert first is not None
    assert second is not None
    assert (first.end, first.end - first.start) == (begun, SECOND)
    assert second.start == first.end
    assert second.end == clock.now()


def test_runs_that_take_no_time_begin_a_second_apart(store: SqlMetadata, clock: ManualClock) -> None:
    mill = Mill(store, clock, "@continuous")
    for _ in range(60):
        mill.planner.turn()
        mill.finish()
        clock.advance(0.05)
    made = [one for one in mill.intervals() if one is not None]
    assert len(made) > 2
    assert all(one.end - one.start >= SECOND for one in made)
    assert [one.start for one in made[1:]] == [one.end for one in made[:-1]]


def test_once_needs_a_start() -> None:
    with pytest.raises(DefinitionError, match="needs a start"):
        read_schedule("@once", "UTC", None)
    assert read_schedule("@once", "UTC", datetime(2026, 1, 1, tzinfo=UTC)).text == "@once"
