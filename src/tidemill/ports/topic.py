"""Port `topic`: partitioned logs of messages, and the groups of processes that share the work on them.

A stream's process has one `Member` of its group, which says what work is its own, one `Reader`, which it tells what
to read, and one `Writer`, whose `commit` moves everything that a checkpoint is made of in one step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol, TypeAlias

from tidemill.model.errors import DefinitionError, Fenced
from tidemill.model.frame.topic import Cleanup, Topic
from tidemill.model.stream import Guarantee
from tidemill.plan.partitioning import LARGEST
from tidemill.ports.metadata import Tx

#: A message's headers in order; names may occur again.
Headers: TypeAlias = "Sequence[tuple[str, bytes | None]]"

#: A member that is silent for so long is out of its group, where nothing else is said.
SESSION = timedelta(seconds=10)

#: Bytes of a commit's note that every adapter holds (Kafka's own limit is 4,096).
LONGEST_NOTE = 2_000

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


def moment_of(timestamp: int) -> datetime | None:
    """A message's timestamp as a time; None: it has none, or claims one that no calendar has."""
    try:
        return None if timestamp < 0 else datetime.fromtimestamp(timestamp / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


class Partition(NamedTuple):
    """One log of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class Position(NamedTuple):
    """How far a group has come in a partition: the offset of the next message, and a note of the committer's."""

    offset: int
    note: str = ""


class TaskInputs:
    """The tasks of a group, and what each reads.

    Args:
        tasks: how many there are.
        inputs: the task that each partition is read by; None: partition n of any topic belongs to task n.
    """

    def __init__(self, tasks: int, inputs: Mapping[Partition, int] | None = None) -> None:
        self.number = tasks
        self._inputs = inputs

    def of(self, partition: Partition) -> int | None:
        """The task that reads a partition; None: no task does."""
        if self._inputs is not None:
            return self._inputs.get(partition)
        return partition.number if partition.number < self.number else None

    def see(self, positions: Iterable[Partition], mine: Collection[int]) -> None:
        """Raise Fenced where a position is of a task that is not among `mine`."""
        others = {task for partition in positions if (task := self.of(partition)) is not None} - set(mine)
        if others:
            raise Fenced(f"Tasks {sorted(others)} are another member's.", hint="poll, and go on with its own tasks")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be made.

    Args:
        name: letters, digits, `.`, `_`, `-`; at most 249.
        partitions: how many.
        cleanup: `delete` removes messages that are older than `retention`; `compact` keeps the newest message of
            each key, and none of a key whose newest value is None.
        retention: None: messages stay.
        replicas: copies of a partition on several brokers; None: as the broker has it.
        options: the technology's own settings, by its names.
    """

    name: str
    partitions: int = 1
    cleanup: Cleanup = "delete"
    retention: timedelta | None = None
    replicas: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, topic: Topic) -> TopicSpec:
        """A topic as it was declared."""
        return cls(topic.name, topic.partitions, topic.cleanup, topic.retention)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in (".", ".."):
            raise DefinitionError(
                f'"{self.name}" cannot name a topic.', hint='letters, digits, ".", "_" and "-"; at most 249'
            )
        if self.partitions < 1:
            raise DefinitionError(f'Topic "{self.name}" needs at least one partition, not {self.partitions}.')


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as it is. `first` and `end` by partition number: offsets of the oldest message and after the newest.

    `largest`: bytes that a message may have. `id`: of this topic, as long as it lives; one that is deleted and made
    again under its name has another. `sent`: offsets after all that was sent; where a transaction is open, that is more
    than can be read, and what others have committed behind its beginning cannot be read either until it is over. Empty:
    as `end`.
    """

    name: str
    first: tuple[int, ...]
    end: tuple[int, ...]
    cleanup: Cleanup = "delete"
    largest: int = LARGEST
    id: str = ""
    sent: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sent", self.sent or self.end)

    @property
    def partitions(self) -> int:
        """How many."""
        return len(self.end)


@dataclass(frozen=True, slots=True)
class Messages:
    """A stretch of one partition, in columns: element i of each belongs to message i.

    Args:
        partition: where they are from.
        offsets: ascending; there may be gaps (compaction, transactions' markers).
        timestamps: milliseconds since 1970-01-01 UTC, set by the producer; -1: none.
        keys, values: as they came; a value of None is a tombstone.
        headers: None: not one message has any. May be read lazily.
    """

    partition: Partition
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def before(self, until: int) -> Messages:
        """Those with offsets below `until`."""
        if not self.offsets or self.offsets[-1] < until:
            return self
        kept = sum(offset < until for offset in self.offsets)
        return replace(
            self,
            offsets=self.offsets[:kept],
            timestamps=self.timestamps[:kept],
            keys=self.keys[:kept],
            values=self.values[:kept],
            headers=None if self.headers is None else list(self.headers[:kept]),
        )


class Reader(Protocol):
    """Reads the partitions that it is told to, at its own pace.

    Promises:
      - Messages of a partition come in the order of offsets, each once, from the position given on; never
        any of a transaction that is open or was aborted.
      - A partition that is behind cannot starve the others.
      - What waits in memory is bounded, however much has been written.
    """

    def take(self, positions: Mapping[Partition, int]) -> None:
        """Read these, too; a partition that is being read goes on from the new position.

        A position that is no longer kept means the oldest message that is; the loss is told by `lost`.

        Raises:
            UnknownName: there is no such topic or partition.
        """
        ...

    def drop(self, partitions: Sequence[Partition]) -> None:
        """Read these no more."""
        ...

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Give none of these until `resume`."""
        ...

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Go on after the last message that was given."""
        ...

    def read(self, limit: int, timeout: float) -> list[Messages]:
        """What there is, at most `limit` messages in all, each partition at most once in the list.

        Waits up to `timeout` seconds for the first message, and not for more.

        Raises:
            Unreachable: no broker has answered for as long as the settings allow.
            UnknownName: a topic was deleted.
        """
        ...

    def ends(self) -> Mapping[Partition, int]:
        """Of the partitions that are being read: the offset after the last message that could be read, as far as
        is known. A partition whose end is not known yet is missing. One that was read to its end ends after its last
        message that was given, whatever offsets follow that nobody gets (markers, what compaction removed).
        """
        ...

    def positions(self) -> Mapping[Partition, int]:
        """Of the partitions that are being read: the offset up to which there is nothing more to give. It is after the
        last message that was given, and after offsets there that nobody gets, as far as these are known: whoever goes
        on from it has lost nothing, even if all before it was removed.
        """
        ...

    def lost(self) -> Mapping[Partition, tuple[int, int]]:
        """Since the last call: partitions whose next message is no longer kept, as (wanted, oldest that is)."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...


class Member(Protocol):
    """A process in a group that shares numbered tasks: each task belongs to one member at a time.

    Promises:
      - Members that come and go move few tasks, and those that stay where they are go on meanwhile.
      - A member that stops polling loses its tasks after the session's time; whatever it commits then is refused.
    """

    def poll(
        self, taken: Callable[[frozenset[int]], None], given_up: Callable[[frozenset[int]], None], timeout: float
    ) -> None:
        """Take part. Calls back, in this thread, with tasks that are this member's from now on, and with those that
        it must give up: until `given_up` returns they are still its own, and it may commit for them.

        Tasks that were lost already (the session ended) are given up, too; a commit for them raises Fenced.
        """
        ...

    @property
    def tasks(self) -> frozenset[int]:
        """The member's tasks."""
        ...

    def committed(self, partitions: Sequence[Partition], timeout: float | None = None) -> Mapping[Partition, Position]:
        """How far the group has come; partitions without a commit are missing.

        Args:
            partitions: of which.
            timeout: seconds that the answer is waited for; None: as long as the settings allow.

        Raises:
            Unreachable: there was no answer in time; also while a transaction is about to change one of them.
        """
        ...

    def close(self) -> None:
        """Leave, so that others need not wait."""
        ...


class Writer(Protocol):
    """Sends messages and commits positions.

    Promises:
      - `exactly-once`: the messages sent since the last commit, and the positions, are there for readers together
        or not at all. A writer with the same identity that is opened later fences this one.
      - `at-least-once`: positions are committed after all messages are durable. Readers see messages at once.
      - Messages of one writer to one partition keep their order, whatever is sent again.
      - Keys go to partitions as Kafka's default has it (murmur2), in every adapter.
    """

    def send(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | int | None = None,
        timestamps: Sequence[int] | None = None,
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Send messages, in columns. Waits while too many are on their way.

        Args:
            topic: where to.
            values: their contents.
            keys: None: none has one; these go to partitions in turn.
            partitions: of each, or of all; None: by key.
            timestamps: milliseconds; None: now.
            headers: of each.

        Raises:
            UnknownName: there is no such topic. LimitError: a message is larger than the topic takes; nothing of
            the call is sent. DataError, Unreachable, Fenced: also for messages of earlier calls.
        """
        ...

    def flush(self) -> None:
        """Wait until everything that was sent is durable. Raises Unreachable, DataError, Fenced."""
        ...

    def commit(
        self,
        positions: Mapping[Partition, Position],
        member: Member | None = None,
        also: Callable[[Tx], None] | None = None,
    ) -> None:
        """Make what was sent, and the positions of the member's group, count.

        Args:
            positions: how far the group has come with this.
            member: whose group; a member that has lost its place, or the task that a position is of, is refused.
                Without one only messages count.
            also: more for the same transaction, where `Topics.in_metadata` is true; elsewhere it must be None.

        Raises:
            Fenced: another member, or another writer of this identity, has taken over; nothing counts.
            Unreachable: it is not known whether it counts: open a new writer, and ask the group how far it came.
        """
        ...

    def abort(self) -> None:
        """Forget what was sent since the last commit, as far as the guarantee allows."""
        ...

    def close(self) -> None:
        """Let everything go; what was not committed is aborted."""
        ...


class Topics(Protocol):
    """A broker, or what stands for one.

    Raises:
        Unreachable: from every method, when the broker does not answer.
    """

    @property
    def in_metadata(self) -> bool:
        """Whether a writer's commit is a transaction of the project's metadata database."""
        ...

    def create(self, spec: TopicSpec) -> TopicInfo:
        """Make a topic, or find it made. Raises Refused: it is there with another number of partitions or cleanup."""
        ...

    def describe(self, name: str, timeout: float | None = None) -> TopicInfo | None:
        """A topic as it is now; None: there is none.

        Args:
            name: the topic's.
            timeout: seconds that the answer is waited for; None: as long as the settings allow.
        """
        ...

    def names(self) -> list[str]:
        """All topics in order, without the technology's own."""
        ...

    def delete(self, name: str) -> None:
        """Remove a topic with all messages. Raises UnknownName."""
        ...

    def trim(self, upto: Mapping[Partition, int]) -> None:
        """Let messages before these offsets go; all from there on stay. Some of those before may stay, too.

        Raises:
            UnknownName: there is no such topic or partition. Refused: this account may not, or the topic compacts.
        """
        ...

    def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        """By partition: the offset of the first message that is not older than `timestamp` (milliseconds); the end
        where there is none.
        """
        ...

    def reader(self, *, ahead: int = 200_000) -> Reader:
        """Open a reader; about `ahead` messages may wait in memory."""
        ...

    def writer(self, identity: str, guarantee: Guarantee = "at-least-once") -> Writer:
        """Open a writer. `identity` names whoever writes; a later one of that name fences an exactly-once writer."""
        ...

    def member(
        self,
        group: str,
        tasks: int,
        *,
        session: timedelta = SESSION,
        inputs: Mapping[Partition, int] | None = None,
    ) -> Member:
        """Join a group.

        Args:
            group: its name.
            tasks: how many it shares; they are 0 to `tasks` - 1.
            session: a member that is silent for so long is out.
            inputs: the task that each partition is read by; None: partition n of any topic belongs to task n. A
                position of a partition whose task is another member's is refused.
        """
        ...

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        """How far a group has come, asked from outside."""
        ...

    def reset(self, group: str, positions: Mapping[Partition, int | None]) -> None:
        """Set how far a group has come (None: forget it). Raises Busy: it has members."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...
