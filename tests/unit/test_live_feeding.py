"""The loop that feeds a topic: one process at a time, errors told and survived, keys and times of what it writes."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harness import services
from harness.livefeeds import SESSION, Counter, Rig, drain, until
from harness.topics import Place, sql_place
from tidemill import live
from tidemill.flow.live.feeding import BACK_OFF
from tidemill.flow.live.progress import forget_progress
from tidemill.model.errors import DataError, DefinitionError, Fenced, UnknownName
from tidemill.ports.live import Taken
from tidemill.ports.topic import Partition
from tidemill.wiring.live import writing


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> Iterator[Place]:
    services.note_used(request, "SQLite", sqlite3.sqlite_version)
    with sql_place(f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'topics.db')}") as made:
        yield made


class Numbers:
    """A source without threads: the numbers from a position on, two at a time."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self.numbers = numbers
        self.opened: list[Any] = []
        self.failing: list[Exception] = []
        self.closed = 0
        self._at = 0

    def open(self, position: Any) -> Numbers:
        self.opened.append(position)
        self._at = position or 0
        return self

    def read(self, timeout: float) -> Taken | None:
        if self.failing:
            raise self.failing.pop(0)
        some = [b'{"id": %d}' % n for n in self.numbers[self._at : self._at + 2]]
        if not some:
            return None
        self._at += len(some)
        return Taken(self._at, some)

    def committed(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.closed += 1


def ids(rig: Rig) -> list[int]:
    return [row["id"] for row in rig.rows()]


def numbered(place: Place, root: Path, **topic: Any) -> Rig:
    return Rig.of(place, root, live.custom(Counter([])), **topic)


def test_one_of_two_processes_feeds_and_the_other_goes_on_when_it_dies(place: Place, tmp_path: Path) -> None:
    rig, first, second = numbered(place, tmp_path), Numbers(range(6)), Numbers(range(8))
    one, other = rig.feeding(first), rig.feeding(second)
    drain(one, 2)
    for _ in range(10):
        other.turn()
        one.turn()
    assert (one.is_at_work, other.is_at_work, second.opened) == (True, False, [])
    one.abandon()
    place.clock.sleep(SESSION)
    drain(other)
    assert second.opened == [6]
    assert ids(rig) == list(range(8))
    other.close()


def test_a_source_that_is_slow_to_begin_does_not_lose_its_place(place: Place, tmp_path: Path) -> None:
    """It may sort a large table for minutes: whoever feeds gives signs of life, and nobody else begins the same."""
    import threading

    class Slow(Numbers):
        sorted = threading.Event()

        def open(self, position: Any) -> Numbers:
            assert self.sorted.wait(60)
            return super().open(position)

    rig, slow, second = numbered(place, tmp_path), Slow([0, 1]), Numbers([0, 1])
    one, other = rig.feeding(slow), rig.feeding(second)
    for _ in range(6):
        one.turn()
        other.turn()
        place.clock.sleep(5.0)
    assert (one.is_at_work, other.is_at_work) == (True, False)
    slow.sorted.set()
    drain(one)
    assert (ids(rig), second.opened, rig.told) == ([0, 1], [], [])
    one.close()
    other.close()


def test_one_that_comes_back_from_the_dead_commits_nothing(place: Place, tmp_path: Path) -> None:
    """It was away for longer than a session, and another has gone on: its next commit is refused."""
    rig, first, second = numbered(place, tmp_path), Numbers([0, 1]), Numbers([0, 1, 2, 3])
    one, other = rig.feeding(first), rig.feeding(second)
    drain(one, 2)
    place.clock.sleep(SESSION)
    drain(other)
    first.numbers = [0, 1, 2, 3]
    writer = one._writer
    assert writer is not None
    writer.send(rig.topic.name, [b'{"id": 99}'])
    with pytest.raises(Fenced):
        writer.commit({})
    drain(one)
    assert ids(rig) == [0, 1, 2, 3]
    one.close()
    other.close()


def test_a_source_that_fails_is_told_and_tried_again_where_it_was(place: Place, tmp_path: Path) -> None:
    rig, source = numbered(place, tmp_path), Numbers(range(4))
    feeding = rig.feeding(source)
    drain(feeding, 1)
    source.numbers = range(6)
    source.failing = [ValueError("a"), DataError("b")]
    feeding.turn()
    assert (type(feeding.error), source.closed) == (ValueError, 1)
    assert feeding.turn() == 0, "not at once"
    place.clock.sleep(BACK_OFF[0])
    feeding.turn()
    place.clock.sleep(BACK_OFF[1])
    drain(feeding)
    assert [str(error) for error in rig.told] == ["a", "b"]
    assert source.opened == [None, 4, 4]
    assert (feeding.error, ids(rig)) == (None, list(range(6)))
    feeding.close()


def test_a_message_that_the_topic_does_not_take_is_told_and_not_left_out(place: Place, tmp_path: Path) -> None:
    rig = numbered(place, tmp_path)
    source = Numbers([])
    feeding = rig.feeding(source)
    large = Taken(1, [b"x" * 200_000_000])
    source.read = lambda timeout: large  # type: ignore[method-assign]  # what it gives now
    feeding.turn()
    assert isinstance(rig.told[0], DataError)
    assert rig.progress().messages == 0
    source.read = lambda timeout: None  # type: ignore[method-assign]
    source.numbers = [7]
    del source.read
    place.clock.sleep(BACK_OFF[0])
    drain(feeding)
    assert ids(rig) == [7]
    feeding.close()


def test_another_source_begins_anew_and_the_same_one_goes_on(place: Place, tmp_path: Path) -> None:
    rig = numbered(place, tmp_path)
    for called, opened in (("a", None), ("a", 2), ("b", None)):
        source = Numbers([0, 1])
        feeding = rig.feeding(source)
        feeding.called = called
        drain(feeding)
        feeding.close()
        assert source.opened == [opened]
    assert ids(rig)[:2] == [0, 1]
    assert rig.progress().source == "b"


def test_a_source_that_is_to_begin_anew_does_so_while_it_runs(place: Place, tmp_path: Path) -> None:
    rig, source = numbered(place, tmp_path), Numbers([0, 1])
    feeding = rig.feeding(source)
    drain(feeding)
    found = forget_progress(place.topics, place.clock, rig.topic.name)
    assert found is not None
    assert found.messages == 2
    source.numbers = [0, 1, 2]
    with pytest.raises(Fenced):
        drain(feeding)
    feeding._let_go()
    drain(feeding)
    assert source.opened == [None, None]
    feeding.close()
    assert forget_progress(place.topics, place.clock, "nothing") is None


def test_custom_messages_are_rows_bytes_text_or_say_more(place: Place, tmp_path: Path) -> None:
    class Mixed:
        def read(self, position: Any) -> Any:
            if position is None:
                yield {"id": 1, "name": "a row"}, "one"
                yield [b"bytes", "text", live.Message(None, key="gone")], "several"
                yield live.Message({"id": 2}, key=b"k", at=5_000, headers={"h": b"v"}), "more"

    rig = Rig.of(place, tmp_path, Mixed(), key=("id",))
    feeding = rig.feeding()
    until(rig, feeding, 5)
    reader = place.reader({Partition(rig.topic.name, 0): 0})
    found = reader.read(10, 1.0)[0]
    assert found.values == [b'{"id": 1, "name": "a row"}', b"bytes", b"text", None, b'{"id": 2}']
    assert found.keys == [b"1", None, None, b"gone", b"k"]
    assert found.timestamps[-1] == 5_000
    assert found.headers is not None
    assert list(found.headers[-1]) == [("h", b"v")]
    assert rig.progress().position == "more"
    feeding.close()


def test_what_a_custom_source_raises_or_yields_wrongly_is_told(place: Place, tmp_path: Path) -> None:
    class Wrong:
        def __init__(self) -> None:
            self.pieces: list[Any] = [3, ({"id": 1},), ([3], 1)]

        def read(self, position: Any) -> Any:
            if self.pieces:
                yield self.pieces.pop(0)
            raise RuntimeError("no more")

    rig = Rig.of(place, tmp_path, Wrong())
    feeding = rig.feeding()

    def step() -> bool:
        feeding.turn()
        place.clock.sleep(BACK_OFF[-1] / 10)
        return len(rig.told) >= 4

    place.until(step)
    assert [type(error) for error in rig.told] == [DataError, DataError, DataError, RuntimeError]
    assert "no message" in str(rig.told[2])
    assert rig.progress().messages == 0
    feeding.close()


def test_a_custom_source_that_waits_for_ever_is_ended_by_its_own_close(place: Place, tmp_path: Path) -> None:
    import threading

    class Waiting:
        def __init__(self) -> None:
            self.end = threading.Event()

        def read(self, position: Any) -> Any:
            yield [], 1
            self.end.wait(30)

        def close(self) -> None:
            self.end.set()

    source = Waiting()
    rig = Rig.of(place, tmp_path, source)
    feeding = rig.feeding()
    place.until(lambda: (feeding.turn(), rig.progress().position == 1)[1])
    aside: Any = feeding._reading
    thread = aside._reading._thread
    feeding.close()
    assert not thread.is_alive()


# How it is written ----------------------------------------------------------------------------------------------------


def test_rows_are_written_as_the_topic_has_them(place: Place, tmp_path: Path) -> None:
    """Its columns in its types; others are left out, missing ones null; times become messages' where no column is."""
    rig = numbered(place, tmp_path, columns={"id": "long", "name": "string", "more": "double"}, key=("id",))
    rows = pa.record_batch({"id": pa.array([1], pa.int32()), "name": ["one"], "other": [True]})
    made = writing(rig.topic)(Taken(None, rows=rows, timestamps=[7]))
    assert made.values == [b'{"id":1,"name":"one","more":null}']
    assert (made.keys, made.timestamps) == ([b"1"], [7])
    timed = numbered(place, tmp_path, columns={"id": "long"}, time="id")
    assert writing(timed.topic)(Taken(None, rows=rows, timestamps=[7])).timestamps is None
    with pytest.raises(DataError, match="do not fit topic"):
        writing(rig.topic)(Taken(None, rows=pa.record_batch({"id": ["no number"]})))
    keyed = numbered(place, tmp_path, columns=None, key=("nothing",))
    with pytest.raises(UnknownName):
        writing(keyed.topic)(Taken(None, rows=rows))


def test_messages_get_a_key_as_far_as_it_can_be_read(place: Place, tmp_path: Path) -> None:
    """A message with another field that does not fit has its key all the same."""
    values = [b'{"id": 1, "name": "a"}', b'{"id": 2, "name": {}}', b"nonsense", b'{"id": "x"}', None]
    rig = numbered(place, tmp_path, key=("id",))
    assert writing(rig.topic)(Taken(None, values)).keys == [b"1", b"2", None, None, None]
    loose = numbered(place, tmp_path, columns=None, key=("id",))
    assert writing(loose.topic)(Taken(None, values)).keys == [b"1", b"2", None, b"x", None]
    several = numbered(place, tmp_path, key=("id", "name"))
    assert writing(several.topic)(Taken(None, values[:1])).keys == [b'[1,"a"]']
    given = writing(rig.topic)(Taken(None, values[:2], keys=[None, b"mine"])).keys
    assert given == [b"1", b"mine"]
    assert writing(numbered(place, tmp_path).topic)(Taken(None, values)).keys is None


def test_a_speed_needs_a_time_which_may_be_the_topics() -> None:
    import tidemill as tm

    with pytest.raises(DefinitionError, match="A speed needs a time"):
        tm.topic("t", {"at": "timestamptz"}, source=live.table("shop.orders", speed=2))
    made = tm.topic("t", {"at": "timestamptz"}, time="at", source=live.table("shop.orders", speed=2))
    assert made.source is not None
    assert getattr(made.source, "time") == "at"  # noqa: B009 - one kind of several has it


def test_progress_is_read_from_the_end_of_a_long_topic(place: Place, tmp_path: Path) -> None:
    rig = numbered(place, tmp_path)
    feeding = rig.feeding(Numbers(range(100)))
    drain(feeding, 1)
    found = rig.progress()
    assert (found.position, found.messages) == (100, 100)
    assert found.at > datetime(2020, 1, 1, tzinfo=UTC)
    feeding.close()
