"""Brokers under test, and what tests do with readers and members: poll until, with a deadline of the broker's clock."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from tidemill.adapters.kafka.topics import KafkaTopics
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.frame.topic import Cleanup
from tidemill.model.stream import Guarantee
from tidemill.ports.clock import Clock
from tidemill.ports.topic import Member, Messages, Partition, Reader, Topics, TopicSpec, Writer
from tidemill.testing.clock import ManualClock

#: Seconds, by the broker's clock, after which something that should come is missing.
PATIENCE = 120.0


@dataclass
class Place:
    """A broker under test.

    Args:
        topics: the adapter.
        clock: its clock, by which tests wait.
        forget: lets the messages of a partition before an offset go. The test has made the topic with a retention of
            an hour, and these messages are two hours old, sent by calls of their own.
        session: of members, as short as the technology allows.
    """

    topics: Topics
    clock: Clock
    forget: Callable[[Partition, int], None]
    session: timedelta = timedelta(seconds=10)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def topic(self, partitions: int = 1, cleanup: Cleanup = "delete", **more: object) -> str:
        """Make a topic of the test's own; returns its name."""
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.topics.create(TopicSpec(name, partitions, cleanup, **more))  # type: ignore[arg-type]  # of the spec's fields
        return name

    def reader(self, positions: Mapping[Partition, int] | None = None, ahead: int = 10_000) -> Reader:
        """Open a reader at these positions; it is closed after the test."""
        reader = self.topics.reader(ahead=ahead)
        self._open.callback(reader.close)
        if positions:
            reader.take(positions)
        return reader

    def writer(self, guarantee: Guarantee = "at-least-once", identity: str | None = None) -> Writer:
        """Open a writer; it is closed after the test."""
        writer = self.topics.writer(identity or f"w-{uuid.uuid4().hex[:12]}", guarantee)
        self._open.callback(writer.close)
        return writer

    def member(self, group: str, tasks: int, inputs: Mapping[Partition, int] | None = None) -> Member:
        """Join a group; the member leaves after the test."""
        member = self.topics.member(group, tasks, session=self.session, inputs=inputs)
        self._open.callback(member.close)
        return member

    def send(self, topic: str, values: Sequence[bytes | None], **more: object) -> None:
        """Send by a writer of its own, and wait until it is there."""
        writer = self.writer()
        writer.send(topic, values, **more)  # type: ignore[arg-type]  # arguments of `send`
        writer.flush()
        writer.close()

    def until(self, happens: Callable[[], object], what: str = "") -> None:
        """Do something again and again until it returns something true."""
        deadline = self.clock.monotonic() + PATIENCE
        while not happens():
            assert self.clock.monotonic() < deadline, f"waited {PATIENCE} s in vain {what}"
            self.clock.sleep(0.02)

    def close(self) -> None:
        """Close what was opened."""
        self._open.close()
        self.topics.close()


@dataclass
class Read:
    """What was read of one partition."""

    offsets: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    headers: list[list[tuple[str, bytes | None]]] = field(default_factory=list)

    def add(self, messages: Messages) -> None:
        many = len(messages)
        columns = (messages.values, messages.keys, messages.timestamps)
        assert {len(column) for column in columns} == {many}
        self.offsets += messages.offsets
        self.values += messages.values
        self.keys += messages.keys
        self.timestamps += messages.timestamps
        self.headers += [list(one) for one in messages.headers] if messages.headers is not None else [[]] * many


def read(place: Place, reader: Reader, many: int, limit: int = 1000) -> dict[Partition, Read]:
    """Read until there are so many messages in all."""
    found: dict[Partition, Read] = {}

    def step() -> bool:
        got = reader.read(limit, 0.1)
        assert sum(len(one) for one in got) <= limit
        assert len({one.partition for one in got}) == len(got)
        for one in got:
            assert len(one), "no empty stretches"
            found.setdefault(one.partition, Read()).add(one)
        return sum(len(one.offsets) for one in found.values()) >= many

    place.until(step, f"for {many} messages, had {found}")
    return found


def values(place: Place, topic: str, many: int, number: int = 0) -> list[bytes | None]:
    """The first values of a partition, read from its beginning."""
    reader = place.reader({Partition(topic, number): 0})
    found = read(place, reader, many) if many else {}
    reader.close()
    return found[Partition(topic, number)].values if found else []


def nothing(place: Place, topic: str, number: int = 0) -> bool:
    """Whether a reader finds nothing in a partition, although it waits."""
    reader = place.reader({Partition(topic, number): 0})
    found = reader.read(100, 0.5)
    reader.close()
    return not found


class Ledger:
    """Who has which task, as the members were told; a task that is taken while it is somebody's is an error."""

    def __init__(self) -> None:
        self.owners: dict[int, Peer] = {}
        #: How often a task was handed to somebody.
        self.moves = 0


class Peer:
    """A member of a group, as a process would run one."""

    def __init__(
        self, place: Place, ledger: Ledger, group: str, tasks: int, inputs: Mapping[Partition, int] | None = None
    ) -> None:
        self.member = place.member(group, tasks, inputs)
        self.ledger = ledger
        #: What to do, still as the owner, with tasks that are given up.
        self.last_act: Callable[[frozenset[int]], None] = lambda _tasks: None

    def poll(self) -> None:
        self.member.poll(self._taken, self._given_up, 0.02)
        assert self.member.tasks == self.mine()

    def mine(self) -> frozenset[int]:
        return frozenset(task for task, owner in self.ledger.owners.items() if owner is self)

    def die(self) -> None:
        """Never poll again; from now on the tasks may be taken by others once the session is over."""
        for task in self.mine():
            del self.ledger.owners[task]

    def leave(self) -> None:
        """Leave as a process that ends does."""
        self.die()
        self.member.close()

    def _taken(self, tasks: frozenset[int]) -> None:
        assert tasks, "no call for nothing"
        for task in tasks:
            assert task not in self.ledger.owners, f"task {task} has two owners"
            self.ledger.owners[task] = self
            self.ledger.moves += 1

    def _given_up(self, tasks: frozenset[int]) -> None:
        assert tasks, "no call for nothing"
        assert tasks <= self.member.tasks, "until it returns they are still its own"
        self.last_act(tasks)
        for task in tasks:
            if self.ledger.owners.get(task) is self:
                del self.ledger.owners[task]


def settle(place: Place, peers: Iterable[Peer], tasks: int) -> None:
    """Let members poll until all tasks are shared evenly between them."""
    peers = list(peers)

    def shared() -> bool:
        for peer in peers:
            peer.poll()
        counts = [len(peer.mine()) for peer in peers]
        return sum(counts) == tasks and max(counts) - min(counts) <= 1

    try:
        place.until(shared, "for the tasks to be shared")
    except AssertionError as error:
        raise AssertionError(f"{error}: they have {[sorted(peer.mine()) for peer in peers]}") from None


@contextlib.contextmanager
def memory_place() -> Iterator[Place]:
    """Topics in memory."""
    clock = ManualClock()
    topics = MemoryTopics(clock)
    place = Place(topics, clock, lambda _partition, _before: topics.tidy(clock.now()))
    yield place
    place.close()


@contextlib.contextmanager
def sql_place(url: str) -> Iterator[Place]:
    """Topics in a metadata database that has its tables."""
    clock = ManualClock()
    with SqlMetadata(url, "project", clock, durable=False) as metadata:
        topics = SqlTopics(metadata, clock, own_time=False)
        place = Place(topics, clock, lambda _partition, _before: topics.tidy(clock.now()))
        yield place
        place.close()


@contextlib.contextmanager
def kafka_place(servers: str, patience: float = 20) -> Iterator[Place]:
    """Topics of a Kafka, which may not answer for `patience` seconds.

    Its brokers remove old messages every five minutes: they are told to.
    """
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    def forget(partition: Partition, before: int) -> None:
        client = AdminClient({"bootstrap.servers": servers})
        for future in client.delete_records([TopicPartition(*partition, before)]).values():
            future.result(PATIENCE)

    topics = KafkaTopics({"bootstrap.servers": servers}, patience=timedelta(seconds=patience))
    place = Place(topics, SystemClock(), forget, session=timedelta(seconds=2))
    yield place
    place.close()
