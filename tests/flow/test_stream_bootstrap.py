"""History first, then live from exactly the next offset: a stream with a past gives what it gives over the whole topic.

The past is the topic's archive, or a table. Retention removes messages, processes die and begin again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tidemill as tm
from harness.archiving import HOUR, SESSION, TOPIC, Kept, kept
from harness.examples import few
from tidemill.adapters.arrow import message_files
from tidemill.adapters.memory.state import MemoryStates
from tidemill.adapters.polars import table_past
from tidemill.authoring import registry
from tidemill.flow.archive import Archive
from tidemill.flow.stream import pace
from tidemill.flow.stream.process import StreamProcess
from tidemill.flow.stream.topic_archive import TopicArchives
from tidemill.model.errors import DefinitionError, RunFailed
from tidemill.ports.topic import Partition, Topics, TopicSpec
from tidemill.testing import StreamTest
from tidemill.testing.faults import FaultPoints
from tidemill.testing.stream import _Tables
from tidemill.wiring.streams import StreamMaker

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = {"ts": "timestamptz", "car": "string", "n": "long"}
ROWS = tm.topic(
    TOPIC, COLUMNS, key="car", time="ts", lateness="3s", idle=None, partitions=2, retention="1h", archive="1m"
)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All is cut into small pieces, so that deaths come in the midst. And no pipelines of other tests are known."""
    monkeypatch.setattr(pace, "FIRST", 4)
    monkeypatch.setattr(pace, "MOST", 4)
    monkeypatch.setattr(message_files, "_ROWS", 3)
    monkeypatch.setattr(table_past, "_ROWS", 3)
    monkeypatch.setattr(table_past, "_STRETCH", 2)
    registry.clear()
    yield
    registry.clear()


def counted(rows: Any) -> Any:
    return rows.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count(), sum=tm.agg.sum("n")).final()


def stream(topic: Any = ROWS, **options: Any) -> Any:
    registry.clear()
    return tm.Pipeline("p").stream(counted, topic, to=tm.topic("out"), name="counts", **options)


class Played:
    """A stream over topics: it works, counts, and dies when told."""

    def __init__(self, topics: Topics, clock: Any, handle: Any, tables: Any = None) -> None:
        self.topics, self.clock = topics, clock
        self.pipeline = handle.pipeline.spec()
        self.maker = StreamMaker(topics, MemoryStates(), _Tables(tables or {}), clock)
        self.process: StreamProcess | None = None

    def work(self, turns: int = 3) -> None:
        if self.process is None:
            self.process = self.maker.process(self.pipeline, self.pipeline.streams["counts"], "test")
        for _ in range(turns):
            self.process.turn()

    def end(self) -> None:
        quiet = 0
        while quiet < 3:
            self.work(1)
            assert self.process is not None
            quiet = 0 if self.process.turn() else quiet + 1
        self.process.checkpoint()
        self.process.close()

    def crash(self) -> None:
        if self.process is not None:
            self.process.abandon()
            self.process = None
        self.clock.advance(SESSION)

    def restart(self) -> None:
        if self.process is not None:
            self.process.checkpoint()
            self.process.close()
            self.process = None


def results(topics: Topics, name: str = "out") -> list[tuple[Any, ...]]:
    """The rows of a topic, however they are ordered."""
    reader = topics.reader()
    reader.take({Partition(name, 0): 0})
    found = []
    while some := reader.read(10_000, 0):
        found += [json.loads(value) for one in some for value in one.values if value is not None]
    return sorted(tuple(row.values()) for row in found)


def message(second: int, number: int, n: int) -> bytes:
    at = (BEGIN + timedelta(seconds=second)).isoformat()
    return json.dumps({"ts": at, "car": f"car{number}", "n": n}).encode()


class Dead(Exception):
    """The process was killed."""


def died(at: str) -> None:
    raise Dead(at)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(0, 1), st.lists(st.integers(0, 60), min_size=1, max_size=6)),
        st.tuples(st.just("archive"), st.just(0), st.just([])),
        st.tuples(st.just("archiver dies"), st.integers(0, 12), st.just([])),
        st.tuples(st.just("cut"), st.integers(1, 9), st.just([])),
        st.tuples(st.sampled_from(["work", "checkpoint", "crash", "restart"]), st.just(0), st.just([])),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=few(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_stream_with_an_archive_gives_what_it_gives_over_a_topic_that_keeps_everything(
    kind: str, steps: Sequence[tuple[str, int, list[int]]], sqlite_template: Path, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    with kept(kind, sqlite_template, folder) as a, kept_all(sqlite_template, folder) as everything:
        a.make(2)
        played = Played(a.both, a.clock, stream(bootstrap="archive"))
        played.maker.plan(played.pipeline.streams["counts"])
        sent: dict[int, int] = {0: 0, 1: 0}
        stamps: dict[int, list[int]] = {0: [], 1: []}
        clock = 1

        def feed(number: int, seconds: list[int]) -> None:
            nonlocal clock
            values: list[bytes | None] = [message(s, number, clock + at) for at, s in enumerate(seconds)]
            times = range(clock, clock + len(values))
            for one in (a, everything):
                one.send(values, number, timestamps=times)
            sent[number] += len(values)
            stamps[number] += times
            clock += len(values)

        for what, number, seconds in steps:
            match what:
                case "feed":
                    feed(number, seconds)
                case "archive":
                    a.archive()
                case "archiver dies":
                    points = FaultPoints(number, died)
                    archives = TopicArchives(
                        points.metadata(a.metadata), Archive(points.files(a.files)), a.archives._files, a.clock
                    )
                    with contextlib.suppress(Dead):
                        a.archiver(archives).step(0, now=True)
                    for _ in range(4):  # until the group believes it; the stream goes on meanwhile
                        a.clock.advance(SESSION / 4)
                        if played.process is not None:
                            played.work(1)
                case "cut":
                    end = a.archives.of(TOPIC).end
                    unarchived = [t for p, times in stamps.items() for t in times[end.get(p, 0) :]]
                    upto = min([clock, *unarchived]) * number / 9 / 1000
                    a.topics.tidy(datetime.fromtimestamp(upto, UTC) + HOUR)  # type: ignore[attr-defined]  # embedded
                case "work":
                    played.work(1)
                case "checkpoint":
                    if played.process is not None:
                        played.process.checkpoint()
                case _:
                    getattr(played, what)()
        for number in (0, 1):
            feed(number, [1000])
        played.end()
        whole = Played(everything.topics, everything.clock, stream())
        whole.end()
        assert results(a.topics) == results(everything.topics)
        assert results(a.topics, "p.counts.late") == results(everything.topics, "p.counts.late")


@contextlib.contextmanager
def kept_all(template: Path, folder: Path) -> Iterator[Kept]:
    """The same topic, of which nothing is removed."""
    (folder / "all").mkdir()
    with kept("memory", template, folder / "all") as made:
        made.make(2)
        yield made


def ends(topics: Topics, name: str) -> tuple[int, ...]:
    info = topics.describe(name)
    return () if info is None else info.end


def test_what_not_even_the_archive_has_stops_a_stream(sqlite_template: Path, tmp_path: Path) -> None:
    with kept("memory", sqlite_template, tmp_path) as a:
        a.make(2)
        played = Played(a.both, a.clock, stream(bootstrap="archive"))
        a.send([message(1, 0, 1)], 0)
        played.work()
        played.restart()
        a.archive()
        a.send([message(2, 0, 1)] * 3, 0)
        a.clock.advance(HOUR)
        a.forget(1)
        a.send([message(3, 0, 1)], 0)
        with pytest.raises(RunFailed, match=r"messages 1 to 3 of t\[0\] were removed before they were read"):
            played.work(5)


# Tables


def row(second: int, number: int, n: int) -> dict[str, Any]:
    return {"ts": BEGIN + timedelta(seconds=second), "car": f"car{number}", "n": n}


LISTS = st.lists(st.integers(0, 60), max_size=25)


@settings(max_examples=few(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seconds=st.tuples(LISTS, LISTS),
    table=st.tuples(st.integers(0, 25), st.integers(0, 25)),
    gone=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    deaths=st.lists(st.sampled_from(["crash", "restart"]), max_size=4),
)
def test_a_stream_with_a_table_that_knows_the_messages_gives_what_it_gives_over_the_whole_topic(
    seconds: tuple[list[int], list[int]],
    table: tuple[int, int],
    gone: tuple[float, float],
    deaths: list[str],
    sqlite_template: Path,
    tmp_path_factory: Any,
) -> None:
    """Table and topic overlap, or meet; offsets are looked at, and no row counts twice."""
    folder = tmp_path_factory.mktemp("kept")
    with kept("memory", sqlite_template, folder) as a, kept_all(sqlite_template, folder) as everything:
        a.make(2)
        known = []
        for number in (0, 1):
            values: list[bytes | None] = [message(s, number, at) for at, s in enumerate([*seconds[number], 1000])]
            for one in (a, everything):
                one.send(values, number)
            held = min(table[number], len(seconds[number]))
            known += [
                {**row(s, number, at), "p": number, "o": at, "more": 1} for at, s in enumerate(seconds[number][:held])
            ]
            a.topics.trim({Partition(TOPIC, number): int(held * gone[number])})
        schema = {"ts": pl.Datetime("us", "UTC"), "car": pl.String, "n": pl.Int64}
        rows = pl.DataFrame(
            [*known[::-1], *known[:3]],
            {**schema, "p": pl.Int32, "o": pl.Int64, "more": pl.Int8},
        )
        handle = stream(bootstrap=tm.whole("past", partition="p", offset="o"))
        played = Played(a.both, a.clock, handle, {"p.past": rows})
        for death in deaths:
            played.work(1)
            if death == "crash" and played.process is not None:
                played.process.checkpoint()
                played.work(1)
            getattr(played, death)()
        played.end()
        Played(everything.topics, everything.clock, stream()).end()
        assert results(a.topics) == results(everything.topics)
        assert ends(a.topics, "p.counts.late") == ends(everything.topics, "p.counts.late")


@settings(max_examples=few(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    past=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 3)), max_size=40),
    late=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 3)), max_size=5),
    live=st.lists(st.tuples(st.integers(60, 120), st.integers(0, 3)), max_size=40),
    deaths=st.lists(st.sampled_from(["crash", "restart", "work"]), max_size=5),
)
def test_rows_of_a_table_before_a_time_and_messages_from_then_on_count_once_each(
    past: list[tuple[int, int]],
    late: list[tuple[int, int]],
    live: list[tuple[int, int]],
    deaths: list[str],
    sqlite_template: Path,
    tmp_path_factory: Any,
) -> None:
    """Whatever table and topic have besides: rows after the time, messages from before it."""
    with kept("memory", sqlite_template, tmp_path_factory.mktemp("kept")) as a:
        a.make(2)
        topic = tm.topic(TOPIC, COLUMNS, key="car", time="ts", lateness="2m", idle=None, partitions=2)
        until = BEGIN + timedelta(seconds=60)
        handle = stream(topic, bootstrap=tm.whole("past", until=until))
        everything = [row(s, car, s) for s, car in [*past, *live]]
        table = pl.DataFrame(
            everything[::2] + everything[1::2],
            {"ts": pl.Datetime("us", "UTC"), "car": pl.String, "n": pl.Int64},
        )
        keyed = [(f"car{car}".encode(), message(s, car, s)) for s, car in [*late, *live]]
        writer = a.topics.writer("feeding")
        if keyed:
            writer.send(TOPIC, [value for _, value in keyed], keys=[key for key, _ in keyed])
        writer.send(TOPIC, [message(1000, 9, 1)] * 2, partitions=[0, 1])
        writer.commit({})
        played = Played(a.both, a.clock, handle, {"p.past": table})
        for death in deaths:
            played.work(1)
            if played.process is not None:
                played.process.checkpoint()
            if death != "work":
                getattr(played, death)()
        played.end()
        wanted: dict[tuple[str, int], list[int]] = {}
        for s, car in [*past, *live]:
            wanted.setdefault((f"car{car}", s // 10), []).append(s)
        found = {(one[0], one[1]): (one[3], one[4]) for one in results(a.topics)}
        assert len(results(a.topics)) == len(wanted)
        assert {
            (car, (BEGIN + timedelta(seconds=window * 10)).strftime("%Y-%m-%dT%H:%M:%SZ")): (len(ns), sum(ns))
            for (car, window), ns in wanted.items()
        } == found
        assert ends(a.topics, "p.counts.late") == (0,)


def test_what_the_table_lacks_is_told_when_the_stream_begins() -> None:
    with pytest.raises(DefinitionError, match=r'table "p.past" has no column "n"'):
        StreamTest(
            stream(bootstrap=tm.whole("past", until="2026-01-01T00:00Z")),
            tables={"p.past": pl.DataFrame({"ts": [BEGIN], "car": ["a"]})},
        )


def test_a_column_of_another_type_is_told_when_the_stream_begins() -> None:
    rows = pl.DataFrame({"ts": ["2026-01-01T00:00:00Z"], "car": ["a"], "n": [1]})
    with pytest.raises(
        DefinitionError, match=r'column "ts" of table .* is of type String, and of topic "t" of type Date'
    ):
        StreamTest(stream(bootstrap=tm.whole("past", until="2026-01-01T00:00Z")), tables={"p.past": rows})


def test_stream_test_plays_a_table_of_the_past() -> None:
    handle = stream(bootstrap=tm.whole("past", until="2026-01-01T00:00:30Z"))
    test = StreamTest(handle, tables={"p.past": [row(1, 1, 5), row(40, 1, 9)]})
    test.feed(TOPIC, [row(31, 1, 7), row(55, 1, 0)])
    test.checkpoint()
    rows = [(one["window_start"][14:19], one["sum"]) for one in test.rows("out")]
    assert rows == [("00:00", 5), ("00:30", 7)], "the row of second 40 is the topic's to tell"


def test_a_topic_that_does_not_exist_yet_has_a_past_all_the_same() -> None:
    test = StreamTest(stream(bootstrap="archive"))
    test.feed(TOPIC, [row(1, 1, 1)])
    test._topics.create(TopicSpec("other"))
    assert test.process.counts.messages == 1
