"""A stream begins anew: what it remembers goes, and it reads its topics from chosen offsets.

Whatever dies when: either the stream goes on as it was, or it is not begun before the reset was done to its end. For
that, state is first marked as of no code; a process that finds it so refuses to begin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.work import CODE
from tidemill.model.errors import Busy, UnknownName
from tidemill.ports.state import StateStores
from tidemill.ports.topic import Partition, Topics

#: Where to begin: an end of what is kept, a time, or an offset.
To = Literal["earliest", "latest"] | datetime | int

#: No code has this fingerprint.
_NONE = b"reset is not finished"


@dataclass(frozen=True, slots=True)
class Reset:
    """What a reset would do.

    Args:
        stream: which.
        positions: where it begins, by partition of the topics that it is fed with; None: where a first start does,
            in a table whose rows have no offsets of the topic.
        before: where it is now; a partition without a commit is missing.
        cleared: its own topics that are emptied.
        stores: state on this computer that is removed.
    """

    stream: str
    positions: Mapping[Partition, int | None]
    before: Mapping[Partition, int]
    cleared: tuple[str, ...]
    stores: tuple[str, ...]


def plan_reset(
    plan: StreamPlan,
    topics: Topics,
    stores: StateStores,
    to: To,
    begin: Callable[[str], tuple[int, ...]] | None = None,
) -> Reset:
    """See what a reset would do; "earliest" is where a first start begins, by `begin`, or what a topic has.

    Raises:
        UnknownName: a topic that it reads is not there.
    """
    positions: dict[Partition, int | None] = {}
    for node in plan.topology.nodes:
        if node.kind == "source":
            positions |= _positions(topics, node.topic.name, to, begin)
    came = topics.committed(plan.name, list(positions))
    cleared = [spec.name for spec in plan.own_topics() if spec.name in _state_topics(plan)]
    return Reset(
        plan.name,
        positions,
        {partition: position.offset for partition, position in came.items()},
        tuple(name for name in cleared if topics.describe(name) is not None),
        tuple(name for name in stores.names() if name.startswith(f"{plan.name}/")),
    )


def do_reset(reset: Reset, plan: StreamPlan, topics: Topics, stores: StateStores) -> None:
    """Do it.

    Raises:
        Busy: the stream runs.
    """
    _see_nobody(reset, topics)
    changelogs = [plan.changelog(stage) for stage in plan.topology.stages if plan.keeps_state(stage)]
    writer = topics.writer(f"{plan.name}.reset", "exactly-once")
    try:
        for name in changelogs:
            info = topics.describe(name)
            for number in range(info.partitions if info is not None else 0):
                writer.send(name, [_NONE], keys=[CODE], partitions=number)
        writer.commit({})
    finally:
        writer.close()
    exchanges = [name for name in reset.cleared if name not in changelogs]
    forgotten = [p for name in exchanges for p in _positions(topics, name, "earliest")]
    topics.reset(plan.name, {**reset.positions, **dict.fromkeys(forgotten)})
    for name in exchanges:
        topics.delete(name)
    for name in reset.stores:
        stores.remove(name)
    for name in changelogs:
        if topics.describe(name) is not None:
            topics.delete(name)
    for spec in plan.own_topics():
        topics.create(spec)


def _see_nobody(reset: Reset, topics: Topics) -> None:
    """Setting what is set already tells whether the group has members."""
    try:
        topics.reset(reset.stream, dict(reset.before))
    except Busy:
        raise Busy(
            f'"{reset.stream}" is running.',
            hint=f"tidemill stream pause {reset.stream}; where it was killed, wait 10 s",
        ) from None


def _state_topics(plan: StreamPlan) -> set[str]:
    names = {plan.exchange(node) for node in plan.topology.nodes if node.kind == "exchange"}
    return names | {plan.changelog(stage) for stage in plan.topology.stages if plan.keeps_state(stage)}


def _positions(
    topics: Topics, topic: str, to: To, begin: Callable[[str], tuple[int, ...]] | None = None
) -> dict[Partition, int | None]:
    info = topics.describe(topic)
    if info is None:
        raise UnknownName.of("topic", topic, topics.names())
    match to:
        case "earliest":
            offsets = info.first if begin is None else begin(topic)
        case "latest":
            offsets = info.end
        case datetime():
            offsets = topics.at(topic, max(0, round(to.timestamp() * 1000)))
        case offset:
            ends = zip(info.first, info.end, strict=True)
            offsets = tuple(min(max(int(offset), first), end) for first, end in ends)
    return {Partition(topic, number): offset if offset >= 0 else None for number, offset in enumerate(offsets)}
