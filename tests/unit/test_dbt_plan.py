"""Which tasks a dbt project becomes: order, tests, what is passed over."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.dbt import DbtGraph, DbtNode
from tidemill.plan.dbt import DbtTask, tasks_of


def node(id_: str, *parents: str, **more: object) -> DbtNode:
    kind, _, name = id_.partition(".")
    relation = None if kind in ("test", "unit_test") else f"db.main.{name}"
    return DbtNode(**{"id": id_, "kind": kind, "name": name, "parents": parents, "package": "shop",
                      "relation": relation, **more})  # fmt: skip


def graph(*nodes: DbtNode) -> DbtGraph:
    return DbtGraph("shop", "duckdb", {one.id: one for one in nodes})


def by_label(tasks: list[DbtTask]) -> dict[str, DbtTask]:
    return {task.label: task for task in tasks}


def test_models_seeds_and_snapshots_are_tasks_with_the_edges_of_the_manifest() -> None:
    made = tasks_of(graph(node("snapshot.s", "model.b"), node("model.b", "seed.a"), node("seed.a")))
    assert [(one.label, one.command, one.after) for one in made] == [
        ("a", "seed", ()), ("b", "run", ("a",)), ("s", "snapshot", ("b",)),
    ]  # fmt: skip
    assert by_label(made)["b"].reads == ("db.main.a",)
    assert by_label(made)["b"].writes == ("db.main.b",)


def test_what_is_made_from_a_node_waits_for_its_tests() -> None:
    made = by_label(tasks_of(graph(node("model.a"), node("test.t", "model.a"), node("model.b", "model.a"))))
    assert made["a.test"].nodes == ("test.t",)
    assert made["a.test"].after == ("a",)
    assert made["b"].after == ("a.test",)


def test_a_test_of_two_nodes_hangs_on_the_deeper_and_waits_for_both() -> None:
    made = by_label(
        tasks_of(graph(node("seed.z"), node("seed.a"), node("model.b", "seed.a"), node("test.t", "model.b", "seed.z")))
    )
    assert "z.test" not in made
    assert set(made["b.test"].after) == {"b", "z"}


def test_ephemeral_and_unselected_models_are_passed_over() -> None:
    made = by_label(
        tasks_of(
            graph(
                node("model.a"),
                node("model.e", "model.a", materialized="ephemeral", relation=None),
                node("model.off", "model.e", chosen=False),
                node("model.b", "model.off"),
            )
        )
    )
    assert set(made) == {"a", "b"}
    assert made["b"].after == ("a",)
    assert made["b"].reads == ("db.main.off",), "it reads that table, whoever made it"


def test_sources_are_tested_and_asked_how_old_they_are() -> None:
    parts = graph(
        node("source.o.raw", checks_freshness=True), node("test.t", "source.o.raw"), node("model.a", "source.o.raw")
    )
    made = by_label(tasks_of(parts, freshness=True))
    assert made["o.raw.freshness"].command == "source freshness"
    assert made["o.raw.test"].after == ("o.raw.freshness",)
    assert made["a"].after == ("o.raw.test",)
    assert set(by_label(tasks_of(parts, tests=False))) == {"a"}


def test_two_models_of_one_name_in_two_packages_are_two_tasks() -> None:
    made = tasks_of(graph(node("model.other.a", name="a", package="other"), node("model.shop.a", name="a")))
    assert {one.label for one in made} == {"a", "other.model.a"}
    assert next(one for one in made if one.label == "a").nodes == ("model.shop.a",)


def test_a_graph_comes_back_from_json() -> None:
    made = graph(node("model.a", doc="d", tags=("x",)), node("test.t", "model.a"))
    assert DbtGraph.from_json(made.as_json()) == made


@st.composite
def projects(draw: st.DrawFn) -> DbtGraph:
    count = draw(st.integers(1, 9))
    ids = [f"model.m{number}" for number in range(count)]
    nodes = []
    for at, id_ in enumerate(ids):
        parents = draw(st.lists(st.sampled_from(ids[:at]), unique=True, max_size=3)) if at else []
        chosen = draw(st.booleans() | st.just(True))
        kind = draw(st.sampled_from(["table", "ephemeral", "view"]))
        nodes.append(node(id_, *parents, chosen=chosen, materialized=kind))
    for number in range(draw(st.integers(0, 6))):
        parents = draw(st.lists(st.sampled_from(ids), unique=True, min_size=1, max_size=3))
        nodes.append(node(f"test.t{number}", *parents))
    return graph(*draw(st.permutations(nodes)))


@given(projects())
def test_no_task_waits_in_a_circle_and_every_test_runs_once_after_all_that_it_looks_at(project: DbtGraph) -> None:
    made = tasks_of(project)
    done: dict[str, set[str]] = {}
    for task in made:  # upstreams come first: so there is no circle
        done[task.label] = {task.label}.union(*(done[one] for one in task.after))
    ran = [id_ for task in made for id_ in task.nodes]
    assert len(ran) == len(set(ran))
    assert {id_ for id_, one in project.nodes.items() if one.kind == "test"} <= set(ran)
    labels = {id_: task.label for task in made for id_ in task.nodes}
    for task in made:
        for id_ in task.nodes:
            for parent in _above(project, id_):
                if parent in labels:
                    assert labels[parent] in done[task.label]


def _above(project: DbtGraph, id_: str) -> set[str]:
    found: set[str] = set()
    todo = list(project.nodes[id_].parents)
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += project.nodes[one].parents
    return found
