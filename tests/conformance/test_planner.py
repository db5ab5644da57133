"""The planner on both databases: which runs it asks for, when, and that it never asks twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.driving import AtOnce, chain, dag
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow import control
from tidemill.flow.planner import Planner
from tidemill.flow.scheduler import Scheduler
from tidemill.model.backfill import BackfillState, Policy
from tidemill.model.batch import BatchKey, BatchState, Interval
from tidemill.model.condition import FilesArrive, Published
from tidemill.model.definition import Definition, Schedule
from tidemill.model.errors import Refused, UserError
from tidemill.model.graph import Node
from tidemill.model.instance import Failed, Succeeded
from tidemill.model.run import RunState
from tidemill.plan.schedule import parse_timetable
from tidemill.testing.clock import ManualClock

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def daily(name: str = "p", **options: Any) -> Definition:
    made = {"schedule": Schedule(parse_timetable("@daily")), "start": START, "catchup": True, **options}
    return dag(name, Node("a"), **made)


class Mill:
    """A planner, and a scheduler whose workers are done at once."""

    def __init__(self, store: SqlMetadata, clock: ManualClock, files: dict[str, str] | None = None) -> None:
        self.store = store
        self.clock = clock
        self.files = files if files is not None else {}
        self.planner = Planner(store, clock, lambda _: self.files)
        self.runs = SqlRunStore(store, clock, own_time=False)
        self.failing: set[str] = set()

    def keep(self, *definitions: Definition) -> None:
        with self.store.write() as tx:
            for one in definitions:
                tx.definitions.keep([one], "c0de", one.file, self.clock.now())

    def at(self, *moment: int) -> None:
        self.clock.advance((datetime(*moment, tzinfo=UTC) - self.clock.now()).total_seconds())  # type: ignore[arg-type]

    def plan(self, turns: int = 1) -> None:
        for _ in range(turns):
            self.planner.turn()

    def drive(self) -> None:
        """Let everything that was asked for end."""
        ends = lambda job: Failed("no") if job.run.pipeline in self.failing else Succeeded()  # noqa: E731
        scheduler = Scheduler(self.runs, AtOnce(ends=ends), self.clock, self.runs.definition, "s")
        for _ in range(30):
            scheduler.turn()

    def asked(self, pipeline: str = "p") -> list[str]:
        """Intervals or run keys of runs, in the order in which they were asked for."""
        with self.store.read() as tx:
            batches = {batch.id: batch for batch in tx.batches.recent(pipeline)}
            found = [batches[run.batch_id].key for run in reversed(tx.runs.recent(pipeline=pipeline))]
        return [key.interval.ds if key.interval else str(key.run_key) for key in found]

    def open(self, pipeline: str = "p") -> int:
        with self.store.read() as tx:
            return len(tx.runs.under_way(pipeline))


@pytest.fixture
def mill(store: SqlMetadata, clock: ManualClock) -> Mill:
    made = Mill(store, clock)
    made.at(2026, 1, 1)
    return made


def test_an_interval_is_asked_for_when_it_is_over_and_once(mill: Mill) -> None:
    mill.keep(daily())
    mill.plan(2)
    assert mill.asked() == []
    mill.at(2026, 1, 2)
    mill.plan(2)
    Planner(mill.store, mill.clock).turn()
    assert mill.asked() == ["2026-01-01"]
    mill.at(2026, 1, 3)
    mill.plan(2)
    assert mill.asked() == ["2026-01-01", "2026-01-02"]


def test_catchup_goes_on_as_room_comes_free(mill: Mill) -> None:
    mill.at(2026, 1, 6)
    mill.keep(daily(max_active_runs=2))
    mill.plan(3)
    assert mill.asked() == ["2026-01-01", "2026-01-02"]
    mill.drive()
    mill.plan()
    assert mill.asked() == ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
    mill.drive()
    mill.plan(2)
    assert mill.asked()[4:] == ["2026-01-05"]


def test_without_catchup_only_the_latest_interval_is_asked_for(mill: Mill) -> None:
    mill.at(2026, 1, 6)
    mill.keep(daily(catchup=False))
    mill.plan(2)
    assert mill.asked() == ["2026-01-05"]


def test_a_paused_schedule_asks_for_nothing_until_it_is_resumed(mill: Mill) -> None:
    mill.at(2026, 1, 3)
    mill.keep(daily(paused=True))
    mill.plan()
    assert mill.asked() == []
    with mill.store.write() as tx:
        tx.definitions.pause("p", False, mill.clock.now())
    mill.plan()
    assert mill.asked() == ["2026-01-01", "2026-01-02"]


def test_an_interval_that_somebody_ran_by_hand_is_not_asked_for_again(mill: Mill) -> None:
    mill.at(2026, 1, 2)
    mill.keep(daily(paused=True))
    interval = Interval(START, START + DAY)
    control.trigger(mill.store, "p", mill.clock.now(), interval=interval)
    mill.drive()
    with mill.store.write() as tx:
        tx.definitions.pause("p", False, mill.clock.now())
    mill.plan(2)
    assert mill.asked() == ["2026-01-01"]


@pytest.mark.parametrize("absorb", [False, True])
def test_a_chain_waits_for_the_batch_before_or_absorbs_it(mill: Mill, absorb: bool) -> None:
    """Rule 6: the next batch of a bookmark chain waits for the unpublished one, or takes over its range."""
    mill.at(2026, 1, 4)
    mill.keep(daily(sequential=True, absorb=absorb))
    mill.plan(2)
    assert mill.asked() == ["2026-01-01"], "one at a time"
    mill.failing.add("p")
    mill.drive()
    mill.failing.clear()
    mill.plan(2)
    assert mill.asked() == (["2026-01-01", "2026-01-02"] if absorb else ["2026-01-01"])
    with mill.store.read() as tx:
        first = tx.batches.find(BatchKey("p", Interval(START, START + DAY)))
        assert first is not None
        assert first.state is (BatchState.ABSORBED if absorb else BatchState.OPEN)
    if not absorb:
        last = next(iter(mill.store_runs()))
        control.clear(mill.store, control.preview_clearing(mill.store, last, []), mill.clock.now())
        mill.drive()
        mill.plan(2)
        assert mill.asked() == ["2026-01-01", "2026-01-01", "2026-01-02"]


def test_a_batch_of_a_chain_that_took_nothing_steps_aside_after_a_minute(mill: Mill) -> None:
    """Rule 6: it has no range of its own; but what was wrong may be so for the next one, too."""
    mill.at(2026, 1, 4)
    mill.keep(daily(sequential=True, bookmarks_only=True))
    mill.failing.add("p")
    mill.plan()
    mill.drive()
    mill.plan(2)
    assert mill.asked() == ["2026-01-01"]
    mill.clock.advance(60)
    mill.plan(2)
    assert mill.asked() == ["2026-01-01", "2026-01-02"], "it looked again by itself"
    first = list(mill.store_runs())[-1]
    with pytest.raises(Refused, match="took nothing"):
        control.preview_clearing(mill.store, first, [])
    with pytest.raises(Refused, match="took nothing"):
        control.trigger(mill.store, "p", mill.clock.now(), interval=Interval(START, START + DAY))


def test_a_run_by_hand_that_gives_no_sign_of_life_steps_aside_and_one_of_a_scheduler_goes_on(mill: Mill) -> None:
    """Rule 6: it was killed, and no scheduler takes it up again."""
    mill.at(2026, 1, 3)
    mill.keep(daily(sequential=True, bookmarks_only=True))
    with mill.store.write() as tx:
        batch = tx.batches.open(BatchKey("p", Interval(START, START + DAY)), mill.clock.now())
        lease = mill.clock.now() + timedelta(seconds=30)
        killed = tx.runs.start(batch.id, holder="there:1:0", now=mill.clock.now(), lease_until=lease)
    mill.plan(2)
    mill.clock.advance(60)
    mill.plan(2)
    assert mill.asked() == ["2026-01-01"], "the other computer's clock may be slow"
    mill.clock.advance(40)
    mill.plan(2)
    assert mill.asked() == ["2026-01-01", "2026-01-02"]
    with mill.store.read() as tx:
        ended = tx.runs.get(killed.id)
    assert ended is not None
    assert ended.state is RunState.FAILED
    mill.runs.claim("s", timedelta(seconds=1), 1)
    mill.at(2026, 1, 5)
    mill.plan(2)
    assert mill.asked() == ["2026-01-01", "2026-01-02"], "a scheduler will go on with it"


def _store_runs(self: Mill) -> Iterable[int]:
    with self.store.read() as tx:
        return [run.id for run in tx.runs.recent()]


Mill.store_runs = _store_runs  # type: ignore[attr-defined]


def test_a_schedule_whose_intervals_overlap_published_ones_is_refused_and_told(
    mill: Mill, caplog: pytest.LogCaptureFixture
) -> None:
    mill.at(2026, 1, 2)
    mill.keep(daily())
    mill.plan()
    mill.drive()
    noon = timedelta(hours=12)
    overlapping, later = (Interval(START + n * DAY + noon, START + (n + 1) * DAY + noon) for n in (0, 1))
    mill.keep(replace(daily(), schedule=Schedule(intervals=(overlapping, later))))
    mill.at(2026, 1, 15)
    mill.plan(2)
    assert "overlaps" in caplog.text
    assert mill.asked() == ["2026-01-01", "2026-01-02"], "those that do not overlap go on"


def test_intervals_of_a_users_own_timetable(mill: Mill) -> None:
    intervals = tuple(Interval(START + n * DAY, START + n * DAY + DAY / 2) for n in range(3))
    mill.keep(daily(schedule=Schedule(intervals=intervals, more=True)))
    mill.at(2026, 1, 2, 13)
    mill.plan(2)
    assert mill.asked() == ["2026-01-01", "2026-01-02"]


def test_files_are_asked_about_once_and_again_when_they_change(mill: Mill) -> None:
    mill.keep(daily(schedule=Schedule(files=FilesArrive("in/*", timedelta(seconds=10)))))
    mill.plan()
    assert mill.asked() == []
    mill.files |= {"in/a": "1", "in/b": "1"}
    mill.clock.advance(10)
    mill.plan(2)
    assert len(mill.asked()) == 1
    mill.clock.advance(10)
    mill.plan()
    assert len(mill.asked()) == 1
    mill.files["in/a"] = "2"
    mill.clock.advance(10)
    mill.plan()
    assert len(mill.asked()) == 2
    with mill.store.read() as tx:
        order = tx.runs.order(max(mill.store_runs()))  # type: ignore[attr-defined]
        assert order is not None
        assert order.conf == {"files": ["in/a"]}


def test_publishes_that_were_missed_make_one_run(mill: Mill) -> None:
    both = Schedule(on=Published("x.a") & Published("x.b"))
    mill.keep(daily(schedule=both))
    with mill.store.write() as tx:
        for table in ("x.a", "x.a", "x.c"):
            tx.events.add("published", {"tables": [table]}, mill.clock.now())
    mill.plan()
    assert mill.asked() == []
    with mill.store.write() as tx:
        tx.events.add("published", {"tables": ["x.b", "x.a"]}, mill.clock.now())
        tx.events.add("published", {"tables": ["x.b"]}, mill.clock.now())
    mill.plan(2)
    assert len(mill.asked()) == 1
    mill.drive()
    with mill.store.write() as tx:
        tx.events.add("published", {"tables": ["x.a"]}, mill.clock.now())
    mill.plan()
    assert len(mill.asked()) == 1, "the other one has to come again, too"


def test_a_backfill_runs_its_intervals_in_order_a_few_at_a_time(mill: Mill) -> None:
    mill.at(2026, 1, 20)
    mill.keep(daily(paused=True))
    found = control.preview_backfill(mill.store, "p", "2026-01-01..2026-01-05", newest_first=True)
    one = control.start_backfill(mill.store, "p", found, mill.clock.now(), concurrency=2)
    mill.plan(3)
    assert mill.asked() == ["2026-01-05", "2026-01-04"]
    with mill.store.write() as tx:
        tx.backfills.move(one.id, BackfillState.PAUSED, mill.clock.now())
    mill.drive()
    mill.plan(2)
    assert len(mill.asked()) == 2
    with mill.store.write() as tx:
        tx.backfills.move(one.id, BackfillState.RUNNING, mill.clock.now())
    for _ in range(3):
        mill.plan()
        mill.drive()
    mill.plan()
    assert mill.asked() == ["2026-01-05", "2026-01-04", "2026-01-03", "2026-01-02", "2026-01-01"]
    with mill.store.read() as tx:
        ended = tx.backfills.get(one.id)
        assert ended is not None
        assert ended.state is BackfillState.SUCCESS


def test_a_backfill_takes_an_interval_that_somebody_has_run_since_as_it_is(mill: Mill) -> None:
    mill.at(2026, 1, 20)
    mill.keep(daily(paused=True))
    found = control.preview_backfill(mill.store, "p", "2026-01-01..2026-01-02")
    one = control.start_backfill(mill.store, "p", found, mill.clock.now())
    control.trigger(mill.store, "p", mill.clock.now(), interval=found[0])
    mill.drive()
    for _ in range(3):
        mill.plan()
        mill.drive()
    assert mill.asked() == ["2026-01-01", "2026-01-02"]
    with mill.store.read() as tx:
        ended = tx.backfills.get(one.id)
    assert ended is not None
    assert ended.state is BackfillState.SUCCESS


def test_policies_choose_by_what_became_of_intervals(mill: Mill) -> None:
    mill.at(2026, 1, 4)
    mill.keep(daily(max_active_runs=1))
    for fails in (False, True):
        mill.failing = {"p"} if fails else set()
        mill.plan()
        mill.drive()
    with mill.store.write() as tx:
        tx.definitions.pause("p", True, mill.clock.now())

    def chosen(policy: Policy) -> list[str]:
        return [one.ds for one in control.preview_backfill(mill.store, "p", "2026-01-01..2026-01-03", policy=policy)]

    assert chosen(Policy.MISSING) == ["2026-01-03"]
    assert chosen(Policy.FAILED) == ["2026-01-02", "2026-01-03"]
    assert chosen(Policy.ALL) == ["2026-01-01", "2026-01-02", "2026-01-03"]


def test_what_cannot_be_filled_back_says_why(mill: Mill) -> None:
    mill.keep(daily("chained", sequential=True), dag("none", Node("a")), daily("p"))
    with pytest.raises(Refused, match="bookmark"):
        control.preview_backfill(mill.store, "chained", "2026-01-01")
    with pytest.raises(UserError, match="no intervals"):
        control.preview_backfill(mill.store, "none", "2026-01-01")
    with pytest.raises(UserError, match="0 intervals"):
        control.preview_backfill(mill.store, "p", "2025-01-01")
    with pytest.raises(UserError, match="nothing"):
        control.start_backfill(mill.store, "p", [], mill.clock.now())


def test_a_late_run_is_told_of_once(mill: Mill) -> None:
    mill.at(2026, 1, 2)
    mill.keep(daily(deadline=timedelta(hours=1)))
    mill.plan()
    mill.at(2026, 1, 2, 0, 59)
    mill.plan()
    with mill.store.read() as tx:
        assert tx.events.pending("late") == []
    mill.at(2026, 1, 2, 1, 1)
    mill.plan()
    mill.at(2026, 1, 2, 2)
    mill.plan(2)
    with mill.store.read() as tx:
        assert [event.payload["pipeline"] for event in tx.events.pending("late")] == ["p"]


# What people ask for


@pytest.mark.parametrize(
    ("tasks", "downstream", "cleared"),
    [((), True, ["b", "c"]), (("b",), True, ["b", "c"]), (("b",), False, ["b"]), (("a",), True, ["a", "b", "c"])],
)
def test_clearing_is_shown_before_it_is_done(
    mill: Mill, tasks: tuple[str, ...], downstream: bool, cleared: list[str]
) -> None:
    mill.keep(dag("p", *chain("a", "b", "c")))
    run = control.trigger(mill.store, "p", mill.clock.now(), run_key="k")
    scheduler = Scheduler(
        mill.runs, AtOnce(ends=lambda job: Failed("no") if job.key[0] == "b" else Succeeded()), mill.clock,
        mill.runs.definition, "s",
    )  # fmt: skip
    for _ in range(20):
        scheduler.turn()
    shown = control.preview_clearing(mill.store, run.id, tasks, downstream=downstream)
    assert (list(shown.tasks), shown.same_attempt) == (cleared, False)
    again = control.clear(mill.store, shown, mill.clock.now())
    assert again.attempt == 2
    mill.drive()
    with mill.store.read() as tx:
        last = tx.runs.get(again.id)
        assert last is not None
        wanted = RunState.SUCCESS if downstream else RunState.FAILED
        assert last.state is wanted
    with pytest.raises(Refused, match="attempt 2 came after it"):
        control.preview_clearing(mill.store, run.id, ["a"])


def test_marking_a_failed_task_of_an_ended_run_lets_the_rest_go_on(mill: Mill) -> None:
    from tidemill.model.run import TaskState

    mill.keep(dag("p", *chain("a", "b", "c")))
    run = control.trigger(mill.store, "p", mill.clock.now(), run_key="k")
    failing: Callable[[Any], Any] = lambda job: Failed("no") if job.key[0] == "b" else Succeeded()  # noqa: E731
    executor = AtOnce(ends=failing)
    scheduler = Scheduler(mill.runs, executor, mill.clock, mill.runs.definition, "s")
    for _ in range(20):
        scheduler.turn()
    again = control.mark(mill.store, run.id, ("b", -1), TaskState.SUCCESS, mill.clock.now())
    scheduler.wake()
    for _ in range(20):
        scheduler.turn()
    assert executor.order == ["a", "b", "c"], "b did not run again"
    with mill.store.read() as tx:
        last = tx.runs.get(again.id)
        assert last is not None
        assert last.state is RunState.SUCCESS
