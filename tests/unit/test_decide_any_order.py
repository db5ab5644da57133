"""Whatever the graph and the order of events: decisions by counting equal those of a look at everything."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.book import NOW, Driver
from harness.examples import few
from tidemill.model.graph import WHOLE, Lengths, Node, Retry, TaskKey, TriggerRule
from tidemill.model.instance import (
    Begun,
    Dispatched,
    Due,
    Ended,
    Failed,
    Instance,
    Lost,
    Rescheduled,
    Skipped,
    Succeeded,
)
from tidemill.model.run import TASK_ENDS, RunState, TaskState
from tidemill.plan.decide import LIVE, RunBook
from tidemill.plan.trigger import Tally, Verdict, judge

S = TaskState

# Any graph, any order of events


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    """Up to eight tasks; some mapped, some of those in one scope."""
    nodes: list[Node] = []
    for at in range(draw(st.integers(1, 8))):
        above = tuple(f"t{n}" for n in sorted(draw(st.sets(st.integers(0, max(at - 1, 0)), max_size=3)))) if at else ()
        kind = draw(st.sampled_from(["plain", "plain", "plain", "mapped", "scoped"])) if at else "plain"
        source = draw(st.sampled_from([n.id for n in nodes if n.mapped is None] or [""]))
        mapped = None
        scope = None
        if kind == "mapped" and source:
            mapped, above = Lengths(tasks=(source,)), tuple(dict.fromkeys((*above, source)))
        elif kind == "scoped":
            mapped, scope = Lengths(tasks=("t0",)), "g"
            above = above or ("t0",)
        rule = draw(st.sampled_from(TriggerRule))
        retry = Retry(draw(st.integers(0, 1)), timedelta(seconds=1))
        nodes.append(Node(f"t{at}", above, rule, retry, mapped, scope, setup=draw(st.booleans())))
    return nodes


def naive(book: RunBook, key: TaskKey) -> Verdict:
    """The verdict from a look at every upstream instance."""
    graph = book.graph
    node = graph.nodes[key[0]]
    seen = Tally()
    expanded = {id_ for id_, index in book.instances if index != WHOLE}
    for above in set(node.upstream):
        upstream = graph.nodes[above]
        same = upstream.scope is not None and upstream.scope == node.scope and {above, node.id} <= expanded
        keys = [(above, key[1])] if same else [k for k in book.instances if k[0] == above]
        for each in keys:
            seen.total += 1
            seen.setups += upstream.setup
            seen.count(book.instances[each].state, 1, setup=upstream.setup)
    return judge(node.rule, seen)


def check(book: RunBook) -> None:
    """Nothing waits that could be decided, and the counters are right."""
    for key, known in book.instances.items():
        node = book.graph.nodes[key[0]]
        if known.state is S.NONE and not book.cancelled and not (node.mapped and key[1] == WHOLE):
            assert naive(book, key) is Verdict.WAIT, key
    assert book.open == sum(known.state not in TASK_ENDS for known in book.instances.values())


@settings(max_examples=few(200), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(nodes=graphs(), data=st.data())
def test_any_order_of_events_ends_every_run_rightly(nodes: list[Node], data: st.DataObject) -> None:
    """Each task starts only when its rule allows it; a book that was written down and read again goes on the same."""
    d = Driver(*nodes).begin()
    record: dict[TaskKey, Instance] = dict(d.book.instances)
    for _ in range(300):
        check(d.book)
        live = [key for key, known in d.book.instances.items() if known.state in LIVE]
        waiting = [k for k, known in d.book.instances.items() if known.state in (S.UP_FOR_RETRY, S.UP_FOR_RESCHEDULE)]
        moves = [("dispatch", key) for key in d.ready] + [("end", key) for key in live] + [("due", k) for k in waiting]
        if not moves:
            break
        move, key = data.draw(st.sampled_from(moves))
        if move == "dispatch":
            assert naive(d.book, key) is not Verdict.WAIT or d.book.instances[key].tries, (
                "it started before its rule held"
            )
            d.ready.remove(key)
            step = d.apply(Dispatched(key))
        elif move == "due":
            step = d.apply(Due(key))
        else:
            outcome = data.draw(
                st.sampled_from([Succeeded(2), Succeeded(0), Succeeded(1), Failed("x"), Skipped(), "lost",
                                 Rescheduled(NOW)])
            )  # fmt: skip
            number = d.book.instances[key].tries
            step = d.apply(Lost(key, number) if outcome == "lost" else Ended(key, number, outcome))
        for change in step.changes:
            record[change.key] = change.after
            if change.key[1] != WHOLE:
                record.pop((change.key[0], WHOLE), None)
        assert {k: v for k, v in record.items() if v.state is not S.REMOVED} == d.book.instances
        if data.draw(st.integers(0, 9)) == 0:
            d.book = RunBook(d.book.graph, "run", record)
            d.ready = []
            d.apply(Begun())
    assert d.end in (RunState.PUBLISHING, RunState.FAILED), d.states()
    assert not d.book.open


def test_a_completion_costs_the_same_in_a_large_run() -> None:
    """Ten thousand before one: each end is one count, not a look at ten thousand."""
    many = [Node(f"t{n}") for n in range(10_000)]
    d = Driver(*many, Node("end", tuple(n.id for n in many))).begin()
    ready = list(d.ready)
    looked = 0
    for key in ready[:-1]:
        d.apply(Dispatched(key))
        looked += len(d.apply(Ended(key, 1, Succeeded())).changes)
    assert looked == 2 * (len(ready) - 1)
    assert d.states()["end"] == "none"
    d.apply(Dispatched(ready[-1]))
    d.apply(Ended(ready[-1], 1, Succeeded()))
    assert d.states()["end"] == "scheduled"


def test_instances_are_values() -> None:
    assert replace(Instance(), tries=1) == Instance(tries=1)
