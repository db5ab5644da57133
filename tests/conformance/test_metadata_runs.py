"""Promises of the store `runs`: attempts, leases, fences (rule 5), tasks and reads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.records import MINUTE, START, day, start_run
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.errors import Busy, Fenced, UnknownName
from tidemill.model.run import RUN_ENDS, RUN_TRANSITIONS, IllegalTransition, Read, Run, RunState, TaskState
from tidemill.ports.metadata import Tx
from tidemill.testing.clock import ManualClock

R, T = RunState, TaskState


def test_the_first_attempt_runs_at_once_with_its_lease(store: SqlMetadata, clock: ManualClock) -> None:
    batch, run = start_run(store, clock, code_version="abc")
    assert run == Run(
        id=run.id,
        batch_id=batch.id,
        attempt=1,
        state=R.RUNNING,
        fence=run.fence,
        created_at=START,
        started_at=START,
        holder="here:1:0",
        lease_until=START + MINUTE,
        code_version="abc",
    )
    with store.read() as tx:
        assert tx.runs.get(run.id) == tx.runs.last(batch.id) == run


def test_a_live_attempt_makes_others_busy_and_says_who_holds_it(store: SqlMetadata, clock: ManualClock) -> None:
    start_run(store, clock)
    clock.advance(59)
    with pytest.raises(Busy, match="being run by another process") as caught:
        start_run(store, clock)
    assert caught.value.where == "here:1:0"


def test_attempts_at_other_batches_are_not_in_the_way(store: SqlMetadata, clock: ManualClock) -> None:
    _, one = start_run(store, clock, day(0))
    _, other = start_run(store, clock, day(1))
    assert (one.attempt, other.attempt) == (1, 1)
    assert other.fence > one.fence


def test_a_lease_that_is_over_lets_the_next_attempt_in_and_fails_the_abandoned_one(
    store: SqlMetadata, clock: ManualClock
) -> None:
    batch, old = start_run(store, clock)
    with store.write() as tx:
        for task, state in (("done", T.RUNNING), ("busy", T.RUNNING), ("waiting", T.SCHEDULED), ("handed", T.QUEUED)):
            tx.runs.set_task(old.id, old.fence, task, state, now=START)
        tx.runs.set_task(old.id, old.fence, "done", T.SUCCESS, now=START)
    clock.advance(MINUTE)
    _, new = start_run(store, clock, holder="there:2:0")
    assert (new.attempt, new.batch_id) == (2, batch.id)
    assert new.fence > old.fence
    with store.read() as tx:
        abandoned = tx.runs.get(old.id)
        states = {task.task: task.state for task in tx.runs.tasks(old.id)}
    assert abandoned is not None
    assert (abandoned.state, abandoned.ended_at) == (R.FAILED, START + MINUTE)
    assert "abandoned by here:1:0" in str(abandoned.error)
    assert states == {"done": T.SUCCESS, "busy": T.FAILED, "waiting": T.SCHEDULED, "handed": T.FAILED}


def test_a_holder_whose_process_is_gone_counts_as_over(store: SqlMetadata, clock: ManualClock) -> None:
    start_run(store, clock)
    asked: list[str] = []

    def gone(holder: str) -> bool:
        asked.append(holder)
        return False

    _, new = start_run(store, clock, alive=gone)
    assert (new.attempt, asked) == (2, ["here:1:0"])
    with pytest.raises(Busy):
        start_run(store, clock, alive=lambda _: True)


def test_a_renewed_lease_keeps_others_out(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    clock.advance(50)
    with store.write() as tx:
        tx.runs.renew(run.id, run.fence, clock.now() + MINUTE)
    clock.advance(50)
    with pytest.raises(Busy):
        start_run(store, clock)


@pytest.mark.parametrize("end", sorted(RUN_ENDS - {R.SUCCESS}))
def test_an_attempt_that_ended_lets_the_next_in_and_keeps_its_state(
    store: SqlMetadata, clock: ManualClock, end: RunState
) -> None:
    _, run = start_run(store, clock)
    with store.write() as tx:
        tx.runs.move(run.id, run.fence, end, now=START, error="it broke")
    _, new = start_run(store, clock)
    assert new.attempt == 2
    with store.read() as tx:
        ended = tx.runs.get(run.id)
    assert ended is not None
    assert (ended.state, ended.error, ended.ended_at, ended.lease_until) == (end, "it broke", START, None)


def test_starting_at_an_unknown_batch_is_told(store: SqlMetadata, clock: ManualClock) -> None:
    with pytest.raises(UnknownName, match="no batch 7"), store.write() as tx:
        tx.runs.start(7, holder="x", now=START, lease_until=START)


FENCED: dict[str, Callable[[Tx, Run], None]] = {
    "check": lambda tx, run: tx.runs.check(run.id, run.fence),
    "renew": lambda tx, run: tx.runs.renew(run.id, run.fence, START + 9 * MINUTE),
    "move": lambda tx, run: tx.runs.move(run.id, run.fence, R.PUBLISHING, now=START),
    "set_branch": lambda tx, run: tx.runs.set_branch(run.id, run.fence, "b"),
    "set_task": lambda tx, run: tx.runs.set_task(run.id, run.fence, "load", T.RUNNING, now=START),
}


@pytest.mark.parametrize("use", FENCED)
def test_a_stale_attempt_is_fenced_off_by_the_next(store: SqlMetadata, clock: ManualClock, use: str) -> None:
    _, old = start_run(store, clock)
    with store.write() as tx:
        FENCED[use](tx, old)
    clock.advance(10 * MINUTE)
    start_run(store, clock, holder="there:2:0")
    with pytest.raises(Fenced, match="was replaced by attempt 2") as caught, store.write() as tx:
        FENCED[use](tx, old)
    assert not caught.value.retryable
    assert "there:2:0" in str(caught.value)


@pytest.mark.parametrize("use", FENCED)
def test_an_attempt_that_ended_writes_no_more(store: SqlMetadata, clock: ManualClock, use: str) -> None:
    _, run = start_run(store, clock)
    with store.write() as tx:
        tx.runs.move(run.id, run.fence, R.CANCELLED, now=START)
    with pytest.raises(Fenced, match="has ended: cancelled"), store.write() as tx:
        FENCED[use](tx, run)


@pytest.mark.parametrize("use", FENCED)
def test_a_wrong_fence_writes_nothing(store: SqlMetadata, clock: ManualClock, use: str) -> None:
    _, run = start_run(store, clock)
    forged = Run(**{**{name: getattr(run, name) for name in Run.__dataclass_fields__}, "fence": run.fence + 1})
    with pytest.raises(Fenced, match="under another fence"), store.write() as tx:
        FENCED[use](tx, forged)
    with store.read() as tx:
        assert tx.runs.get(run.id) == run


def test_a_fence_can_also_be_checked_in_a_read(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    with store.read() as tx:
        tx.runs.check(run.id, run.fence)
        with pytest.raises(Fenced):
            tx.runs.check(run.id, run.fence + 1)
        with pytest.raises(Fenced, match="no run"):
            tx.runs.check(run.id + 1, run.fence)


@pytest.mark.parametrize("to", R)
def test_a_run_changes_state_only_along_the_table(store: SqlMetadata, clock: ManualClock, to: RunState) -> None:
    for number, through in enumerate(((), (R.PUBLISHING,), (R.PUBLISHING, R.RUNNING))):
        _, run = start_run(store, clock, day(number))
        before = R.RUNNING
        with store.write() as tx:
            for before in through:
                tx.runs.move(run.id, run.fence, before, now=START)
        if to in RUN_TRANSITIONS[before]:
            with store.write() as tx:
                tx.runs.move(run.id, run.fence, to, now=START)
            with store.read() as tx:
                found = tx.runs.get(run.id)
            assert found is not None
            assert found.state is to
        else:
            with pytest.raises(IllegalTransition), store.write() as tx:
                tx.runs.move(run.id, run.fence, to, now=START)


def test_attempts_are_listed_newest_first_and_can_be_narrowed(store: SqlMetadata, clock: ManualClock) -> None:
    batch, one = start_run(store, clock)
    with store.write() as tx:
        tx.runs.move(one.id, one.fence, R.FAILED, now=START)
    _, two = start_run(store, clock)
    _, other = start_run(store, clock, day(1))
    with store.read() as tx:
        assert [run.id for run in tx.runs.recent()] == [other.id, two.id, one.id]
        assert [run.id for run in tx.runs.recent(limit=2)] == [other.id, two.id]
        assert [run.id for run in tx.runs.recent(batch_id=batch.id)] == [two.id, one.id]
        assert [run.id for run in tx.runs.recent(state=R.RUNNING)] == [other.id, two.id]


def test_the_branch_of_an_attempt_is_kept(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    with store.write() as tx:
        tx.runs.set_branch(run.id, run.fence, "run-1")
    with store.read() as tx:
        found = tx.runs.get(run.id)
    assert found is not None
    assert found.branch == "run-1"


def test_tasks_keep_the_order_in_which_they_were_first_seen(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    with store.write() as tx:
        for task in ("zebra", "ape", "mole"):
            tx.runs.set_task(run.id, run.fence, task, T.SCHEDULED, now=START)
        tx.runs.set_task(run.id, run.fence, "ape", T.QUEUED, now=START)
        assert [task.task for task in tx.runs.tasks(run.id)] == ["zebra", "ape", "mole"]


def test_a_task_is_timed_and_counted_through_its_tries(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock, lease_until=START + 99 * MINUTE)

    def step(to: TaskState, **values: object) -> None:
        clock.advance(MINUTE)
        with store.write() as tx:
            tx.runs.set_task(run.id, run.fence, "load", to, now=clock.now(), **values)

    def task() -> tuple[object, ...]:
        with store.read() as tx:
            (found,) = tx.runs.tasks(run.id)
        return found.state, found.tries, found.started_at, found.ended_at, found.rows, found.bytes, found.error

    at = [START + n * MINUTE for n in range(9)]
    step(T.RUNNING, tries=1)
    step(T.RUNNING, rows=10, bytes=100)  # progress
    assert task() == (T.RUNNING, 1, at[1], None, 10, 100, None)
    step(T.UP_FOR_RETRY, error="broken pipe")
    assert task() == (T.UP_FOR_RETRY, 1, at[1], None, 10, 100, "broken pipe")
    step(T.SCHEDULED)
    step(T.QUEUED)
    step(T.RUNNING, tries=2)
    assert task() == (T.RUNNING, 2, at[6], None, None, None, None)
    step(T.SUCCESS, rows=27)
    assert task() == (T.SUCCESS, 2, at[6], at[7], 27, None, None)
    step(T.NONE)
    assert task() == (T.NONE, 2, None, None, None, None, None)


@pytest.mark.parametrize("first", [T.SUCCESS, T.FAILED, T.UP_FOR_RETRY, T.DEFERRED, T.RESTARTING])
def test_a_task_cannot_begin_at_its_end(store: SqlMetadata, clock: ManualClock, first: TaskState) -> None:
    _, run = start_run(store, clock)
    with pytest.raises(IllegalTransition), store.write() as tx:
        tx.runs.set_task(run.id, run.fence, "load", first, now=START)


def test_a_task_changes_state_only_along_the_table(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    with store.write() as tx:
        tx.runs.set_task(run.id, run.fence, "load", T.SKIPPED, now=START)
    with pytest.raises(IllegalTransition, match="skipped -> running"), store.write() as tx:
        tx.runs.set_task(run.id, run.fence, "load", T.RUNNING, now=START)
    with pytest.raises(TypeError, match="colour"), store.write() as tx:
        tx.runs.set_task(run.id, run.fence, "load", T.NONE, now=START, colour="blue")


def test_reads_are_kept_once_in_their_order(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    first, second = Read("flights.departures", 2**62, "batch"), Read("flights.planes", None, "whole")
    with store.write() as tx:
        tx.runs.add_reads(run.id, [second, second])
        tx.runs.add_reads(run.id, [first, second])
        tx.runs.add_reads(run.id, [])
        assert tx.runs.reads(run.id) == [second, first]
