"""Runs as whoever watches them sees them: states, ends, tasks, and the trace of a run that has ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from harness.records import DAY, START, day, start_run
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow import metrics
from tidemill.flow.metrics import RunWatch
from tidemill.flow.tracing import run_span
from tidemill.model.metric import Metric
from tidemill.model.run import RunState, TaskState
from tidemill.testing.clock import ManualClock

R, T = RunState, TaskState


def look(watch: RunWatch, store: SqlMetadata) -> list[int]:
    with store.read() as tx:
        return watch.look(tx)


def shown(watch: RunWatch, store: SqlMetadata, metric: Metric) -> dict[tuple[str, ...], object]:
    with store.read() as tx:
        return {one.labels: one.value for one in watch.samples(tx, START + DAY) if one.metric is metric}


def test_runs_are_watched_from_the_first_look_on(store: SqlMetadata, clock: ManualClock) -> None:
    """Ends before it are nobody's news; those after it are told once, whoever began before it."""
    _, before = start_run(store, clock, day(0))
    with store.write() as tx:
        tx.runs.move(before.id, before.fence, R.FAILED, now=clock.now())
    _, live = start_run(store, clock, day(1))
    watch = RunWatch()
    assert look(watch, store) == []
    assert shown(watch, store, metrics.RUNS) == {("flights", "running"): 1}
    _, later = start_run(store, clock, day(2))
    with store.write() as tx:
        for state in (R.PUBLISHING, R.SUCCESS):
            tx.runs.move(live.id, live.fence, state, now=clock.now())
        tx.runs.move(later.id, later.fence, R.CANCELLED, now=clock.now())
    assert look(watch, store) == [live.id, later.id]
    assert look(watch, store) == []
    assert shown(watch, store, metrics.RUNS) == {}
    assert shown(watch, store, metrics.ENDED) == {("flights", "success"): 1, ("flights", "cancelled"): 1}


def test_runs_of_another_project_are_not_seen(
    database: str, open_store: Callable[..., SqlMetadata], clock: ManualClock
) -> None:
    store, other = open_store(database), open_store(database, "other")
    _, run = start_run(other, clock)
    with other.write() as tx:
        tx.runs.set_task(run.id, run.fence, "load", T.RUNNING, now=START)
    watch = RunWatch()
    assert look(watch, store) == []
    assert shown(watch, store, metrics.RUNS) == {}
    assert shown(watch, store, metrics.TASKS_OF_RUNS) == {}


def test_tasks_are_counted_while_their_run_goes_on(store: SqlMetadata, clock: ManualClock) -> None:
    _, run = start_run(store, clock)
    with store.write() as tx:
        for task, states in (("a", [T.RUNNING, T.SUCCESS]), ("b", [T.RUNNING]), ("c", [T.RUNNING]), ("d", [T.QUEUED])):
            for state in states:
                tx.runs.set_task(run.id, run.fence, task, state, now=START)
    watch = RunWatch()
    look(watch, store)
    assert shown(watch, store, metrics.TASKS_OF_RUNS) == {
        ("flights", "queued"): 1, ("flights", "running"): 2, ("flights", "success"): 1,
    }  # fmt: skip
    with store.write() as tx:
        tx.runs.move(run.id, run.fence, R.FAILED, now=START)
    assert shown(watch, store, metrics.TASKS_OF_RUNS) == {}
    assert shown(watch, store, metrics.QUEUED) == {(): 0.0}


def test_a_run_that_has_ended_is_a_trace(store: SqlMetadata, clock: ManualClock) -> None:
    batch, run = start_run(store, clock)
    with store.read() as tx:
        assert run_span(tx, run.id) is None, "it has not ended"
        assert run_span(tx, run.id + 1) is None, "there is none"
    with store.write() as tx:
        for task, end, error in (("load", T.SUCCESS, None), ("clean", T.FAILED, "no such column")):
            tx.runs.set_task(run.id, run.fence, task, T.RUNNING, now=clock.now(), tries=1)
            clock.advance(2)
            tx.runs.set_task(run.id, run.fence, task, end, now=clock.now(), rows=7, error=error)
        tx.runs.set_task(run.id, run.fence, "publish", T.UPSTREAM_FAILED, now=clock.now())
        tx.runs.move(run.id, run.fence, R.FAILED, now=clock.now(), error="clean failed")
    with store.read() as tx:
        span = run_span(tx, run.id)
    assert span is not None
    assert (span.name, span.began, span.seconds, span.error) == ("run", START, 4.0, "clean failed")
    assert span.attributes["tidemill.pipeline"] == "flights"
    assert span.attributes["tidemill.batch_id"] == batch.id
    assert [(part.attributes["tidemill.task"], part.seconds, part.error) for part in span.parts] == [
        ("load", 2.0, None), ("clean", 2.0, "no such column"),
    ]  # fmt: skip
    assert span.parts[1].began == START + timedelta(seconds=2)
