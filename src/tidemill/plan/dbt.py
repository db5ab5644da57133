"""Which tasks a dbt project becomes: pure, from its nodes.

model, seed, snapshot -> a task of that name
its tests             -> a task `<name>.test` right after it, before what is made from it
source                -> `<source>.<table>.freshness` and `.test`, where there is something to do
ephemeral, unselected -> no task: edges pass through
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidemill.model.dbt import COMMANDS, TESTS, DbtGraph, DbtNode


@dataclass(frozen=True, slots=True)
class DbtTask:
    """A task.

    Args:
        label: its id within the project's group.
        command: dbt's: run, seed, snapshot, test, source freshness.
        nodes: ids of the nodes that it runs.
        after: labels of tasks right before it.
        shown: the node that it is about.
        reads: relations that it reads. `writes`: the one that it writes.
    """

    label: str
    command: str
    nodes: tuple[str, ...]
    after: tuple[str, ...]
    shown: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


def tasks_of(graph: DbtGraph, *, tests: bool = True, freshness: bool = False) -> list[DbtTask]:
    """The tasks of a project, upstreams first.

    Args:
        graph: its nodes.
        tests: run tests, too.
        freshness: ask sources how old they are, where they say how old they may be.
    """
    order = _in_order(graph)
    depths = _depths(graph, order)
    # A test waits for all that it looks at and hangs on the deepest of it: so no two of them wait for each other.
    order.sort(key=lambda id_: depths[id_])
    tested = _tests(graph, order) if tests else {}
    visible = {id_ for id_ in order if _is_task(graph.nodes[id_])}
    names = _labels(graph, order)
    made: list[DbtTask] = []
    first: dict[str, str] = {}
    last: dict[str, str] = {}
    for id_ in order:
        node = graph.nodes[id_]
        near = _near(graph, id_, visible | set(last))
        after = tuple(dict.fromkeys(last[one] for one in near if one in last))
        if id_ in visible:
            label = first[id_] = last[id_] = names[id_]
            writes: tuple[str, ...] = (node.relation,) if node.relation else ()
            made.append(DbtTask(label, COMMANDS[node.kind], (id_,), after, id_, _reads(graph, id_), writes))
        elif freshness and node.kind == "source" and node.chosen and node.checks_freshness:
            label = last[id_] = f"{names[id_]}.freshness"
            reads: tuple[str, ...] = (node.relation,) if node.relation else ()
            made.append(DbtTask(label, "source freshness", (id_,), (), id_, reads))
        if id_ in tested:
            label = f"{names[id_]}.test"
            others = {parent for test in tested[id_] for parent in graph.nodes[test].parents} - {id_}
            before = [last[id_]] if id_ in last else list(after)
            before += [last[one] for other in sorted(others) for one in _near_self(graph, other, set(last))]
            reads = tuple(sorted({r for one in (id_, *others) if (r := graph.nodes[one].relation)}))
            made.append(DbtTask(label, "test", tuple(tested[id_]), tuple(dict.fromkeys(before)), id_, reads))
            last[id_] = label
    return made


def _is_task(node: DbtNode) -> bool:
    return node.chosen and node.kind in COMMANDS and node.materialized != "ephemeral"


def _labels(graph: DbtGraph, order: Iterable[str]) -> dict[str, str]:
    """Names of tasks; those of other packages, where two have one name, with their package."""
    made: dict[str, str] = {}
    taken: set[str] = set()
    for id_ in sorted(order, key=lambda one: graph.nodes[one].package != graph.project):
        node = graph.nodes[id_]
        name = node.name if node.name not in taken else f"{node.package}.{node.kind}.{node.name}"
        taken.add(name)
        made[id_] = name
    return made


def _tests(graph: DbtGraph, order: list[str]) -> dict[str, list[str]]:
    """Tests by the node after which they run: of those that they look at, the deepest."""
    at = {id_: number for number, id_ in enumerate(order)}
    made: dict[str, list[str]] = {}
    for id_, node in graph.nodes.items():
        if node.kind not in TESTS or not node.chosen:
            continue
        seen = [parent for parent in node.parents if parent in at]
        if seen:
            made.setdefault(max(seen, key=lambda one: at[one]), []).append(id_)
    return made


def _depths(graph: DbtGraph, order: Iterable[str]) -> dict[str, int]:
    """How many nodes are above each, on the longest way."""
    made: dict[str, int] = {}
    for id_ in order:
        made[id_] = max((made[up] + 1 for up in graph.nodes[id_].parents if up in made), default=0)
    return made


def _near(graph: DbtGraph, id_: str, stops: set[str]) -> list[str]:
    """The nearest nodes above one that are in `stops`."""
    found: dict[str, None] = {}
    todo, seen = list(graph.nodes[id_].parents), set()
    while todo:
        one = todo.pop(0)
        if one in seen or one not in graph.nodes:
            continue
        seen.add(one)
        if one in stops:
            found[one] = None
        else:
            todo += graph.nodes[one].parents
    return list(found)


def _near_self(graph: DbtGraph, id_: str, stops: set[str]) -> list[str]:
    return [id_] if id_ in stops else _near(graph, id_, stops)


def _reads(graph: DbtGraph, id_: str) -> tuple[str, ...]:
    """Relations right above a node; of ephemeral ones what is above them."""
    tables = {one for one, node in graph.nodes.items() if node.relation}
    return tuple(sorted({str(graph.nodes[one].relation) for one in _near(graph, id_, tables)}))


def _in_order(graph: DbtGraph) -> list[str]:
    """Ids of nodes that are no tests, upstreams first, else as in the manifest."""
    nodes: Mapping[str, DbtNode] = {id_: node for id_, node in graph.nodes.items() if node.kind not in TESTS}
    made: dict[str, None] = {}
    for start in nodes:
        stack = [start]
        while stack:
            one = stack[-1]
            missing = [up for up in nodes[one].parents if up in nodes and up not in made and up not in stack]
            if missing and one not in made:
                stack.append(missing[0])
            else:
                made[stack.pop()] = None
    return list(made)
