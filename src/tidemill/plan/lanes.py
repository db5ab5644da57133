"""Lanes: where rows come from that have an order among each other. Each has a number for life."""

from __future__ import annotations

from tidemill.model.frame.operation import JoinAsof, JoinInterval
from tidemill.model.frame.topic import Topic
from tidemill.plan.stream_steps import is_stateful, keeps_rows
from tidemill.plan.topology import Topology

#: Partitions of a topic at most: lane numbers are made of the node's number and the partition's.
MOST = 2**15


def lane_of(node: int, task: int) -> int:
    """The lane that begins at a node in a task."""
    return node * MOST + task


def origin_of(lane: int) -> int:
    """The node that a lane begins at."""
    return lane // MOST


def topics_before(topology: Topology, number: int) -> list[Topic]:
    """The topics that a node's rows come of."""
    node = topology.nodes[number]
    if node.kind == "source":
        return [node.topic]
    return [topic for parent in node.parents for topic in topics_before(topology, parent)]


def depths(topology: Topology) -> list[int]:
    """By node: how many exchanges its rows have come through at most."""
    found: list[int] = []
    for node in topology.nodes:
        found.append(max((found[parent] for parent in node.parents), default=0) + (node.kind == "exchange"))
    return found


def lanes_at(topology: Topology, number: int, task: int) -> frozenset[int]:
    """The lanes of the rows that a node gives in a task."""
    node = topology.nodes[number]
    if task >= node.spread.tasks:  # a stage may have more tasks than one of its inputs, or than an exchange
        return frozenset()
    if node.kind == "source":
        return frozenset({lane_of(number, task)})
    if node.kind == "exchange":
        before = topology.nodes[node.parents[0]]
        tasks = range(topology.tasks(before.stage))
        return frozenset(lane for one in tasks for lane in lanes_at(topology, before.number, one))
    assert node.step is not None
    if is_stateful(node.step) and not keeps_rows(node.step):
        return frozenset({lane_of(number, task)})
    parents = node.parents[:1] if isinstance(node.step, JoinAsof | JoinInterval) else node.parents
    return frozenset(lane for parent in parents for lane in lanes_at(topology, parent, task))
