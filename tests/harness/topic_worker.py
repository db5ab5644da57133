"""A process of its own that uses embedded topics: `python topic_worker.py ACTION URL ARGUMENTS`. Tests kill some."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta

from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.errors import Conflict
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import Partition, Position, Reader

CLOCK = SystemClock()
#: Of members, so short that a test can wait for it, so long that a busy computer does not end it.
SESSION = timedelta(seconds=2)


def produce(topics: SqlTopics, topic: str, name: str, many: str) -> None:
    """Send numbered messages, in calls of different sizes, at least once and exactly once by turns."""
    print("ready", flush=True)
    sys.stdin.readline()
    careful, quick = topics.writer(name, "exactly-once"), topics.writer(name)
    at, size = 0, 1
    while at < int(many):
        values: list[bytes | None] = [f"{name} {i}".encode() for i in range(at, min(at + size, int(many)))]
        writer = careful if size % 2 else quick
        writer.send(topic, values, partitions=0)
        writer.commit({})
        at, size = at + size, size % 40 + 1


def consume(topics: SqlTopics, source: str, target: str, group: str, partitions: str) -> None:
    """Copy a topic to another one exactly once, as a member of a group, for ever."""
    member = topics.member(group, int(partitions), session=SESSION)
    reader = topics.reader()
    writer = topics.writer(f"{group}-{id(member)}-{CLOCK.monotonic()}", "exactly-once")
    print("ready", flush=True)

    def taken(tasks: frozenset[int]) -> None:
        mine = [Partition(source, task) for task in tasks]
        committed = member.committed(mine)
        reader.take({one: committed[one].offset if one in committed else 0 for one in mine})

    def given_up(tasks: frozenset[int]) -> None:
        reader.drop([Partition(source, task) for task in tasks])

    while True:
        member.poll(taken, given_up, 0.01)
        try:
            copy(reader, writer.send, target, lambda positions: writer.commit(positions, member))
        except Conflict:
            writer.abort()
            taken(member.tasks)


def copy(
    reader: Reader, send: Callable[..., None], target: str, commit: Callable[[dict[Partition, Position]], None]
) -> None:
    found = reader.read(20, 0.01)
    for one in found:
        send(target, one.values, partitions=one.partition.number)
    if found:
        commit({one.partition: Position(one.offsets[-1] + 1) for one in found})


def stop_within(topics: SqlTopics, topic: str, group: str) -> None:
    """Commit messages, a position and an event, and wait for the end before the transaction's."""
    member = topics.member(group, 1, session=SESSION)
    while not member.tasks:
        member.poll(lambda _tasks: None, lambda _tasks: None, 0.1)
    writer = topics.writer("w", "exactly-once")
    writer.send(topic, [b"unfinished"])

    def and_stop(tx: Tx) -> None:
        tx.events.add("published", {}, CLOCK.now())
        print("within", flush=True)
        sys.stdin.readline()

    print("ready", flush=True)
    writer.commit({Partition(topic, 0): Position(5)}, member, and_stop)


ACTIONS: dict[str, Callable[..., None]] = {action.__name__: action for action in (produce, consume, stop_within)}


def main() -> None:
    action, url, *arguments = sys.argv[1:]
    with SqlMetadata(url, "project", CLOCK) as metadata:
        ACTIONS[action](SqlTopics(metadata, CLOCK), *arguments)


if __name__ == "__main__":
    main()
