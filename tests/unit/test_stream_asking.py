"""Positions that a broker does not tell: who is to begin with them waits, and nobody else.

The broker is one in memory that keeps some positions to itself for a while. That Kafka does so, and that its client
ends a question in time, is shown in `conformance/test_stream_poison_positions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest

import tidemill as tm
from harness.naive import micros
from harness.poison import Driven, pipeline
from harness.topics import Place
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.authoring.streams import Stream
from tidemill.flow.stream.asking import LATER
from tidemill.flow.stream.others import Others
from tidemill.flow.stream.process import StreamProcess
from tidemill.model.errors import Unreachable
from tidemill.ports.topic import Partition, Position
from tidemill.testing.clock import ManualClock


class Reticent(MemoryTopics):
    """Topics in memory that do not tell how far groups have come in some partitions."""

    untold: frozenset[Partition] = frozenset()
    questions = 0

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        self.questions += 1
        if self.untold & set(partitions):
            raise Unreachable("The group was not asked for its positions.")
        return super().committed(group, partitions)


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


@pytest.fixture
def topics() -> Reticent:
    return Reticent(ManualClock())


def copying(p: tm.Pipeline) -> Stream:
    """Rows as they are; windows beside them, so that it is known what time it is."""
    source = tm.topic("t", {"at": "timestamptz", "v": "long"}, time="at", partitions=3)

    @p.stream(source)
    def copied(t: tm.Frame) -> list[tm.Frame]:
        return [t.to_topic("copies"), t.tumbling_window("1h", on="at").agg(n=tm.agg.count()).final().to_topic("counts")]

    return copied


def driven_by(topics: Reticent, stream: Stream) -> Driven:
    return Driven(Place(topics, topics.clock, lambda _partition, _before: None), stream)


def rows(second: int, *numbers: int) -> list[dict[str, object]]:
    return [{"at": f"2026-01-01T00:00:{second:02}Z", "v": number} for number in numbers]


def turn(process: StreamProcess, clock: ManualClock, times: int) -> None:
    for _ in range(times):
        process.turn()
        clock.advance(0.1)


def test_a_task_whose_positions_are_not_told_waits_alone_and_is_asked_for_now_and_then(
    topics: Reticent, p: tm.Pipeline
) -> None:
    clock = topics.clock
    assert isinstance(clock, ManualClock)
    with driven_by(topics, copying(p)) as driven:
        process = driven.begin()
        topics.untold = frozenset({Partition("t", 1)})
        driven.feed("t", rows(0, 0, 1, 2), partitions=[0, 1, 2])
        turn(process, clock, 20)
        process.checkpoint()
        assert {row["v"] for row in driven.rows("copies")} == {0, 2}
        asked = topics.questions
        turn(process, clock, int(LATER / 0.1))
        assert topics.questions - asked <= 2
        topics.untold = frozenset()
        turn(process, clock, int(LATER / 0.1) + 2)
        process.checkpoint()
        assert [row["v"] for row in driven.rows("copies")] == [0, 2, 1]


def test_what_others_have_committed_is_asked_each_second_and_gets_old_where_nobody_answers(
    topics: Reticent, p: tm.Pipeline
) -> None:
    clock = topics.clock
    assert isinstance(clock, ManualClock)
    stream = copying(p)
    with driven_by(topics, stream) as one, driven_by(topics, stream) as two:
        mine, theirs = one.begin("one"), two.begin("two")
        for _ in range(20):
            turn(mine, clock, 1)
            turn(theirs, clock, 1)
        (partition,) = {p for work in theirs.works.values() for p in work.inputs if p.topic == "t"}
        others, now = Others(mine.plan), 100.0
        begun = topics.questions

        def look(seconds: float) -> int | None:
            """How far they are, as it is known then."""
            member, _ = mine._joined()
            others.look(mine.works.values(), member, now + seconds)
            return others.positions.get(partition)

        def commit(second: int) -> None:
            one.feed("t", rows(second, 1), partitions=partition.number)
            turn(theirs, clock, 1)
            theirs.checkpoint()

        commit(10)
        assert look(0) == 1
        known = {top for times in others.times for top in times.known.values()}
        assert known == {micros(datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC))}
        commit(20)
        assert look(0.9) == 1, "it was just asked"
        assert look(1) == 2
        topics.untold = frozenset({partition})
        commit(30)
        assert look(2) == 2, "what is known gets old"
        topics.untold = frozenset()
        assert look(2 + LATER) == 2, "who does not answer is let alone"
        assert look(3 + LATER) == 3
        assert topics.questions - begun == 4


def test_who_reads_all_partitions_asks_for_none_of_others(topics: Reticent, p: tm.Pipeline) -> None:
    clock = topics.clock
    assert isinstance(clock, ManualClock)
    with driven_by(topics, copying(p)) as driven:
        process = driven.begin()
        turn(process, clock, 10)
        asked, (member, _) = topics.questions, process._joined()
        others = Others(process.plan)
        others.look(process.works.values(), member, 100.0)
        assert (topics.questions, others.positions, others.times) == (asked, {}, [])
