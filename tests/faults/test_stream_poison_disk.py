"""A full disk, under the state of a stream and under topics: told once; with room again it goes on, each row once."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tidemill as tm
from harness.disks import Disk, small_disk
from harness.poison import QUIET, Driven, pipeline, topic_name
from harness.topics import Place, memory_place
from tidemill.adapters.rocksdict.state import RocksStates
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.adapters.sqlitestate.state import SqliteStates
from tidemill.authoring.streams import Stream
from tidemill.model.errors import Unreachable
from tidemill.ports.state import StateStores
from tidemill.ports.topic import Writer
from tidemill.testing.clock import ManualClock

KEYS = 40
TRIES = 4
SIZE = 200_000
STATES: dict[str, Callable[[Path], StateStores]] = {"sqlite": SqliteStates, "rocksdb": RocksStates}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system in memory, of two megabytes."""
    with small_disk(tmp_path / "disk") as made:
        yield made


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


def keeping(p: tm.Pipeline) -> Stream:
    """Remembers the text of each car, which does not become smaller by compression, and how many rows it had."""
    topic = tm.topic(topic_name(), {"car": "string", "text": "string"}, key="car")

    @p.stream(topic, to=tm.topic(topic_name()))
    def kept(t: tm.Frame) -> tm.Frame:
        counted = t.reduce("car", {"text": "", "n": 0}, lambda s, row: {"text": row["text"], "n": s["n"] + 1})
        return counted.select("car", "n")

    return kept


def rows(chance: random.Random) -> list[dict[str, str]]:
    return [{"car": f"c{key}", "text": chance.randbytes(SIZE // 2).hex()} for key in range(KEYS)]


def run(driven: Driven, until: Callable[[], object]) -> None:
    """Work as a process does, until something is so."""
    process, clock = driven.begin(), driven.place.clock
    end, reached = clock.monotonic() + 300, []

    def stopping() -> bool:
        if until():
            reached.append(True)
        return bool(reached) or clock.monotonic() > end

    process.run(stopping)
    driven.process = None
    assert reached, "it did not come to that"


def settle(driven: Driven) -> None:
    """Work until nothing more comes and all counts."""
    seen, quiet = -1, 0

    def settled() -> bool:
        nonlocal seen, quiet
        process = driven.process
        assert process is not None
        quiet = quiet + 1 if process.works and not process._dirty and process.counts.messages == seen else 0
        seen = process.counts.messages
        return quiet >= 2 * QUIET

    run(driven, settled)


def counts(driven: Driven) -> dict[str, int]:
    """The newest count of each car; and none was given twice."""
    found = [(row["car"], row["n"]) for row in driven.rows(driven.written())]
    assert len(found) == len(set(found)), "a result is there twice"
    return dict(found)


@pytest.mark.parametrize("kind", STATES)
def test_state_goes_on_where_it_was_when_there_is_room_again(
    kind: str, disk: Disk, p: tm.Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(7)
    disk.grow(2 if kind == "sqlite" else 4)
    with memory_place() as place, Driven(place, keeping(p), STATES[kind](disk.folder / "state")) as driven:
        driven.begin().close()
        for round_ in range(3):
            driven.feed(driven.read(), rows(chance))
            if round_ == 0:
                run(driven, lambda: _restarts(driven) >= TRIES)
                told = [record.getMessage() for record in caplog.records if record.name == "tidemill"]
                assert 1 <= len(told) <= 2
                assert "full" in told[0] or "No space left" in told[0]
                disk.grow(64)
            settle(driven)
            assert counts(driven) == {f"c{n}": round_ + 1 for n in range(KEYS)}


def _restarts(driven: Driven) -> int:
    assert driven.process is not None
    return driven.process.counts.restarts


def test_topics_in_a_database_on_a_full_disk_take_nothing_by_halves(
    disk: Disk, p: tm.Pipeline, sqlite_template: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(8)
    disk.grow(4)
    url = f"sqlite:///{shutil.copy(sqlite_template, disk.folder / 'metadata.db')}"
    clock = ManualClock()
    with SqlMetadata(url, "project", clock) as metadata:
        place = Place(SqlTopics(metadata, clock, own_time=False), clock, lambda _partition, _before: None)
        with Driven(place, keeping(p)) as driven:
            driven.begin().close()
            run(driven, lambda: True)
            taken = sent(driven, place.writer(), chance)
            assert 0 < taken < 100
            run(driven, lambda: _restarts(driven) >= TRIES)
            told = [record.getMessage() for record in caplog.records if record.name == "tidemill"]
            assert 1 <= len(told) <= 3
            assert "full" in told[0]
            disk.grow(64)
            assert len(driven.values(driven.read())) == taken * KEYS
            driven.feed(driven.read(), rows(chance))
            settle(driven)
            assert counts(driven) == {f"c{n}": taken + 1 for n in range(KEYS)}
        place.close()


def sent(driven: Driven, writer: Writer, chance: random.Random) -> int:
    """Feed until there is no room: how often that went well."""
    for number in range(100):
        try:
            writer.send(
                driven.read(), [json.dumps({**row, "text": row["text"][:5_000]}).encode() for row in rows(chance)]
            )
        except Unreachable:
            return number
    return 100
