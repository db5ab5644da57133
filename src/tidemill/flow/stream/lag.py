"""How far behind a stream is: by partition, in messages and in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tidemill.flow.stream.plan import StreamPlan
from tidemill.model.frame.topic import ToTable
from tidemill.plan.topology import Node, sinks
from tidemill.ports.topic import Partition, Topics

#: Seconds to wait for the first message that waits.
_WAIT = 0.5


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition that a stream reads.

    Args:
        partition: which.
        committed: the next offset that does not count yet; None: nothing was committed.
        first, end: of what the partition holds.
        waiting_since: the time of the oldest message that waits; None: none does, or it has no time.
        loads: the table that rows wait for here.
    """

    partition: Partition
    committed: int | None
    first: int
    end: int
    waiting_since: datetime | None = None
    loads: str | None = None

    @property
    def behind(self) -> int:
        """Messages that wait."""
        return max(0, self.end - max(self.first, self.committed or 0))


def lag_of(plan: StreamPlan, topics: Topics, loaded: Callable[[Node], int], *, times: bool = True) -> list[Lag]:
    """How far behind a stream is in all that it reads, topics of its own included.

    Args:
        plan: the stream.
        topics: the broker.
        loaded: how far the rows of a table's sink are in the table.
        times: also look at the messages that wait, for their time.
    """
    found: list[Lag] = []
    for node in plan.topology.nodes:
        if node.kind != "step":
            topic = plan.topic_of(node)
            if all(one.partition.topic != topic for one in found):
                found += _partitions(plan, topics, topic)
    for node in sinks(plan.topology):
        if isinstance(node.step, ToTable):
            info = topics.describe(plan.outbox(node))
            first, end = (info.first[0], info.end[0]) if info is not None else (0, 0)
            found.append(Lag(Partition(plan.outbox(node), 0), loaded(node), first, end, loads=node.step.table))
    return [_with_time(topics, one) for one in found] if times else found


def _partitions(plan: StreamPlan, topics: Topics, topic: str) -> list[Lag]:
    info = topics.describe(topic)
    if info is None:
        return []
    partitions = [Partition(topic, number) for number in range(info.partitions)]
    came = topics.committed(plan.name, partitions)
    return [Lag(p, came[p].offset if p in came else None, info.first[p.number], info.end[p.number]) for p in partitions]


def _with_time(topics: Topics, lag: Lag) -> Lag:
    if not lag.behind:
        return lag
    reader = topics.reader(ahead=1)
    try:
        reader.take({lag.partition: max(lag.first, lag.committed or 0)})
        for messages in reader.read(1, _WAIT):
            if len(messages) and messages.timestamps[0] >= 0:
                at = datetime.fromtimestamp(messages.timestamps[0] / 1000, UTC)
                return Lag(lag.partition, lag.committed, lag.first, lag.end, at, lag.loads)
    finally:
        reader.close()
    return lag
