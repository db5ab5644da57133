"""Which columns of a topic a stream uses: others need not be read from its messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from tidemill.model.agg import Aggregate, ByTime
from tidemill.model.frame.operation import (
    Cast,
    Concat,
    Drop,
    Explode,
    Filter,
    GroupBy,
    Join,
    JoinAsof,
    JoinInterval,
    JoinLookup,
    Rename,
    Select,
    Unique,
    Unnest,
    Windowed,
    WithColumns,
)
from tidemill.model.frame.topic import Expect
from tidemill.plan.topology import Node, Topology


def needed_columns(topology: Topology, source: int) -> tuple[str, ...] | None:
    """The columns of a source's topic that the stream uses, in their order; None: all."""
    node = topology.nodes[source]
    if node.columns is None:
        return None
    wanted = _wanted(topology, node)
    if node.topic.time is not None:
        wanted = wanted | {node.topic.time}
    found = tuple(name for name in node.columns if name in wanted)
    return found or node.columns[:1]


def _wanted(topology: Topology, node: Node) -> frozenset[str]:
    """The columns of a node's rows that something below uses; unknown ones are used."""
    everything = frozenset(node.columns or ("*",))
    found = {stamp.column for stamp in node.stamps}
    children = topology.children(node.number)
    if not children:
        return everything
    for child in children:
        if child.kind == "exchange":
            found |= _wanted(topology, child) | set(child.by)
        elif child.columns is None or node.columns is None:
            found |= everything
        else:
            found |= _through(topology, child, node, everything)
    return frozenset(found)


def _through(topology: Topology, child: Node, node: Node, everything: frozenset[str]) -> AbstractSet[str]:
    step = child.step
    assert step is not None
    below = _wanted(topology, child)
    match step:
        case Select():
            return _roots((*step.columns, *step.named.values()), everything)
        case WithColumns():
            written = {*step.named, *(_name(column) for column in step.columns)}
            return (below - written) | _roots((*step.columns, *step.named.values()), everything)
        case Filter():
            return below | _roots(step.conditions, everything)
        case Expect():
            return below | {column for check in step.checks for column in check.columns}
        case Rename():
            older: Mapping[str, str] = {new: old for old, new in step.names.items()}
            return {older.get(name, name) for name in below} | set(step.names)
        case Drop():  # they have to be there all the same: what is dropped and is not there is a mistake
            return (below & everything) | set(step.columns)
        case Cast():
            return (below & everything) | set(step.types)
        case Concat():
            return below & everything
        case Explode():
            return below | set(step.columns)
        case Unnest():
            return (below & everything) | set(step.columns)
        case Unique():
            return below | set(step.keys) | ({step.on} if step.on else set())
        case Windowed() | GroupBy():
            return _of_groups(step, everything)
        case Join() | JoinLookup():
            return (below & everything) | {left for left, _ in step.on}
        case JoinAsof() | JoinInterval() if child.parents[0] == node.number and child.parents.count(node.number) == 1:
            # Right columns of a taken name are called by another: a left column decides what they are called.
            return everything
    return everything


def _of_groups(step: Windowed | GroupBy, everything: frozenset[str]) -> frozenset[str]:
    if isinstance(step, Windowed):
        found = {*step.by, *([step.window.on] if step.window.on else [])}
    else:
        found = set(_roots((*step.keys, *step.named_keys.values()), everything))
    for _, value in step.aggregates:
        if isinstance(value, Aggregate):
            found |= _roots([] if value.of is None else [value.of], everything)
            if isinstance(value, ByTime) and value.on:
                found.add(value.on)
        else:
            found |= _roots([value], everything)
    return frozenset(found)


def _roots(expressions: Iterable[Any], everything: frozenset[str]) -> frozenset[str]:
    """The columns that expressions are made of; all, where that cannot be told."""
    found: set[str] = set()
    for value in expressions:
        if isinstance(value, str):
            found.add(value)
            continue
        meta = getattr(value, "meta", None)
        if meta is None:
            continue  # a plain value
        if meta.has_multiple_outputs() or meta.is_regex_projection():
            return everything
        found.update(meta.root_names())
    return frozenset(found) if found <= everything else everything


def _name(column: Any) -> str:
    return column if isinstance(column, str) else str(column.meta.output_name())
