"""Promises of embedded topics that only several processes can break: races, and death at any moment."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import topic_worker, warm
from harness.topics import Place, read, values
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.ports.topic import Partition
from tidemill.testing.clock import ManualClock

Start = Callable[..., "Worker"]


@pytest.fixture
def place(store: SqlMetadata, clock: ManualClock) -> Iterator[Place]:
    topics = SqlTopics(store, clock, own_time=False)
    made = Place(topics, clock, lambda _partition, _before: None)
    yield made
    made.close()


@pytest.fixture
def topics(place: Place) -> SqlTopics:
    assert isinstance(place.topics, SqlTopics)
    return place.topics


class Worker:
    """One process of `topic_worker.py`."""

    def __init__(self, action: str, *arguments: str) -> None:
        command = [sys.executable, str(Path(topic_worker.__file__)), action, *arguments]
        self.process = warm.started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert stream is not None
                stream.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts workers; those that still live after the test are killed."""
    with contextlib.ExitStack() as stack:

        def one(*arguments: str) -> Worker:
            made = Worker(*arguments)
            stack.callback(made.kill)
            return made

        yield one


def test_a_process_killed_within_a_commit_leaves_nothing_of_it(
    place: Place, topics: SqlTopics, store: SqlMetadata, database: str, start: Start
) -> None:
    topic = place.topic()
    worker = start("stop_within", database, topic, "g")
    assert [worker.hear(), worker.hear()] == ["ready", "within"]
    worker.kill()
    place.send(topic, [b"next"])
    found = read(place, place.reader({Partition(topic, 0): 0}), 1)[Partition(topic, 0)]
    assert (found.offsets, found.values) == ([0], [b"next"])
    assert topics.committed("g", [Partition(topic, 0)]) == {}
    with store.read() as tx:
        assert tx.events.pending("published") == []


def test_a_reader_sees_each_message_of_several_processes_once_in_order_without_gaps(
    place: Place, database: str, start: Start
) -> None:
    many, names = 1500, ["a", "b", "c"]
    topic = place.topic()
    workers = [start("produce", database, topic, name, str(many)) for name in names]
    assert [worker.hear() for worker in workers] == ["ready"] * 3
    for worker in workers:
        worker.say()
    reader = place.reader({Partition(topic, 0): 0}, ahead=50)
    found: list[bytes | None] = []
    offsets: list[int] = []
    until = time.monotonic() + 60
    while len(found) < many * 3 and time.monotonic() < until:
        for one in reader.read(70, 0):
            found += one.values
            offsets += one.offsets
    assert offsets == list(range(many * 3))
    for name in names:
        assert [one for one in found if one and one.startswith(name.encode())] == [
            f"{name} {i}".encode() for i in range(many)
        ]


@pytest.mark.slow
def test_a_group_of_processes_copies_each_message_once_while_members_are_killed(
    place: Place, database: str, start: Start
) -> None:
    source, target, partitions, many = place.topic(4), place.topic(4), 4, 1200
    moments = random.Random(11)
    workers = [start("consume", database, source, target, "g", str(partitions)) for _ in range(3)]
    assert [worker.hear() for worker in workers] == ["ready"] * 3
    sent = 0
    for _ in range(3):
        for _ in range(10):
            place.send(source, [b"%d" % i for i in range(sent, sent + many // 30)])
            sent += many // 30
        time.sleep(moments.uniform(0.1, 0.4))  # not waiting for anything: where it hits is the point
        workers.pop(0).kill()
        workers.append(start("consume", database, source, target, "g", str(partitions)))
        assert workers[-1].hear() == "ready"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        info = place.topics.describe(target)
        if info is not None and sum(info.end) >= many:
            break
        time.sleep(0.05)  # for processes, with a deadline
    got = [values(place, target, n, number) for number, n in enumerate(info.end if info else ())]
    assert sorted(int(one or -1) for part in got for one in part) == list(range(many))
    for part in got:
        assert part == sorted(part, key=lambda one: int(one or -1)), "in the order of the source"
