"""Who gets a worker: weights, queues, pools and limits, whatever the order of events."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.model.graph import WHOLE, Node
from tidemill.plan.dispatch import Dispatcher, Place


def places(*ids: str, run: int = 1) -> list[Place]:
    return [(run, (id_, WHOLE)) for id_ in ids]


def ready(dispatcher: Dispatcher, *nodes: Node, run: int = 1) -> None:
    for node in nodes:
        dispatcher.add(run, "p", (node.id, WHOLE), node)


def test_the_heaviest_goes_first_then_whoever_came_first() -> None:
    d = Dispatcher()
    ready(d, Node("a"), Node("b", weight=5), Node("c"))
    assert d.take({"default": 2}) == places("b", "a")
    assert d.take({"default": 2}) == places("c")


def test_queues_have_workers_of_their_own() -> None:
    d = Dispatcher()
    ready(d, Node("a"), Node("g", queue="gpu"))
    assert d.take({"default": 5}) == places("a")
    assert d.take({"gpu": 1}) == places("g")


def test_a_pool_holds_so_many_slots() -> None:
    d = Dispatcher({"db": 3})
    ready(d, Node("a", pool="db", slots=2), Node("b", pool="db", slots=2), Node("c", pool="db"), Node("x"))
    assert d.take({"default": 9}) == places("a", "c", "x")
    assert d.used("db") == 3
    d.release(*places("a")[0])
    assert d.take({"default": 9}) == places("b")


def test_an_unknown_pool_holds_back_until_it_is_made() -> None:
    d = Dispatcher()
    ready(d, Node("a", pool="new"))
    assert d.take({"default": 1}) == []
    d.resize("new", 1)
    assert d.take({"default": 1}) == places("a")


def test_limits_of_tasks_runs_and_pipelines() -> None:
    d = Dispatcher(active={"p": 3})
    each = Node("each", limit=2)
    for run in (1, 2, 3):
        ready(d, each, run=run)
    ready(d, Node("a"), Node("b"), run=4)
    assert d.take({"default": 9}) == [*places("each"), *places("each", run=2), *places("a", run=4)]
    d.release(*places("each")[0])
    assert d.take({"default": 9}) == places("each", run=3)
    one = Dispatcher()
    for index in range(3):
        one.add(1, "p", ("m", index), Node("m", limit_in_run=1))
        one.add(2, "p", ("m", index), Node("m", limit_in_run=1))
    assert one.take({"default": 9}) == [(1, ("m", 0)), (2, ("m", 0))]


def test_what_is_told_twice_or_taken_back_counts_once_or_not() -> None:
    d = Dispatcher()
    ready(d, Node("a"), Node("a"), Node("b"))
    d.discard(1, ("b", WHOLE))
    assert d.take({"default": 9}) == places("a")
    ready(d, Node("a"))
    assert d.take({"default": 9}) == []
    d.release(1, ("a", WHOLE))
    d.release(1, ("a", WHOLE))
    assert d.used("default") == 0


def test_a_run_that_was_taken_over_brings_what_it_occupies() -> None:
    d = Dispatcher({"db": 1})
    d.occupy(1, "p", ("a", WHOLE), Node("a", pool="db"))
    ready(d, Node("b", pool="db"))
    assert d.take({"default": 9}) == []
    d.release(1, ("a", WHOLE))
    assert d.take({"default": 9}) == places("b")


def test_ten_thousand_behind_a_small_pool_are_looked_at_once() -> None:
    d = Dispatcher({"db": 2})
    looks = Counter[str]()
    real = d._full

    def counted(waiting: Any) -> Any:
        looks["full"] += 1
        return real(waiting)

    d._full = counted  # type: ignore[method-assign]  # counts the looks
    ready(d, *(Node(f"t{n}", pool="db") for n in range(10_000)))
    taken = d.take({"default": 8})
    assert len(taken) == 2
    while taken:
        for place in taken:
            d.release(*place)
        taken = d.take({"default": 8})
    assert not d.ready
    assert looks["full"] < 20_010


@settings(max_examples=few(50), deadline=None)
@given(data=st.data())
def test_no_limit_is_ever_exceeded_and_nobody_is_forgotten(data: st.DataObject) -> None:
    """Against a count by hand; in the end everybody has run."""
    pools = {"x": 2, "y": 3}
    d = Dispatcher(pools, {"p": 4})
    nodes = {
        f"t{n}": Node(
            f"t{n}", pool=data.draw(st.sampled_from(["x", "y", "default"])), slots=data.draw(st.integers(1, 2)),
            weight=data.draw(st.integers(1, 3)), limit=data.draw(st.sampled_from([None, 1, 2])),
        )
        for n in range(4)
    }  # fmt: skip
    todo = [(run, (id_, WHOLE)) for run in range(4) for id_ in nodes]
    running: list[Place] = []
    done: set[Place] = set()
    for _ in range(400):
        move = data.draw(st.sampled_from(["add", "take", "release"]))
        if move == "add" and todo:
            run, key = todo.pop(0)
            d.add(run, "p", key, nodes[key[0]])
        elif move == "take":
            running += d.take({"default": data.draw(st.integers(0, 3))})
        elif move == "release" and running:
            place = running.pop(data.draw(st.integers(0, len(running) - 1)))
            d.release(*place)
            done.add(place)
        used = Counter[str]()
        for _, key in running:
            used[nodes[key[0]].pool] += nodes[key[0]].slots
        assert all(used[pool] == d.used(pool) <= size for pool, size in pools.items())
        assert len(running) <= 4
        each = Counter(key[0] for _, key in running)
        assert all(each[id_] <= (node.limit or 99) for id_, node in nodes.items())
    while todo:
        run, key = todo.pop()
        d.add(run, "p", key, nodes[key[0]])
    while running or d.ready:
        for place in running:
            d.release(*place)
            done.add(place)
        running = d.take({"default": 5})
        assert running or not d.ready, "somebody waits for ever"
    assert len(done) == 16
