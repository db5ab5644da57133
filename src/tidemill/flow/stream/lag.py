"""How far behind a stream is: by partition, in messages and in time. Offsets say so, whoever runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tidemill.flow.stream.facts import TABLE, ProcessFacts, outbox_of
from tidemill.model.frame.topic import Loaded
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import Partition, TopicInfo, Topics, moment_of

if TYPE_CHECKING:
    from tidemill.flow.stream.plan import StreamPlan
    from tidemill.flow.stream.topic_archive import Archived
    from tidemill.plan.topology import Node

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


def lag_of(plan: StreamPlan, topics: Topics, loaded: Callable[[Node], int | None], *, times: bool = True) -> list[Lag]:
    """How far behind a stream is in all that it reads, topics of its own included.

    Args:
        plan: the stream.
        topics: the broker.
        loaded: how far the rows of a sink have been loaded; None: nobody can say.
        times: also look at the messages that wait, for their time.
    """
    from tidemill.plan.topology import sinks  # it loads Polars, and whoever goes by facts does without

    inputs = [plan.topic_of(node) for node in plan.topology.nodes if node.kind != "step"]
    found = [lag for topic in dict.fromkeys(inputs) for lag in lag_in(plan.name, topics, topic)]
    for node in sinks(plan.topology):
        if isinstance(node.step, Loaded):
            found.append(_waiting(topics, plan.outbox(node), node.step.place, loaded(node)))
    return [_with_time(topics, one) for one in found] if times else found


def lag_by_facts(
    told: Iterable[ProcessFacts], topics: Topics, loaded: Callable[[str, str], int], *, own: bool = False
) -> list[Lag]:
    """The same of one stream, by what its processes have told, without its code.

    Args:
        told: of one stream.
        topics: the broker.
        loaded: how far the rows for a table are in it, by stream and table.
        own: only partitions of tasks that these processes have.
    """
    found: dict[Partition, Lag] = {}
    asked: dict[str, list[Lag]] = {}
    for one in told:
        for number, node in one.nodes.items():
            if node.reads:
                if node.reads not in asked:
                    asked[node.reads] = lag_in(one.stream, topics, node.reads)
                mine = (lag for lag in asked[node.reads] if not own or one.has(node.stage, lag.partition.number))
                found |= {lag.partition: lag for lag in mine}
            elif node.writes.startswith(TABLE) and (not own or one.loads(number)):
                table = node.writes.removeprefix(TABLE)
                lag = _waiting(topics, outbox_of(one.stream, table), table, loaded(one.stream, table))
                found[lag.partition] = lag
    return [found[partition] for partition in sorted(found)]


def archive_lag(info: TopicInfo, archived: Archived) -> list[Lag]:
    """What of a topic is not in its archive yet."""
    spans = enumerate(zip(info.first, info.end, strict=True))
    return [Lag(Partition(info.name, n), archived.end.get(n), first, end) for n, (first, end) in spans]


def loaded_until(tx: Tx, stream: str, table: str) -> int:
    """How far the rows that wait for a table are in it, as their loader's bookmark says."""
    pipeline, _, name = stream.partition(".")
    mark = tx.bookmarks.get(pipeline, f"{name}>{table}").value
    return int((mark or {}).get("offset", 0))  # type: ignore[union-attr]  # as the loader writes it


def _waiting(topics: Topics, outbox: str, place: str, loaded: int | None) -> Lag:
    info = topics.describe(outbox)
    first, end = (info.first[0], info.end[0]) if info is not None else (0, 0)
    return Lag(Partition(outbox, 0), loaded, first, end, loads=place)


def lag_in(stream: str, topics: Topics, topic: str) -> list[Lag]:
    """How far behind a stream is in one topic, by partition; empty where there is no such topic."""
    info = topics.describe(topic)
    if info is None:
        return []
    partitions = [Partition(topic, number) for number in range(info.partitions)]
    came = topics.committed(stream, partitions)
    return [Lag(p, came[p].offset if p in came else None, info.first[p.number], info.end[p.number]) for p in partitions]


def _with_time(topics: Topics, lag: Lag) -> Lag:
    if not lag.behind:
        return lag
    reader = topics.reader(ahead=1)
    try:
        reader.take({lag.partition: max(lag.first, lag.committed or 0)})
        for messages in reader.read(1, _WAIT):
            if len(messages):
                at = moment_of(messages.timestamps[0])
                return Lag(lag.partition, lag.committed, lag.first, lag.end, at, lag.loads)
    finally:
        reader.close()
    return lag
