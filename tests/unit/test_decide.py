"""What a run does next: incremental decisions equal a naive look at everything."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from harness.book import NOW, Driver, chain
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.graph import WHOLE, Graph, Lengths, Node, Retry, TriggerRule
from tidemill.model.instance import (
    Cancelled,
    Cleared,
    Deferred,
    Dispatched,
    Due,
    Ended,
    Failed,
    Lost,
    Marked,
    PastEnded,
    Rescheduled,
    Skipped,
    Started,
    Succeeded,
)
from tidemill.model.run import RunState, TaskState
from tidemill.plan.decide import MAX_LOST, MAX_MAPPED

S = TaskState

# Order


def test_a_chain_runs_in_order_and_ends_in_publishing() -> None:
    d = Driver(*chain("a", "b", "c")).begin()
    for id_ in "abc":
        assert d.ready == [(id_, WHOLE)]
        d.finish(id_)
    assert d.end is RunState.PUBLISHING


def test_a_run_without_tasks_is_over_at_once() -> None:
    assert Driver().begin().end is RunState.PUBLISHING


def test_a_long_chain_of_skips_does_not_exhaust_the_stack() -> None:
    d = Driver(*chain(*(f"t{n}" for n in range(5000)))).begin()
    d.finish("t0", Skipped())
    assert Counter(d.states().values()) == {"skipped": 5000}
    assert d.end is RunState.PUBLISHING


def test_a_failure_fails_what_is_below_and_nothing_else() -> None:
    d = Driver(Node("a"), Node("b", ("a",)), Node("c", ("b",)), Node("x"), Node("y", ("x",))).begin()
    d.finish("a", Failed("no"))
    assert d.states() == {"a": "failed", "b": "upstream_failed", "c": "upstream_failed", "x": "scheduled", "y": "none"}
    d.finish("x")
    d.finish("y")
    assert d.end is RunState.FAILED


def test_a_failure_that_a_leaf_takes_care_of_does_not_fail_the_run() -> None:
    """The leaves decide, as in Airflow."""
    d = Driver(Node("a"), Node("clean", ("a",), TriggerRule.ALL_DONE)).begin()
    d.finish("a", Failed())
    d.finish("clean")
    assert d.end is RunState.PUBLISHING


def test_the_failure_of_a_teardown_does_not_fail_the_run() -> None:
    d = Driver(Node("a"), Node("down", ("a",), TriggerRule.ALL_DONE, teardown=True)).begin()
    d.finish("a")
    d.finish("down", Failed())
    assert d.end is RunState.PUBLISHING


def test_a_branch_skips_what_it_decided_against() -> None:
    nodes = [Node("pick"), Node("x", ("pick",)), Node("y", ("pick",)), Node("y2", ("y",)),
             Node("join", ("x", "y2"), TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)]  # fmt: skip
    d = Driver(*nodes).begin()
    d.finish("pick", Succeeded(skip=("y",)))
    assert d.ready == [("x", WHOLE)]
    d.finish("x")
    d.finish("join")
    assert d.states() == {"pick": "success", "x": "success", "y": "skipped", "y2": "skipped", "join": "success"}


# Tries


def test_retries_wait_longer_each_time_and_end() -> None:
    retry = Retry(3, timedelta(seconds=10), factor=2, longest=timedelta(seconds=30))
    d = Driver(Node("a", retry=retry)).begin()
    waits = []
    for _ in range(3):
        d.finish("a", Failed("no"))
        known = d.book.instances[("a", WHOLE)]
        assert known.state is S.UP_FOR_RETRY
        assert known.due is not None
        waits.append((known.due - NOW).total_seconds())
        d.apply(Due(("a", WHOLE)))
    assert waits == [10, 20, 30]
    d.finish("a", Failed("no"))
    assert d.end is RunState.FAILED


def test_jitter_shortens_the_wait_and_is_the_same_for_whoever_takes_over() -> None:
    retry = Retry(1, timedelta(seconds=100), jitter=0.5)
    waits = set()
    for _ in range(2):
        d = Driver(Node("a", retry=retry)).begin()
        d.finish("a", Failed())
        due = d.book.instances[("a", WHOLE)].due
        assert due is not None
        waits.add((due - NOW).total_seconds())
    [wait] = waits
    assert 50 < wait < 100


def test_a_failure_that_no_try_can_mend_is_final() -> None:
    d = Driver(Node("a", retry=Retry(5))).begin()
    d.finish("a", Failed("wrong password", again=False))
    assert d.end is RunState.FAILED


def test_a_task_may_say_when_it_wants_to_be_tried_again() -> None:
    d = Driver(Node("a", retry=Retry(1))).begin()
    d.finish("a", Failed("429", delay=timedelta(seconds=7)))
    assert d.book.instances[("a", WHOLE)].due == NOW + timedelta(seconds=7)


def test_a_lost_worker_costs_no_retry_and_is_not_for_ever() -> None:
    d = Driver(Node("a")).begin()
    for _ in range(MAX_LOST):
        key = d.ready.pop()
        d.apply(Dispatched(key))
        d.apply(Lost(key, d.book.instances[key].tries))
        assert d.ready == [key]
    d.apply(Dispatched(d.ready.pop()))
    d.apply(Lost(("a", WHOLE), MAX_LOST + 1))
    assert d.end is RunState.FAILED


def test_reports_of_tries_that_are_over_change_nothing() -> None:
    """A worker that was believed dead comes back."""
    d = Driver(*chain("a", "b")).begin()
    key = d.ready.pop()
    d.apply(Dispatched(key))
    d.apply(Lost(key, 1))
    assert d.apply(Ended(key, 1, Succeeded())).stale
    d.apply(Dispatched(d.ready.pop()))
    assert d.apply(Ended(key, 1, Failed())).stale
    assert d.apply(Started(key, 1)).stale
    d.apply(Ended(key, 2, Succeeded()))
    assert d.apply(Ended(key, 2, Failed())).stale, "told twice"
    assert d.states() == {"a": "success", "b": "scheduled"}


def test_sensors_give_back_their_worker_and_look_again() -> None:
    d = Driver(Node("a")).begin()
    later = NOW + timedelta(minutes=1)
    d.finish("a", Rescheduled(later))
    assert d.book.instances[("a", WHOLE)].due == later
    d.apply(Due(("a", WHOLE)))
    d.finish("a", Deferred())
    d.apply(Due(("a", WHOLE)))
    d.finish("a")
    assert d.end is RunState.PUBLISHING
    assert d.apply(Due(("a", WHOLE))).stale


# Past, cancel, clear, mark


def test_a_task_that_waits_for_the_past_runs_when_that_has_ended() -> None:
    d = Driver(Node("a", waits_for_past=True), Node("b"), past=()).begin()
    assert d.ready == [("b", WHOLE)]
    d.apply(PastEnded("a"))
    assert d.ready == [("b", WHOLE), ("a", WHOLE)]


def test_a_cancelled_run_stops_its_workers_and_starts_nothing() -> None:
    d = Driver(Node("a"), Node("b", ("a",)), Node("c", retry=Retry(1))).begin()
    d.finish("c", Failed())
    key = d.ready.pop()
    d.apply(Dispatched(key))
    step = d.apply(Cancelled())
    assert step.stop == [key]
    assert d.states() == {"a": "queued", "b": "skipped", "c": "failed"}
    d.apply(Ended(key, 1, Failed("stopped")))
    assert d.end is RunState.CANCELLED


def test_clearing_runs_a_task_and_what_is_below_it_again() -> None:
    d = Driver(*chain("a", "b", "c"), Node("x")).begin()
    d.finish("a")
    d.finish("b", Failed())
    assert d.states()["c"] == "upstream_failed"
    d.apply(Cleared(("b",)))
    assert d.states() == {"a": "success", "b": "scheduled", "c": "none", "x": "scheduled"}
    d.finish("b")
    d.finish("c")
    d.finish("x")
    assert d.end is RunState.PUBLISHING
    assert d.book.instances[("b", WHOLE)].tries == 2, "tries are numbered on"


def test_what_a_worker_has_cannot_be_cleared() -> None:
    d = Driver(*chain("a", "b")).begin()
    d.apply(Dispatched(d.ready.pop()))
    assert d.apply(Cleared(("a",))).stale
    assert d.apply(Marked(("a", WHOLE), S.SUCCESS)).stale


def test_marking_counts_like_an_end() -> None:
    d = Driver(*chain("a", "b", "c")).begin()
    d.finish("a", Failed())
    d.apply(Marked(("a", WHOLE), S.SUCCESS))
    assert d.states() == {"a": "success", "b": "upstream_failed", "c": "upstream_failed"}
    d.apply(Cleared(("b",)))
    assert d.ready == [("b", WHOLE)]


# Mapping


def test_a_mapped_task_has_an_instance_for_each_value() -> None:
    d = Driver(Node("list"), Node("each", ("list",), mapped=Lengths(tasks=("list",))), Node("sum", ("each",))).begin()
    d.finish("list", Succeeded(length=3))
    assert sorted(d.ready) == [("each", 0), ("each", 1), ("each", 2)]
    for index in range(3):
        assert ("sum", WHOLE) not in d.ready
        d.finish("each", index=index)
    d.finish("sum")
    assert d.end is RunState.PUBLISHING


@pytest.mark.parametrize(
    ("lengths", "count"),
    [
        (Lengths(known=(2,), tasks=("l",)), 6),
        (Lengths(tasks=("l", "m")), 6),
        (Lengths(zipped=(("l", "m"),)), 2),
        (Lengths(zipped=(("l", "m"),), longest=True), 3),
        (Lengths(known=(0,)), 0),
    ],
)
def test_products_and_zips(lengths: Lengths, count: int) -> None:
    d = Driver(Node("l"), Node("m"), Node("each", ("l", "m"), mapped=lengths)).begin()
    d.finish("l", Succeeded(length=3))
    d.finish("m", Succeeded(length=2))
    assert len(d.ready) == count
    if not count:
        assert d.states()["each"] == "skipped"


def test_no_values_skip_and_too_many_fail() -> None:
    for length, state in ((0, "skipped"), (MAX_MAPPED + 1, "failed")):
        d = Driver(Node("l"), Node("each", ("l",), mapped=Lengths(tasks=("l",)))).begin()
        d.finish("l", Succeeded(length=length))
        assert d.states()["each"] == state


def test_a_map_over_a_mapped_task_has_one_for_each_that_went_well() -> None:
    nodes = [
        Node("a", mapped=Lengths(known=(3,))),
        Node("b", ("a",), TriggerRule.NONE_FAILED, mapped=Lengths(tasks=("a",))),
    ]
    d = Driver(*nodes).begin()
    d.finish("a", index=0)
    d.finish("a", Skipped(), index=1)
    d.finish("a", index=2)
    assert sorted(d.ready) == [("b", 0), ("b", 1)]


def test_a_map_over_what_failed_is_upstream_failed_whatever_its_rule() -> None:
    d = Driver(Node("l"), Node("each", ("l",), TriggerRule.ALL_DONE, mapped=Lengths(tasks=("l",)))).begin()
    d.finish("l", Failed())
    assert d.states()["each"] == "upstream_failed"


def test_a_mapped_group_goes_index_by_index() -> None:
    lengths = Lengths(tasks=("l",))
    nodes = [Node("l"), Node("g.a", ("l",), mapped=lengths, scope="g"),
             Node("g.b", ("g.a",), mapped=lengths, scope="g"), Node("end", ("g.b",), TriggerRule.ALL_DONE)]  # fmt: skip
    d = Driver(*nodes).begin()
    d.finish("l", Succeeded(length=2))
    d.finish("g.a", Failed(), index=0)
    d.finish("g.a", index=1)
    assert d.ready == [("g.b", 1)]
    assert d.states()["g.b[0]"] == "upstream_failed"
    d.finish("g.b", index=1)
    d.finish("end")
    assert d.end is RunState.PUBLISHING


def test_clearing_the_source_of_a_map_forgets_how_many_there_were() -> None:
    d = Driver(Node("l"), Node("each", ("l",), mapped=Lengths(tasks=("l",))), Node("end", ("each",))).begin()
    d.finish("l", Succeeded(length=3))
    for index in range(3):
        d.finish("each", index=index)
    d.apply(Cleared(("l",)))
    d.ready = [key for key in d.ready if key[0] == "l"]
    d.finish("l", Succeeded(length=1))
    assert d.states() == {"l": "success", "each[0]": "scheduled", "end": "none"}
    d.finish("each", index=0)
    assert d.book.instances[("each", 0)].tries == 2
    d.ready = [("end", WHOLE)]
    d.finish("end")
    assert d.end is RunState.PUBLISHING


# Graphs


def test_graphs_refuse_circles_doubles_and_unknown_tasks() -> None:
    with pytest.raises(DefinitionError, match="Two tasks are called"):
        Graph([Node("a"), Node("a")])
    with pytest.raises(UnknownName, match='no task "b"'):
        Graph([Node("a", ("b",))])
    with pytest.raises(DefinitionError, match=r"in a circle: (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)\."):
        Graph([Node("a", ("c",)), Node("b", ("a",)), Node("c", ("b",)), Node("d", ("c",))])
