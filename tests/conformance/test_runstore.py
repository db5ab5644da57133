"""Promises of the port `runstore`, on SQLite and PostgreSQL, and the scheduler's loop on a real store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from harness.driving import AtOnce, chain, dag, days, define, give_pool, queue
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.attending import notice_of
from tidemill.flow.questions import answer, open_questions
from tidemill.flow.scheduler import Scheduler
from tidemill.model.batch import BatchState
from tidemill.model.errors import Busy, Refused
from tidemill.model.graph import WHOLE, Lengths, Node, Retry, TaskKey, TriggerRule
from tidemill.model.instance import Change, Cleared, Deferred, Due, Failed, Instance, Marked, Report, Succeeded
from tidemill.model.question import ANSWER, Question
from tidemill.model.run import RunState, TaskState
from tidemill.ports.runstore import NO_PAST, PoolFull, Progress, wish_json
from tidemill.ports.xcoms import FIRED
from tidemill.testing.clock import ManualClock

LEASE = timedelta(seconds=15)
START = datetime(2026, 1, 1, tzinfo=UTC)
R, T = RunState, TaskState


@pytest.fixture
def runs(store: SqlMetadata, clock: ManualClock) -> SqlRunStore:
    return SqlRunStore(store, clock, own_time=False)


def scheduler(runs: SqlRunStore, executor: AtOnce, clock: ManualClock, holder: str = "a") -> Scheduler:
    return Scheduler(runs, executor, clock, runs.definition, holder)


def turn_until_done(one: Scheduler, clock: ManualClock, turns: int = 200) -> None:
    for _ in range(turns):
        clock.advance(one.turn().total_seconds())


def states(store: SqlMetadata, run_id: int) -> dict[str, str]:
    with store.read() as tx:
        return {task.task: task.state.value for task in tx.runs.tasks(run_id)}


def state_of(store: SqlMetadata, run_id: int) -> RunState:
    with store.read() as tx:
        found = tx.runs.get(run_id)
        assert found is not None
        return found.state


def test_a_new_run_is_claimed_once_and_begins(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", Node("a")), clock)
    queued = queue(store, made, "p", clock, "k")
    [mine] = runs.claim("a", LEASE, 10)
    assert (mine.id, mine.definition_id, mine.info.run_key, mine.info.code) == (queued.id, made, "k", "c0de")
    assert mine.fence > queued.fence
    assert mine.info.file == "p.py"
    assert mine.past == NO_PAST
    assert runs.claim("b", LEASE, 10) == []
    assert runs.claim("a", LEASE, 10) == []
    assert state_of(store, queued.id) is R.RUNNING
    assert [one.id for one in runs.driven("a")] == [queued.id]
    assert runs.driven("b") == []


def test_runs_of_no_scheduler_are_left_alone(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    from harness.records import start_run

    start_run(store, clock)
    clock.advance(10_000)
    assert runs.claim("a", LEASE, 10) == []


def test_a_run_whose_driver_is_silent_goes_to_another_under_a_new_fence(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    made = define(store, dag("p", Node("a")), clock)
    queue(store, made, "p", clock)
    [first] = runs.claim("a", LEASE, 10)
    clock.advance(10)
    assert runs.renew("a", LEASE) == clock.now() + LEASE
    clock.advance(14)
    assert runs.claim("b", LEASE, 10) == []
    clock.advance(1)
    [second] = runs.claim("b", LEASE, 10)
    assert second.fence > first.fence
    change = Change(("a", WHOLE), Instance(), Instance(T.SCHEDULED))
    assert runs.save([Progress(first.id, first.fence, clock.now(), [change])]).lost == {first.id}
    assert states(store, first.id) == {}
    assert runs.save([Progress(first.id, second.fence, clock.now(), [change])]).lost == frozenset()
    assert states(store, first.id) == {"a": "scheduled"}


def test_released_runs_are_free_at_once(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", Node("a")), clock)
    queue(store, made, "p", clock)
    runs.claim("a", LEASE, 10)
    runs.release("a")
    assert len(runs.claim("b", LEASE, 10)) == 1


def test_no_more_runs_of_a_pipeline_than_it_allows(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", Node("a"), max_active_runs=2), clock)
    other = define(store, dag("q", Node("a")), clock)
    for number in range(3):
        queue(store, made, "p", clock, f"k{number}")
    queue(store, other, "q", clock)
    taken = runs.claim("a", LEASE, 10)
    assert [one.info.pipeline for one in taken] == ["p", "p", "q"]
    assert runs.claim("b", LEASE, 10) == []
    end = Progress(taken[0].id, taken[0].fence, clock.now(), end=R.FAILED, error="no")
    runs.save([end])
    assert [one.info.run_key for one in runs.claim("b", LEASE, 10)] == ["k2"]


def test_runs_of_a_bookmark_chain_begin_one_after_the_other(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    """Whoever asked for them: two at once would begin at the same bookmark, and only one could publish (rule 6)."""
    made = define(store, dag("p", Node("a"), sequential=True), clock)
    for number in range(2):
        queue(store, made, "p", clock, f"k{number}")
    first = runs.claim("a", LEASE, 10)
    assert [one.info.run_key for one in first] == ["k0"]
    assert runs.claim("b", LEASE, 10) == []
    runs.save([Progress(first[0].id, first[0].fence, clock.now(), end=R.FAILED, error="no")])
    assert [one.info.run_key for one in runs.claim("b", LEASE, 10)] == ["k1"]


def test_a_batch_has_one_run_at_a_time(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", Node("a")), clock)
    queue(store, made, "p", clock, "k")
    with pytest.raises(Busy):
        queue(store, made, "p", clock, "k")


def test_what_is_saved_comes_back(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", Node("a"), Node("m", ("a",), mapped=Lengths(tasks=("a",)))), clock)
    queue(store, made, "p", clock)
    [run] = runs.claim("a", LEASE, 10)
    due = clock.now() + timedelta(seconds=9)
    waits = Instance(T.UP_FOR_RETRY, 2, 1, 1, due)
    done = Instance(T.SUCCESS, 1, length=2)
    changes = [
        Change(("a", WHOLE), Instance(T.RUNNING, 1), done),
        Change(("m", 0), None, Instance()),
        Change(("m", 1), None, waits, "it broke"),
    ]
    report = Report((("return_value", "[1,2]"),), 5, 7, 2.0, "here:1")
    runs.save([Progress(run.id, run.fence, clock.now(), changes, [(("a", WHOLE), 1, report)])])
    [again] = runs.driven("a")
    assert again.instances == {("a", WHOLE): done, ("m", 0): Instance(), ("m", 1): waits}
    with store.read() as tx:
        task = next(one for one in tx.runs.tasks(run.id) if one.task == "a")
        assert (task.rows, task.bytes, task.ended_at) == (5, 7, clock.now())


def test_what_a_cleared_instance_handed_over_is_forgotten(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    """A task that runs again begins with nothing of its own; what others handed over stays."""
    run, save = _handing_over(store, runs, clock)
    clear = Change(("a", WHOLE), Instance(T.SUCCESS, 1), Instance(T.NONE, 1))
    save([clear])
    assert _handed_over(store, run) == {"a": None, "b": "2"}
    report = Report((("return_value", "3"),))
    again = [Change(("a", WHOLE), Instance(T.RUNNING, 2), Instance(T.SUCCESS, 2))]
    save(again, [(("a", WHOLE), 2, report)])
    assert _handed_over(store, run) == {"a": "3", "b": "2"}
    late, early = Report((("return_value", "5"),)), Report((("return_value", "4"),))
    end = Change(("a", WHOLE), Instance(T.RUNNING, 4), Instance(T.SUCCESS, 4))
    clear = Change(("a", WHOLE), Instance(T.SUCCESS, 3), Instance(T.NONE, 3))
    save([clear], [(("a", WHOLE), 3, early)])
    assert _handed_over(store, run)["a"] is None, "told and cleared in one turn"
    save([replace(clear, after=Instance(T.NONE, 3)), end], [(("a", WHOLE), 3, early), (("a", WHOLE), 4, late)])
    assert _handed_over(store, run)["a"] == "5"


def test_what_is_marked_as_success_keeps_what_it_handed_over(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    run, save = _handing_over(store, runs, clock)
    gone = Change(("a", WHOLE), Instance(T.FAILED, 1), Instance(T.NONE, 1))
    save([gone, Change(("a", WHOLE), Instance(T.NONE, 1), Instance(T.SUCCESS, 1))])
    assert _handed_over(store, run) == {"a": "1", "b": "2"}


def _handing_over(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> tuple[int, Callable[..., None]]:
    """A run whose tasks have handed over 1 and 2, and what saves more about it."""
    queue(store, define(store, dag("p", Node("a"), Node("b")), clock), "p", clock)
    [run] = runs.claim("a", LEASE, 10)

    def save(changes: Sequence[Change], reports: Sequence[tuple[TaskKey, int, Report]] = ()) -> None:
        runs.save([Progress(run.id, run.fence, clock.now(), list(changes), list(reports))])

    changes = [Change((id_, WHOLE), Instance(T.RUNNING, 1), Instance(T.SUCCESS, 1)) for id_ in ("a", "b")]
    save(changes, [((id_, WHOLE), 1, Report((("return_value", value),))) for id_, value in (("a", "1"), ("b", "2"))])
    return run.id, save


def _handed_over(store: SqlMetadata, run_id: int) -> dict[str, str | None]:
    with store.read() as tx:
        return {id_: tx.xcoms.get(run_id, id_) for id_ in ("a", "b")}


def test_pools_hold_across_schedulers(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    give_pool(store, "small", 1)
    made = define(store, dag("p", Node("a", pool="small"), Node("b", pool="small")), clock)
    queue(store, made, "p", clock, "1")
    [one] = runs.claim("a", LEASE, 10)
    queue(store, made, "p", clock, "2")
    [two] = runs.claim("b", LEASE, 10)
    change = Change(("a", WHOLE), Instance(T.SCHEDULED), Instance(T.QUEUED, 1))
    assert runs.room("a")["small"] == 1
    runs.save([Progress(one.id, one.fence, clock.now(), [change])])
    assert runs.room("a")["small"] == 1
    assert runs.room("b")["small"] == 0
    with pytest.raises(PoolFull):
        runs.save([Progress(two.id, two.fence, clock.now(), [change])])
    assert states(store, two.id) == {}


def test_a_cancellation_reaches_the_driver(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", Node("a")), clock)
    run = queue(store, made, "p", clock)
    runs.claim("a", LEASE, 10)
    assert runs.cancelled("a") == frozenset()
    with store.write() as tx:
        assert tx.runs.cancel(run.id, clock.now())
    assert runs.cancelled("a") == {run.id}
    assert runs.cancelled("b") == frozenset()


@pytest.mark.parametrize("event", [Cleared(("a", "b")), Marked(("a", 3), T.SUCCESS), Due(("a", -1))])
def test_wishes_are_told_until_they_are_carried_out(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock, event: Cleared | Marked | Due
) -> None:
    made = define(store, dag("p", Node("a")), clock)
    run = queue(store, made, "p", clock)
    [mine] = runs.claim("a", LEASE, 10)
    with store.write() as tx:
        tx.events.add("wish", {**wish_json(event), "run_id": run.id}, clock.now())
    [wish] = runs.wishes("a")
    assert (wish.run_id, wish.event) == (run.id, event)
    runs.save([Progress(run.id, mine.fence, clock.now(), wishes=[wish.id])])
    assert runs.wishes("a") == []


def test_the_past_is_the_newest_attempt_at_the_interval_before(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    made = define(store, dag("p", Node("a", waits_for_past=True), Node("b")), clock)
    first, second = (queue(store, made, "p", clock, day) for day in days(2, START))
    one, two = runs.claim("a", LEASE, 10)
    assert (one.past, two.past) == (NO_PAST, frozenset())
    changes = [
        Change(("a", WHOLE), Instance(T.RUNNING, 1), Instance(T.SUCCESS, 1)),
        Change(("b", WHOLE), Instance(T.RUNNING, 1), Instance(T.FAILED, 1)),
    ]
    runs.save([Progress(first.id, one.fence, clock.now(), changes)])
    assert runs.past([second.id]) == {second.id: {"a"}}


# The loop on a real store


def test_the_loop_drives_a_run_to_its_end(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    nodes = [*chain("a", "b", "c"), Node("d", ("a", "c"))]
    run = queue(store, define(store, dag("p", *nodes), clock), "p", clock, "k")
    executor = AtOnce()
    turn_until_done(scheduler(runs, executor, clock), clock, 30)
    assert executor.order == ["a", "b", "c", "d"]
    assert state_of(store, run.id) is R.SUCCESS
    assert set(states(store, run.id).values()) == {"success"}
    with store.read() as tx:
        batch = tx.batches.get(run.batch_id)
        assert batch is not None
        assert batch.state is BatchState.PUBLISHED
        assert [event.payload["run_id"] for event in tx.events.pending("published")] == [run.id]


def test_the_loop_tries_again_and_then_fails_the_run_with_the_first_error(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    nodes = [
        Node("a", retry=Retry(2, timedelta(seconds=30))),
        Node("b", ("a",)),
        Node("c", ("a",), TriggerRule.ALL_DONE),
    ]
    run = queue(store, define(store, dag("p", *nodes), clock), "p", clock)
    executor = AtOnce(ends=lambda job: Failed("it broke") if job.key[0] == "a" else Succeeded())
    turn_until_done(scheduler(runs, executor, clock), clock, 60)
    assert executor.order == ["a", "a", "a", "c"]
    assert states(store, run.id) == {"a": "failed", "b": "upstream_failed", "c": "success"}
    with store.read() as tx:
        ended = tx.runs.get(run.id)
        assert ended is not None
        assert (ended.state, ended.error) == (R.FAILED, "Task a failed: it broke")
        assert [event.payload["state"] for event in tx.events.pending("ended")] == ["failed"]


def test_the_loop_expands_mapped_tasks(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    nodes = [Node("a"), Node("m", ("a",), mapped=Lengths(tasks=("a",))), Node("z", ("m",))]
    run = queue(store, define(store, dag("p", *nodes), clock), "p", clock)
    executor = AtOnce(ends=lambda job: Succeeded(length=3 if job.key[0] == "a" else None))
    turn_until_done(scheduler(runs, executor, clock), clock, 40)
    assert [job.key for job in executor.jobs] == [("a", -1), ("m", 0), ("m", 1), ("m", 2), ("z", -1)]
    assert state_of(store, run.id) is R.SUCCESS


def test_a_run_that_takes_too_long_fails(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    node = Node("a", retry=Retry(9, timedelta(minutes=1)))
    made = define(store, dag("p", node, run_timeout=timedelta(seconds=90)), clock)
    run = queue(store, made, "p", clock)
    one = scheduler(runs, AtOnce(ends=lambda _: Failed("no")), clock)
    turn_until_done(one, clock, 100)
    with store.read() as tx:
        ended = tx.runs.get(run.id)
        assert ended is not None
        assert (ended.state, ended.error) == (R.FAILED, "It took longer than 0:01:30.")


def test_a_task_waits_for_its_past(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", Node("a", waits_for_past=True, retry=Retry(1, timedelta(seconds=60)))), clock)
    first, second = (queue(store, made, "p", clock, day) for day in days(2, START))
    tries: list[int] = []

    def ends(job: object) -> Failed | Succeeded:
        tries.append(job.run_id)  # type: ignore[attr-defined]
        return Failed("once") if len(tries) == 1 else Succeeded()

    turn_until_done(scheduler(runs, AtOnce(ends=ends), clock), clock, 60)
    assert tries == [first.id, first.id, second.id]
    assert state_of(store, second.id) is R.SUCCESS


def test_a_second_scheduler_goes_on_where_the_first_one_vanished(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    run = queue(store, define(store, dag("p", *chain("a", "b", "c")), clock), "p", clock)
    gone = AtOnce(ends=lambda job: Succeeded() if job.key[0] == "a" else None, workers=1)
    first = scheduler(runs, gone, clock, "a")
    while gone.order != ["a", "b"]:
        clock.advance(first.turn().total_seconds())
    clock.advance(16)
    executor = AtOnce()
    turn_until_done(scheduler(SqlRunStore(store, clock, own_time=False), executor, clock, "b"), clock, 30)
    assert executor.order == ["b", "c"]
    assert state_of(store, run.id) is R.SUCCESS
    assert first.turn() >= timedelta(0)
    assert gone.order == ["a", "b"], "it had nothing more to say"


def test_wishes_of_people_are_carried_out(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    nodes = [Node("a", retry=Retry(5, timedelta(hours=9))), Node("b", ("a",))]
    run = queue(store, define(store, dag("p", *nodes), clock), "p", clock)
    executor = AtOnce(ends=lambda job: Failed("no") if job.key[0] == "a" else Succeeded())
    one = scheduler(runs, executor, clock)
    for _ in range(10):
        one.turn()
    assert states(store, run.id) == {"a": "up_for_retry"}
    with store.write() as tx:
        tx.events.add("wish", {**wish_json(Marked(("a", WHOLE), T.SUCCESS)), "run_id": run.id}, clock.now())
    one.wake()
    turn_until_done(one, clock, 20)
    assert executor.order == ["a", "b"]
    assert state_of(store, run.id) is R.SUCCESS


def test_a_later_attempt_keeps_what_was_not_cleared(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", *chain("a", "b", "c")), clock)
    run = queue(store, made, "p", clock, "k")
    report = Report((("return_value", "7"),))
    executor = AtOnce(ends=lambda job: Failed("no") if job.key[0] == "b" else Succeeded(), report=lambda _: report)
    one = scheduler(runs, executor, clock)
    turn_until_done(one, clock, 20)
    assert state_of(store, run.id) is R.FAILED
    again = queue(store, made, "p", clock, "k", keep=["a"])
    assert again.attempt == 2
    second = AtOnce()
    turn_until_done(scheduler(runs, second, clock, "b"), clock, 20)
    assert second.order == ["b", "c"]
    assert states(store, again.id) == {"a": "success", "b": "success", "c": "success"}


def test_a_run_of_some_tasks_knows_no_others(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    made = define(store, dag("p", *chain("a", "b", "c")), clock)
    run = queue(store, made, "p", clock, "k", only=("b", "c"))
    executor = AtOnce()
    turn_until_done(scheduler(runs, executor, clock), clock, 20)
    assert executor.order == ["b", "c"]
    assert state_of(store, run.id) is R.SUCCESS


def test_a_drained_scheduler_hands_nothing_out(store: SqlMetadata, runs: SqlRunStore, clock: ManualClock) -> None:
    run = queue(store, define(store, dag("p", *chain("a", "b")), clock), "p", clock)
    executor = AtOnce()
    one = scheduler(runs, executor, clock)
    one.turn()
    assert executor.order == ["a"]
    one.draining = True
    for _ in range(5):
        one.turn()
    assert executor.order == ["a"]
    assert one.idle
    one.release()
    other = AtOnce()
    turn_until_done(scheduler(runs, other, clock, "b"), clock, 10)
    assert other.order == ["b"]
    assert state_of(store, run.id) is R.SUCCESS
    assert replace(executor.jobs[0], fence=0).key == ("a", WHOLE)


def test_a_question_is_answered_once_and_its_run_goes_on_elsewhere(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    made = define(store, dag("p", Node("ask")), clock)
    run = queue(store, made, "p", clock)
    question = Question("Go on?", ("Yes", "No"), asked_at=clock.now())
    outcomes = [Deferred(ANSWER, question.as_json()), Succeeded()]
    turn_until_done(scheduler(runs, AtOnce(ends=lambda _: outcomes.pop(0)), clock), clock, 5)
    key = ("ask", WHOLE)
    with store.read() as tx:
        [waiting] = tx.runs.deferred(run.id)
        assert tx.runs.deferred(run.id + 1) == []
        assert [one.question for one in open_questions(tx)] == [question]
        [event] = tx.events.pending("notice")
    assert notice_of("x", event).text == f"p: run {run.id}, ask asks: Go on?\ntidemill runs show {run.id}"
    answer(store, run.id, key, ["Yes"], {}, "ada", clock.now())
    with pytest.raises(Refused):
        answer(store, run.id, key, ["No"], {}, "max", clock.now())
    with store.write() as tx:  # whoever had read it before
        assert not tx.runs.change_trigger(waiting, "{}")
    clock.advance(20)
    turn_until_done(scheduler(runs, AtOnce(ends=lambda _: outcomes.pop(0)), clock, "b"), clock, 5)
    assert states(store, run.id) == {"ask": "success"}
    with store.read() as tx:
        assert '"by": "ada"' in (tx.xcoms.get(run.id, "ask", FIRED) or "")
