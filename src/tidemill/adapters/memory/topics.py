"""Port `topic` in memory, for tests: the promises of a broker's, within one process. Threads may share it.

Readers, writers and members are in `topic_ends.py`; here is what they share.
"""

from __future__ import annotations

import threading
import uuid
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tidemill.adapters.memory.topic_ends import MemoryMember, MemoryReader, MemoryWriter
from tidemill.model.errors import Busy, Fenced, Refused, UnknownName
from tidemill.model.stream import Guarantee
from tidemill.plan.partitioning import Columns, KnownPlaces, largest
from tidemill.ports.clock import Clock
from tidemill.ports.topic import SESSION, Headers, Messages, Partition, Position, TaskInputs, TopicInfo, TopicSpec


@dataclass(slots=True)
class Log:
    """One partition: element i of each column belongs to message i."""

    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    #: Below it nothing is kept.
    first: int = 0
    end: int = 0

    def append(self, columns: Columns) -> None:
        """Add messages at the end."""
        many = len(columns)
        self.offsets.extend(range(self.end, self.end + many))
        self.timestamps.extend(columns.timestamps)
        self.keys.extend(columns.keys)
        self.values.extend(columns.values)
        self.headers.extend(columns.headers or ((),) * many)
        self.end += many

    def trim(self, offset: int) -> None:
        """Let messages before an offset go."""
        self.keep(range(bisect_left(self.offsets, offset), len(self.offsets)))
        self.first = max(self.first, offset)

    def waiting(self, offset: int) -> int:
        """How many messages there are from an offset on."""
        return len(self.offsets) - bisect_left(self.offsets, offset)

    def read(self, partition: Partition, offset: int, many: int) -> Messages:
        """Messages from an offset on."""
        start = bisect_left(self.offsets, offset)
        part = slice(start, start + many)
        headers = self.headers[part]
        return Messages(
            partition,
            self.offsets[part],
            self.timestamps[part],
            self.keys[part],
            self.values[part],
            headers if any(headers) else None,
        )

    def keep(self, places: Sequence[int]) -> None:
        """Forget all but the messages at these places."""
        columns: tuple[list[Any], ...] = (self.offsets, self.timestamps, self.keys, self.values, self.headers)
        for column in columns:
            column[:] = [column[i] for i in places]


@dataclass(eq=False, slots=True)
class Topic:
    """A topic; one that is deleted and made again is another one."""

    spec: TopicSpec
    logs: list[Log]
    places: KnownPlaces
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(eq=False, slots=True)
class Group:
    """Members with the end of their sessions, who has which task, and how far the group has come."""

    members: dict[str, float] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    positions: dict[Partition, Position] = field(default_factory=dict)

    def expel(self, now: float) -> None:
        """Take out members whose session is over."""
        for member in [name for name, until in self.members.items() if until <= now]:
            self.leave(member)

    def leave(self, member: str) -> None:
        """Take a member out; its tasks are nobody's."""
        self.members.pop(member, None)
        for task in [task for task, owner in self.owners.items() if owner == member]:
            del self.owners[task]

    def check(self, member: str, now: float) -> None:
        """Raise Fenced unless it is a member."""
        if self.members.get(member, now) <= now:
            raise Fenced("This member's session is over: its tasks may be another one's.")


class MemoryTopics:
    """Topics in lists.

    Args:
        clock: dates messages, ends sessions, and is what waiting readers sleep by.
    """

    in_metadata = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.topics: dict[str, Topic] = {}
        self.groups: dict[str, Group] = {}
        #: The epoch of the newest exactly-once writer of each identity.
        self.epochs: dict[str, int] = {}

    def create(self, spec: TopicSpec) -> TopicInfo:
        """Make a topic, or find it made. Raises Refused."""
        with self.lock:
            known = self.topics.get(spec.name)
            if known is None:
                logs = [Log() for _ in range(spec.partitions)]
                self.topics[spec.name] = Topic(spec, logs, KnownPlaces(spec.partitions))
            elif (known.spec.partitions, known.spec.cleanup) != (spec.partitions, spec.cleanup):
                raise Refused(
                    f'Topic "{spec.name}" is there with {known.spec.partitions} partitions and clean-up '
                    f'"{known.spec.cleanup}", not {spec.partitions} and "{spec.cleanup}".',
                    hint="delete it, or choose another name",
                )
            return self._info(self.topics[spec.name])

    def describe(self, name: str, timeout: float | None = None) -> TopicInfo | None:
        """A topic as it is now; None: there is none."""
        with self.lock:
            found = self.topics.get(name)
            return self._info(found) if found else None

    def names(self) -> list[str]:
        """All topics in order."""
        with self.lock:
            return sorted(self.topics)

    def delete(self, name: str) -> None:
        """Remove a topic with all messages, and how far groups have come in it. Raises UnknownName."""
        with self.lock:
            self.topic(name)
            del self.topics[name]
            for group in self.groups.values():
                for partition in [one for one in group.positions if one.topic == name]:
                    del group.positions[partition]

    def trim(self, upto: Mapping[Partition, int]) -> None:
        """Let messages before these offsets go."""
        with self.lock:
            for partition, offset in upto.items():
                log = self.log(partition)
                if self.topic(partition.topic).spec.cleanup == "compact":
                    raise Refused(f'Topic "{partition.topic}" compacts: what it keeps goes by key.')
                log.trim(min(offset, log.end))

    def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        """By partition: the offset of the first message that is not older than `timestamp`; the end without one."""
        with self.lock:
            return tuple(
                next((o for o, t in zip(log.offsets, log.timestamps, strict=True) if t >= timestamp), log.end)
                for log in self.topic(topic).logs
            )

    def reader(self, *, ahead: int = 200_000) -> MemoryReader:
        """Open a reader; nothing waits in it, as all is in memory."""
        return MemoryReader(self)

    def writer(self, identity: str, guarantee: Guarantee = "at-least-once") -> MemoryWriter:
        """Open a writer; an exactly-once one fences those of the same identity."""
        with self.lock:
            epoch = None
            if guarantee == "exactly-once":
                epoch = self.epochs[identity] = self.epochs.get(identity, 0) + 1
            return MemoryWriter(self, identity, epoch)

    def member(
        self,
        group: str,
        tasks: int,
        *,
        session: timedelta = SESSION,
        inputs: Mapping[Partition, int] | None = None,
    ) -> MemoryMember:
        """Join a group."""
        return MemoryMember(self, group, TaskInputs(tasks, inputs), session)

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        """How far a group has come."""
        with self.lock:
            known = self.group(group).positions
            return {partition: known[partition] for partition in partitions if partition in known}

    def reset(self, group: str, positions: Mapping[Partition, int | None]) -> None:
        """Set how far a group has come. Raises Busy."""
        with self.lock:
            found = self.group(group)
            found.expel(self.clock.monotonic())
            if found.members:
                raise Busy(f'Group "{group}" has {len(found.members)} members.', hint="stop them first")
            for partition in positions:
                self.log(partition)
            for partition, offset in positions.items():
                if offset is None:
                    found.positions.pop(partition, None)
                else:
                    found.positions[partition] = Position(offset)

    def tidy(self, now: datetime) -> None:
        """Remove what the topics' clean-up says: old messages, or all but the newest of each key."""
        with self.lock:
            for topic in self.topics.values():
                for log in topic.logs:
                    if topic.spec.cleanup == "compact":
                        newest = {key: at for at, key in enumerate(log.keys)}
                        log.keep([at for key, at in sorted(newest.items(), key=lambda one: one[1])
                                  if key is None or log.values[at] is not None])  # fmt: skip
                    elif topic.spec.retention is not None:
                        oldest = (now - topic.spec.retention).timestamp() * 1000
                        kept = (o for o, t in zip(log.offsets, log.timestamps, strict=True) if t >= oldest or t < 0)
                        log.trim(next(kept, log.end))

    def close(self) -> None:
        """Nothing to let go: what others hold stays good."""

    # -- for readers, writers and members, which hold the lock

    def topic(self, name: str) -> Topic:
        """A topic. Raises UnknownName."""
        found = self.topics.get(name)
        if found is None:
            raise UnknownName.of("topic", name, self.topics)
        return found

    def log(self, partition: Partition) -> Log:
        """A partition. Raises UnknownName."""
        logs = self.topic(partition.topic).logs
        if not 0 <= partition.number < len(logs):
            known = [f"{partition.topic}[{number}]" for number in range(len(logs))]
            raise UnknownName.of("partition", str(partition), known)
        return logs[partition.number]

    def group(self, name: str) -> Group:
        """A group, made on first use."""
        return self.groups.setdefault(name, Group())

    def _info(self, topic: Topic) -> TopicInfo:
        first, end = tuple(log.first for log in topic.logs), tuple(log.end for log in topic.logs)
        return TopicInfo(topic.spec.name, first, end, topic.spec.cleanup, largest(topic.spec.options), topic.id)
