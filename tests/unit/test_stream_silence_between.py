"""Silence behind steps that make new times, and between processes that know only their own partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import tidemill as tm
from harness.poison import Driven
from harness.topics import Place
from tidemill.adapters.memory.state import MemoryStates
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.authoring import registry
from tidemill.authoring.streams import Stream
from tidemill.flow.stream.process import StreamProcess
from tidemill.flow.stream.times import Times
from tidemill.model.errors import DefinitionError
from tidemill.ports.topic import LONGEST_NOTE, Partition
from tidemill.testing import StreamTest
from tidemill.testing.clock import ManualClock
from tidemill.wiring.streams import StreamMaker

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
#: By partition; nothing of the last one comes through the filter.
CARS = "acb"
COLUMNS = {"ts": "timestamptz", "car": "string", "zone": "string"}


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


def at(second: int, car: str = "a", zone: str = "x") -> dict[str, Any]:
    return {"ts": BEGIN + timedelta(seconds=second), "car": car, "zone": zone}


def later(row: dict[str, Any]) -> dict[str, Any]:
    """A row's new time: one that nothing can be concluded for from the old one."""
    return {"then": row["ts"] + timedelta(hours=1), "zone": row["zone"]}


THEN = {"then": "timestamptz", "zone": "string"}


def of_few(**options: Any) -> Stream:
    """New times behind a filter that leaves nothing of one of three partitions, then windows by another key."""
    topic = tm.topic("t", COLUMNS, key="car", time="ts", partitions=3, idle="30s", **options)

    @tm.Pipeline("few").stream(topic, to="o")
    def counts(t: tm.Frame) -> tm.Frame:
        moved = t.filter(tm.col("car") != "b").map_rows(later, returns=THEN)
        return moved.tumbling_window("10s", on="then", by="zone").agg(n=tm.agg.count()).final()

    return counts


def of_one_key() -> Stream:
    """New times made behind an exchange: two of its three tasks never have a row."""
    topic = tm.topic("t", COLUMNS, key="car", time="ts", partitions=3, idle="30s")

    @tm.Pipeline("few").stream(topic, to="o")
    def counts(t: tm.Frame) -> tm.Frame:
        sums = t.tumbling_window("1s", on="ts", by="zone").agg(ts=tm.agg.max("ts"), n=tm.agg.count()).final()
        moved = sums.map_rows(later, returns=THEN)
        return moved.tumbling_window("10s", on="then").agg(n=tm.agg.count()).final()

    return counts


def ends(test: StreamTest) -> list[str]:
    test.checkpoint()
    return [row["window_end"][17:19] for row in test.rows("o")]


@pytest.mark.parametrize("made", [of_few, of_one_key])
def test_a_step_in_the_middle_does_not_wait_for_partitions_that_never_come_there(made: Callable[[], Stream]) -> None:
    test = StreamTest(made())
    for second in range(0, 60, 3):  # all partitions speak all the time
        for number, car in enumerate(CARS):
            test.feed("t", [at(second, car)], partition=number)
        test.advance("3s")
    found = ends(test)
    assert found[:2] == ["10", "20"]
    assert not test.late()
    test.advance("2m")
    assert ends(test)[:5] == ["10", "20", "30", "40", "50"]
    assert len(set(ends(test))) == len(ends(test))


class Several:
    """Three processes of one stream, in this thread; each reads one of the topic's partitions, or more."""

    def __init__(self, stream: Stream) -> None:
        self.clock = ManualClock()
        self.place = Place(MemoryTopics(self.clock), self.clock, lambda _partition, _before: None)
        self.driven = Driven(self.place, stream)
        maker = StreamMaker(self.place.topics, MemoryStates(), self.driven.maker._tables, self.clock)
        spec = stream.pipeline.spec()
        self.processes = [maker.process(spec, spec.streams[stream.name], name) for name in ("one", "two", "three")]
        self.run(3)
        assert all(process.works for process in self.processes)

    def run(self, seconds: float) -> None:
        """Let all work for so long."""
        until = self.clock.monotonic() + seconds
        while self.clock.monotonic() < until:
            for process in self.processes:
                process.turn()
            self.clock.advance(0.5)

    def reader_of(self, number: int) -> StreamProcess:
        (found,) = (p for p in self.processes if any(Partition("t", number) in w.inputs for w in p.works.values()))
        return found

    def feed(self, rows: list[dict[str, Any]], partition: int) -> None:
        self.driven.feed("t", rows, partitions=partition)

    def ends(self) -> list[str]:
        return [row["window_end"][17:19] for row in self.driven.rows("o")]

    def late(self) -> list[dict[str, Any]]:
        return self.driven.letters("late")


def plain(**options: Any) -> Stream:
    topic = tm.topic("t", COLUMNS, time="ts", partitions=3, idle="30s", **options)

    @tm.Pipeline("plain").stream(topic, to="o")
    def counts(t: tm.Frame) -> tm.Frame:
        return t.tumbling_window("10s", on="ts", by="zone").agg(n=tm.agg.count()).final()

    return counts


def test_a_process_whose_partitions_never_spoke_hears_from_others_what_time_it_is() -> None:
    several = Several(plain())
    assert several.reader_of(0) is not several.reader_of(2)
    several.feed([at(1), at(15)], 0)
    several.run(25)
    assert several.ends() == []
    several.run(10)
    assert several.ends() == ["10"]
    for second in (27, 38, 49):
        several.feed([at(second)], 0)
        several.run(4)
    assert several.ends() == ["10", "20", "30", "40"]
    assert not several.late()


def test_the_clock_goes_on_only_when_no_process_hears_anything() -> None:
    several = Several(plain(on_idle="clock"))
    for _ in range(12):
        several.feed([at(0)], 0)
        several.run(5)
    assert several.ends() == []  # event time stands: one speaks
    several.run(60)
    assert several.ends() == ["10"]  # it began to go on thirty seconds ago, from 0


def test_the_clock_stands_while_a_topic_speaks_though_nothing_of_it_comes_through() -> None:
    """The only times are made behind a filter that leaves nothing any more."""
    topic = tm.topic("t", COLUMNS, partitions=1, idle="30s", on_idle="clock")

    @tm.Pipeline("filtered").stream(topic, to="o")
    def counts(t: tm.Frame) -> tm.Frame:
        moved = t.filter(tm.col("car") == "a").map_rows(later, returns=THEN)
        return moved.tumbling_window("10s", on="then", by="zone").agg(n=tm.agg.count()).final()

    test = StreamTest(counts)
    test.feed("t", [at(1)])
    for _ in range(40):
        test.feed("t", [at(2, "b")])
        test.advance("3s")
    assert ends(test) == []
    test.advance("60s")
    assert ends(test) == ["10"]


def test_new_times_in_the_middle_go_on_in_all_processes() -> None:
    several = Several(of_few())
    for second in range(0, 60, 3):
        for number, car in enumerate(CARS):
            several.feed([at(second, car)], number)
        several.run(3)
    assert several.ends()[:2] == ["10", "20"]
    assert not several.late()


def test_nobody_is_silent_behind_a_step_while_rows_may_be_on_their_way() -> None:
    """One partition is not read for long, and the others go on: nothing that waits in it is late afterwards."""
    several = Several(of_few())
    for number in range(3):
        several.feed([at(1)], number)
    several.run(3)
    reader = several.reader_of(2)._joined()[1]
    reader.pause([Partition("t", 2)])
    several.feed([at(5)], 2)
    several.feed([at(31)], 0)
    several.run(100)
    several.feed([at(32)], 0)
    several.run(5)
    reader.resume([Partition("t", 2)])
    several.run(10)
    assert not several.late()
    several.run(120)
    assert several.ends() == ["10"]


def test_times_come_back_from_notes_and_there_is_room_for_them() -> None:
    times = Times({1: 5, 2: 9}, {1: 3}, False)
    assert Times.unpacked(times.packed()) == times
    assert times.upto == {1: 3, 2: 9}
    together = Times.together([times, Times({1: 7}, {1: 6}, True)])
    assert together == Times({1: 7, 2: 9}, {1: 3}, False)
    full = dict.fromkeys(range(16), -62_135_596_800_000_000)
    assert len(str(Times(full, dict.fromkeys(full, 9_223_372_036_854_775)).packed())) < LONGEST_NOTE - 1_100


def test_more_times_than_a_note_has_room_for_are_refused() -> None:
    topic = tm.topic("t", {f"t{n}": "timestamptz" for n in range(16)} | {"k": "string"}, key="k", partitions=1)
    pipeline = tm.Pipeline("many")

    @pipeline.stream(topic)
    def many(t: tm.Frame) -> tm.Frame:
        for n in range(16):
            t = t.unique("k", within="1s", on=f"t{n}")
        return t.to_topic(tm.topic("o"))

    with pytest.raises(DefinitionError, match="16 time columns in a stage; 15 are the most"):
        StreamTest(many)
