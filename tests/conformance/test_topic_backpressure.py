"""A stream whose function is slow waits with reading, keeps its place in its group, loses nothing: on every broker."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from harness.topics import Place, values
from tidemill.adapters.kafka.topics import KafkaTopics
from tidemill.adapters.memory.state import MemoryStates
from tidemill.flow.stream.calling import PATIENCE
from tidemill.flow.stream.process import StreamProcess
from tidemill.model.errors import Conflict
from tidemill.model.frame.topic import Topic
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.stream import StreamSpec
from tidemill.ports.topic import Member, Partition, Position, TopicSpec
from tidemill.wiring.streams import StreamMaker

PIPELINE = PipelineSpec("p", None, None, None, False, {}, {}, {})
MESSAGES = 3_000


class _Brisk:
    """A broker whose members' sessions are as short as the technology allows."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place.topics, name)

    def member(self, group: str, tasks: int, **more: Any) -> Member:
        return self._place.topics.member(group, tasks, session=self._place.session, **more)


@dataclass
class Slow:
    """A function that takes rows and does not return before it is told to."""

    go_on: threading.Event = field(default_factory=threading.Event)
    taken: list[int] = field(default_factory=list)
    calls: int = 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.calls += 1
        self.go_on.wait(60)
        self.taken += [row["n"] for row in rows]


class Running:
    """A stream with 3,000 messages to read, and a slow function at its end."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.slow = Slow()
        name = f"slow-{uuid.uuid4().hex[:8]}"
        topic = Topic(name, {"n": "long"}, partitions=2)
        place.topics.create(TopicSpec(name, 2))
        numbers = [b'{"n": %d}' % number for number in range(MESSAGES)]
        place.send(name, numbers, partitions=[number % 2 for number in range(MESSAGES)])
        self.spec = StreamSpec(
            "p", name, lambda f: f.sink(self.slow), {"f": topic}, every=timedelta(seconds=0.2)
        )  # fmt: skip
        self.names = 0

    def process(self) -> StreamProcess:
        self.names += 1
        maker = StreamMaker(_Brisk(self.place), MemoryStates(), None, self.place.clock)  # type: ignore[arg-type]  # no tables are read
        return maker.process(PIPELINE, self.spec, f"one-{self.names}")


def pass_time(place: Place, processes: Sequence[StreamProcess], seconds: float) -> None:
    """Let them turn for so long, by the broker's clock."""
    until = place.clock.monotonic() + seconds
    while place.clock.monotonic() < until:
        for process in processes:
            process.turn()
        if hasattr(place.clock, "advance"):
            place.clock.advance(2.0)


def until(place: Place, processes: Sequence[StreamProcess], happens: Callable[[], object]) -> None:
    def step() -> object:
        for process in processes:
            try:
                process.turn()
            except Conflict:  # while members come and go: as `run` does
                process._let_go()
        return happens()

    place.until(step)


def test_a_function_that_takes_longer_than_a_session_gets_each_row_once(place: Place) -> None:
    """No row comes twice: the member keeps its place, and what the function took counts."""
    running = Running(place)
    process = running.process()
    until(place, [process], lambda: running.slow.calls)
    read = process.counts.messages
    pass_time(place, [process], 2 * place.session.total_seconds())
    assert process.counts.messages == read < MESSAGES, "nothing is read while the function is at work"
    assert process.counts.checkpoints == 0, "nothing counts that it has not taken"
    assert len(process.works) == 2
    running.slow.go_on.set()
    until(place, [process], lambda: len(running.slow.taken) >= MESSAGES and not process._dirty)
    assert sorted(running.slow.taken) == list(range(MESSAGES))
    assert process.counts.checkpoints > 0
    process.close()


def test_tasks_go_to_another_member_when_the_function_has_taken_its_rows(place: Place) -> None:
    running = Running(place)
    first = running.process()
    until(place, [first], lambda: running.slow.calls)
    second = running.process()
    # Told from elsewhere while the first one waits for the function, within the time that a hand-over takes.
    timer = threading.Timer(PATIENCE / 4, running.slow.go_on.set)
    timer.start()
    until(place, [first, second], lambda: second.works and len(set(running.slow.taken)) == MESSAGES)
    if not isinstance(place.topics, KafkaTopics):  # it may refuse a commit while members come and go
        assert len(running.slow.taken) == MESSAGES
    for process in (first, second):
        process.close()
    timer.join()


def test_tasks_go_to_another_member_also_when_the_function_never_returns(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows come again: at least once is what a function is promised."""
    monkeypatch.setattr("tidemill.flow.stream.process.HAND_OVER", 0.2)
    running = Running(place)
    first = running.process()
    until(place, [first], lambda: running.slow.calls)
    hung, running.slow = running.slow, Slow()
    running.slow.go_on.set()
    second = running.process()
    until(place, [first, second], lambda: len(second.works) == 1 and running.slow.taken)
    first.abandon()
    place.clock.sleep(place.session.total_seconds() + 1)
    until(place, [second], lambda: len(set(running.slow.taken)) == MESSAGES)
    hung.go_on.set()
    second.close()


def test_what_was_sent_for_a_refused_commit_does_not_come_with_the_next_one(place: Place) -> None:
    """A member whose session was over goes on with its writer: what it had done does not count, then or later."""
    topic, group = place.topic(), f"g-{uuid.uuid4().hex[:8]}"
    member, writer = place.member(group, 1), place.writer("exactly-once")
    mine: set[int] = set()
    lost: list[int] = []

    def given_up(tasks: frozenset[int]) -> None:
        mine.difference_update(tasks)
        lost.extend(tasks)

    def poll() -> bool:
        member.poll(mine.update, given_up, 0.02)
        return bool(mine)

    place.until(poll)
    writer.send(topic, [b"in vain"], partitions=0)
    place.clock.sleep(place.session.total_seconds() + 1)
    with pytest.raises(Conflict):
        writer.commit({Partition(topic, 0): Position(1)}, member)
    place.until(lambda: poll() and lost)
    writer.send(topic, [b"counts"], partitions=0)
    writer.commit({Partition(topic, 0): Position(1)}, member)
    assert values(place, topic, 1) == [b"counts"]
