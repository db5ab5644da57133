"""Raw messages are archived each once, whatever dies, and are read with the topic as if nothing had been removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.archiving import HOUR, SESSION, TOPIC, Kept, kept
from harness.examples import few
from tidemill.flow.archive import Archive
from tidemill.flow.stream.topic_archive import SOURCE, TopicArchives
from tidemill.model.batch import BatchState, owner_of
from tidemill.model.errors import Conflict
from tidemill.ports.topic import Partition
from tidemill.testing.faults import FaultPoints

ZERO, ONE = Partition(TOPIC, 0), Partition(TOPIC, 1)


def numbered(many: int, start: int = 0) -> list[bytes | None]:
    return [b"%d" % i for i in range(start, start + many)]


@pytest.fixture(params=["memory", "sqlite"])
def a(request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path) -> Iterator[Kept]:
    """A topic with an archive."""
    with kept(request.param, sqlite_template, tmp_path) as made:
        yield made


def aged(a: Kept, many: int, start: int = 0) -> list[bytes | None]:
    """Send messages, let them be archived, and let retention remove them."""
    sent = numbered(many, start)
    a.send(sent, 0)
    assert a.archive() == many
    a.clock.advance(HOUR)
    a.forget(1)
    return sent


def test_everything_of_a_message_is_archived(a: Kept) -> None:
    a.make(1)
    a.send(
        [b"v", None, b""], timestamps=[5, -1, 7], keys=[b"k", b"k2", None], headers=[[("h", b"1"), ("h", None)], [], []]
    )
    a.archive()
    found = [one for _, batch in a.archives.read(ZERO, 0) for one in batch]
    assert len(found) == 1
    one = found[0]
    assert (list(one.offsets), list(one.timestamps)) == ([0, 1, 2], [5, -1, 7])
    assert (one.keys, one.values) == ([b"k", b"k2", None], [b"v", None, b""])
    assert one.headers == [[("h", b"1"), ("h", None)], [], []]


def test_a_batch_of_messages_is_a_batch_like_any_other(a: Kept) -> None:
    a.make(2)
    a.send(numbered(10), 0)
    a.send(numbered(4), 1)
    a.archive()
    with a.metadata.read() as tx:
        (batch,) = tx.batches.recent()
        manifest = tx.archive.get(batch.id, SOURCE)
    assert (batch.pipeline, batch.key.run_key, batch.state) == (owner_of(TOPIC), "messages 1", BatchState.PUBLISHED)
    assert manifest is not None
    assert (manifest.rows, len(manifest.parts), manifest.bookmark_before) == (14, 1, None)
    assert (manifest.bookmark_after or {})["end"] == {"0": 10, "1": 4}  # type: ignore[call-overload, index]  # as it is kept
    info = a.files.info(manifest.parts[0].path)
    assert info is not None
    assert info.bytes == manifest.parts[0].bytes


def test_messages_wait_for_others_of_their_batch_and_no_longer(a: Kept) -> None:
    a.make(1)
    archiver = a.archiver(every=60)
    a.send(numbered(3))
    assert [archiver.step(0) for _ in range(3)] == [0, 0, 0]
    a.send(numbered(2, 3))
    for _ in range(10):  # in steps: a member that is silent for long loses its task
        a.clock.advance(6)
        count = archiver.step(0)
    assert count == 5


def test_what_the_topic_no_longer_has_is_read_from_the_archive_and_then_the_topic_at_the_next_offset(a: Kept) -> None:
    a.make(1)
    sent = aged(a, 30) + aged(a, 20, 30)
    a.send(later := numbered(5, 50))
    info = a.topics.describe(TOPIC)
    assert info is not None
    assert info.first == (50,), "the test is about messages that are removed"
    for start in (0, 1, 29, 30, 49, 50, 54, 55):
        assert a.read({ZERO: start})[ZERO] == list(enumerate(sent + later))[start:]
        assert a.lost == {}
    assert a.read({ZERO: 7}, limit=3)[ZERO] == list(enumerate(sent + later))[7:]


def test_a_topic_reaches_back_to_what_is_archived(a: Kept) -> None:
    a.make(2)
    aged(a, 30)
    a.send(numbered(5), 1)
    info = a.both.describe(TOPIC)
    assert info is not None
    assert (info.first, info.end) == ((0, 0), (30, 5))


def test_a_time_is_found_in_the_archive(a: Kept) -> None:
    a.make(1)
    stamps = [10, 30, 20, 40, 40, 35, 60, 50]
    for stamp in stamps:
        a.send([b"x"], timestamps=[stamp])
        a.archive()
    a.forget(-1)
    info = a.topics.describe(TOPIC)
    assert info is not None
    assert info.first == (8,)
    a.send([b"y"], timestamps=[70])
    for time in range(0, 90, 5):
        expected = next((o for o, stamp in enumerate([*stamps, 70]) if stamp >= time), 9)
        assert a.both.at(TOPIC, time) == (expected,)


def test_what_is_removed_while_it_is_read_comes_from_the_archive(a: Kept) -> None:
    a.make(1)
    a.send(sent := numbered(40), 0)
    a.archive()
    reader = a.both.reader(ahead=1)
    reader.take({ZERO: 0})
    found = [v for one in reader.read(4, 0) for v in one.values]
    a.clock.advance(HOUR)
    a.forget(1)
    a.send(later := numbered(3, 40), 0)
    while some := reader.read(4, 0):
        found += [v for one in some for v in one.values]
    assert found == sent + later
    assert reader.lost() == {}


def test_what_nobody_has_is_told_as_lost_once(a: Kept) -> None:
    a.make(1)
    aged(a, 10)
    a.send(numbered(10, 10))
    a.clock.advance(HOUR)
    a.forget(1)  # before they were archived
    a.send(numbered(5, 20))
    assert [offset for offset, _ in a.read({ZERO: 5})[ZERO]] == [*range(5, 10), *range(20, 25)]
    assert a.lost == {ZERO: (10, 20)}
    a.archive()
    a.clock.advance(HOUR)
    a.forget(1)
    a.send(numbered(1, 25))
    assert [offset for offset, _ in a.read({ZERO: 5})[ZERO]] == [*range(5, 10), *range(20, 26)]
    assert a.lost == {ZERO: (10, 20)}, "also when what follows is in the archive"


def test_a_paused_partition_gives_nothing_of_its_past(a: Kept) -> None:
    a.make(2)
    aged(a, 10)
    a.send(numbered(4), 1)
    reader = a.both.reader()
    reader.take({ZERO: 0, ONE: 0})
    reader.pause([ZERO])
    found = [one for _ in range(5) for one in reader.read(100, 0)]
    assert [(one.partition, len(one)) for one in found] == [(ONE, 4)]
    reader.resume([ZERO])
    assert [(one.partition, len(one)) for one in reader.read(100, 0)] == [(ZERO, 10)]
    reader.drop([ZERO])
    a.send(numbered(1), 0)
    assert reader.read(100, 0) == []


def test_the_past_of_one_partition_does_not_starve_another(a: Kept) -> None:
    a.make(2)
    aged(a, 500)
    a.send(numbered(50), 1)
    reader = a.both.reader()
    reader.take({ZERO: 0, ONE: 0})
    seen = {ZERO: 0, ONE: 0}
    while seen[ONE] < 50:
        for one in reader.read(7, 0):
            seen[one.partition] += len(one)
    assert seen[ZERO] < 100


def test_a_partition_is_not_at_its_end_while_its_past_is_read(a: Kept) -> None:
    a.make(1)
    aged(a, 10)
    a.send(numbered(5))
    reader = a.both.reader()
    reader.take({ZERO: 0})
    reader.read(10, 0)
    assert reader.ends()[ZERO] > 10
    reader.read(10, 0)
    assert reader.ends() == {ZERO: 15}


def test_a_topic_that_was_made_again_has_no_past(a: Kept) -> None:
    a.make(1)
    aged(a, 10)
    a.topics.delete(TOPIC)
    a.make(1)
    a.send([b"new"])
    assert a.archive() == 1
    assert a.both.describe(TOPIC) == a.topics.describe(TOPIC)
    a.clock.advance(HOUR)
    a.forget(1)
    a.send([b"newer"])
    assert a.read({ZERO: 0})[ZERO] == [(0, b"new"), (1, b"newer")]


def test_a_second_archiver_waits_and_goes_on_when_the_first_has_died(a: Kept) -> None:
    a.make(1)
    first, second = a.archiver(), a.archiver()
    a.send(numbered(3))
    assert first.step(0, now=True) == 3
    assert second.step(0, now=True) == 0
    a.send(numbered(3, 3))
    assert second.step(0, now=True) == 0
    a.clock.advance(SESSION)  # the first says nothing any more
    second.step(0)
    assert second.step(0, now=True) + second.step(0, now=True) == 3
    assert a.archives.of(TOPIC).end == {0: 6}


def test_one_that_was_replaced_archives_nothing(a: Kept) -> None:
    a.make(1)
    first, second = a.archiver(), a.archiver()
    a.send(numbered(3))
    first.step(0)
    a.clock.advance(SESSION)
    second.step(0)
    assert second.step(0, now=True) == 3
    with pytest.raises(Conflict):
        first._archive(first._opened())  # type: ignore[arg-type]  # it is open; as if it had been at this very point when it lost its place
    assert a.archives.of(TOPIC).batches == 1


# Death


@dataclass
class Dead(Exception):
    """The process was killed."""

    at: str


def died(at: str) -> None:
    raise Dead(at)


def doomed(a: Kept, points: FaultPoints) -> TopicArchives:
    return TopicArchives(points.metadata(a.metadata), Archive(points.files(a.files)), a.archives._files, a.clock)


def test_an_archiver_that_dies_anywhere_leaves_each_offset_archived_once(sqlite_template: Path, tmp_path: Path) -> None:
    """Before and after each file, and each transaction: also between file, manifest and the bookmark's move."""
    passed = _died_at(None, sqlite_template, tmp_path)
    assert len(passed) > 8, "files and transactions pass fault points"
    for at in range(len(passed)):
        _died_at(at, sqlite_template, tmp_path)


def _died_at(at: int | None, template: Path, folder: Path) -> list[str]:
    """Let an archiver die, and another one go on; gives the effects that it had until then."""
    points = FaultPoints(at, died)
    (folder / f"{at}").mkdir()
    with kept("memory", template, folder / f"{at}") as a:
        a.make(1)
        a.send(numbered(5))
        a.archive()
        a.send(numbered(5, 5))
        with contextlib.suppress(Dead):
            a.archiver(doomed(a, points)).step(0, now=True)
        assert at is None or len(points.passed) == at + 1
        a.clock.advance(SESSION)
        a.send(numbered(5, 10))
        a.archive()
        a.forget(-HOUR.total_seconds())
        assert a.read({ZERO: 0})[ZERO] == list(enumerate(numbered(15))), points.passed[-1]
        with a.metadata.read() as tx:
            assert sum(one.rows or 0 for one in tx.archive.recent()) == 15
            assert {batch.state for batch in tx.batches.recent()} == {BatchState.PUBLISHED}
    return points.passed


# Anything


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(1, 9)),
        st.tuples(st.just("archive"), st.booleans(), st.just(0)),
        st.tuples(st.just("cut"), st.just(0), st.integers(1, 9)),
        st.tuples(st.just("read"), st.integers(1, 12), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
        st.tuples(st.just("crash"), st.integers(0, 14), st.just(0)),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=few(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_whatever_is_removed_and_whoever_dies_a_reader_gets_each_message_once(
    kind: str, steps: list[tuple[str, Any, int]], sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Retention removes no more than is archived; readers and archivers come and go."""
    with kept(kind, sqlite_template, tmp_path_factory.mktemp("kept")) as a:
        a.make(2)
        sent: dict[Partition, list[bytes | None]] = {ZERO: [], ONE: []}
        got: dict[Partition, list[bytes | None]] = {ZERO: [], ONE: []}
        reader = a.both.reader(ahead=3)
        reader.take({ZERO: 0, ONE: 0})
        stamps: dict[Partition, list[int]] = {ZERO: [], ONE: []}
        clock = 1

        def read(limit: int) -> bool:
            some = reader.read(limit, 0)
            for one in some:
                assert list(one.offsets) == list(range(len(got[one.partition]), len(got[one.partition]) + len(one)))
                got[one.partition] += one.values
            return bool(some)

        for what, number, many in steps:
            match what:
                case "send":
                    values = numbered(many, len(sent[Partition(TOPIC, number)]))
                    a.send(values, number, timestamps=range(clock, clock + many))
                    sent[Partition(TOPIC, number)] += values
                    stamps[Partition(TOPIC, number)] += range(clock, clock + many)
                    clock += many
                case "archive":
                    a.archive()
                case "cut":
                    end = a.archives.of(TOPIC).end
                    open_ = [t for p, times in stamps.items() for t in times[end.get(p.number, 0) :]]
                    upto = min([clock, *open_]) * many / 9 / 1000
                    a.topics.tidy(datetime.fromtimestamp(upto, UTC) + HOUR)  # type: ignore[attr-defined]  # embedded
                case "read":
                    read(number)
                case "restart":
                    reader.close()
                    reader = a.both.reader(ahead=3)
                    reader.take({p: len(values) for p, values in got.items()})
                case "crash":
                    with contextlib.suppress(Dead):
                        a.archiver(doomed(a, FaultPoints(number, died))).step(0, now=True)
                    a.clock.advance(SESSION)
        while read(5):
            pass
        assert got == sent
        assert reader.lost() == {}
