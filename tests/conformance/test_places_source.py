"""The source over each place: order, transfers that break, what is new, what is complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness import fileservers
from harness.fileservers import PASSWORD
from harness.objectstore import ObjectStore
from harness.places import BIG, FAR, KINDS, LISTING, There, in_folder
from tidemill.adapters.http.place import HttpPlace
from tidemill.adapters.localfs.place import LocalPlace
from tidemill.flow.files import FilesSource
from tidemill.model.batch import Batch, BatchKey, BatchState, Bookmark, Interval
from tidemill.model.errors import DataError, TidemillError, Unreachable
from tidemill.model.pipeline import FilesOrigin, SourceKind, SourceSpec
from tidemill.model.table import TableName, TableSpec
from tidemill.ports.source import ExtractRequest, RawFile
from tidemill.testing.clock import ManualClock


@pytest.fixture
def there(request: pytest.FixtureRequest, tmp_path: Path, object_store: ObjectStore) -> Iterator[There]:
    folder = tmp_path / "there"
    folder.mkdir()
    with KINDS[request.param](folder, object_store) as made:
        yield made


every = pytest.mark.parametrize("there", KINDS, indirect=True)
listing = pytest.mark.parametrize("there", LISTING, indirect=True)
far = pytest.mark.parametrize("there", FAR, indirect=True)


def spec(**origin: Any) -> SourceSpec:
    made = FilesOrigin("unused", **origin)
    kind = SourceKind.BOOKMARK if made.new else SourceKind.INTERVAL
    return SourceSpec("files", TableSpec(TableName("shop", "files")), made, kind, place="shop.py:3")


class Extracted:
    """What an extraction gave."""

    def __init__(
        self,
        there: There,
        pattern: str,
        clock: ManualClock,
        bookmark: Bookmark = None,
        until: Bookmark = None,
        **origin: Any,
    ) -> None:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        key = BatchKey("shop", Interval(start, start + timedelta(days=1)))
        batch = Batch(1, key, BatchState.OPEN, start)
        source = FilesSource(spec(**origin), there.open, lambda _request: pattern, clock)
        self.files: dict[str, bytes] = {}
        with source.extract(ExtractRequest(batch, bookmark, until)) as extraction:
            for piece in extraction:
                assert isinstance(piece, RawFile)
                with piece.open() as stream:
                    self.files[piece.name] = b"".join(iter(lambda s=stream: s.read(50_000), b""))  # type: ignore[misc]
            self.bookmark = extraction.bookmark_after

    @property
    def names(self) -> list[str]:
        return list(self.files)


@pytest.fixture
def later() -> ManualClock:
    """A clock by which all that a test has written is old."""
    return ManualClock(datetime.now(UTC) + timedelta(hours=1))


@listing
def test_files_are_given_in_the_order_of_their_names(there: There, later: ManualClock) -> None:
    for name in ("c", "a", "b"):
        there.put(f"in/{name}.csv", name.encode())
    got = Extracted(there, "in/*.csv", later)
    assert got.files == {"in/a.csv": b"a", "in/b.csv": b"b", "in/c.csv": b"c"}
    assert got.names == sorted(got.names)


@every
def test_no_file_is_an_error_unless_it_may_be(there: There, later: ManualClock) -> None:
    with pytest.raises(DataError, match=r'No file matches "in/a\.csv"'):
        Extracted(there, "in/a.csv", later)
    assert Extracted(there, "in/a.csv", later, optional=True).files == {}


@far
def test_a_transfer_that_breaks_is_taken_up_where_it_broke(there: There, later: ManualClock) -> None:
    there.put("a.bin", BIG)
    there.breaks(300_000, 2)
    assert Extracted(there, "a.bin", later).files == {"a.bin": BIG}


@far
def test_a_transfer_that_goes_on_breaking_is_unreachable(there: There, later: ManualClock) -> None:
    there.put("a.bin", BIG)
    there.breaks(0, 10**6)
    with pytest.raises(TidemillError) as caught:
        Extracted(there, "a.bin", later)
    assert isinstance(caught.value, Unreachable)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("there", ["http", "sftp", "ftp"], indirect=True)
def test_a_file_that_is_replaced_while_it_is_read_is_an_error(there: There, later: ManualClock) -> None:
    there.put("a.bin", BIG)
    assert there.server is not None
    there.server.cut, there.server.during = 500_000, lambda: there.put("a.bin", BIG[::-1] + b"more")
    with pytest.raises(Unreachable, match=r"changed|replaced"):
        Extracted(there, "a.bin", later)


def test_a_web_server_that_takes_no_ranges_sends_all_again(tmp_path: Path, later: ManualClock) -> None:
    (tmp_path / "a.bin").write_bytes(BIG)
    with fileservers.web(tmp_path) as server:
        server.ranges = False
        there = There(lambda: HttpPlace(f"http://127.0.0.1:{server.port}"), *in_folder(tmp_path), server)
        there.breaks(300_000, 1)
        assert Extracted(there, "a.bin", later).files == {"a.bin": BIG}


def test_a_web_server_that_tells_nothing_of_a_file_cannot_tell_what_is_new(tmp_path: Path, later: ManualClock) -> None:
    (tmp_path / "a.bin").write_bytes(BIG)
    with fileservers.web(tmp_path) as server:
        server.tells = False
        there = There(lambda: HttpPlace(f"http://127.0.0.1:{server.port}"), *in_folder(tmp_path), server)
        assert Extracted(there, "a.bin", later).files == {"a.bin": BIG}
        with pytest.raises(DataError, match="Nothing tells whether"):
            Extracted(there, "a.bin", later, new=True)


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_web_server_that_fails_is_unreachable(tmp_path: Path, later: ManualClock, status: int) -> None:
    with fileservers.web(tmp_path) as server:
        server.status = status
        there = There(lambda: HttpPlace(f"http://127.0.0.1:{server.port}"), *in_folder(tmp_path), server)
        with pytest.raises(Unreachable, match=str(status)):
            Extracted(there, "a.bin", later)
        assert len(server.seen) == 4, "it is asked again, a few times"


# -- what is new


@listing
def test_new_and_changed_files_are_taken_once(there: There, later: ManualClock) -> None:
    there.put("in/a.csv", b"a")
    there.put("in/b.csv", b"b")
    first = Extracted(there, "in/*.csv", later, new=True)
    assert sorted(first.files) == ["in/a.csv", "in/b.csv"]
    again = Extracted(there, "in/*.csv", later, first.bookmark, new=True)
    assert again.files == {}
    assert again.bookmark == first.bookmark
    there.put("in/c.csv", b"c")
    there.put("in/a.csv", b"changed")
    third = Extracted(there, "in/*.csv", later, again.bookmark, new=True)
    assert third.files == {"in/a.csv": b"changed", "in/c.csv": b"c"}
    rerun = Extracted(there, "in/*.csv", later, again.bookmark, third.bookmark, new=True)
    assert rerun.files == third.files
    assert rerun.bookmark == third.bookmark


@listing
def test_what_is_gone_is_forgotten_unless_all_is(there: There, later: ManualClock) -> None:
    there.put("in/a.csv", b"a")
    there.put("in/b.csv", b"b")
    first = Extracted(there, "in/*.csv", later, new=True)
    there.remove("in/a.csv")
    second = Extracted(there, "in/*.csv", later, first.bookmark, new=True)
    assert second.bookmark["files"] == 1
    there.remove("in/b.csv")
    third = Extracted(there, "in/*.csv", later, second.bookmark, new=True)
    assert third.bookmark == second.bookmark
    with pytest.raises(DataError, match="not there any more"):
        Extracted(there, "in/*.csv", later, None, first.bookmark, new=True)


@listing
def test_what_is_young_is_left_for_later(there: There) -> None:
    there.put("in/a.csv", b"a")
    clock = ManualClock(datetime.now(UTC) + timedelta(seconds=2))
    first = Extracted(there, "in/*.csv", clock, new=True, complete_after=timedelta(minutes=5))
    assert first.files == {}
    clock.advance(timedelta(minutes=6))
    second = Extracted(there, "in/*.csv", clock, first.bookmark, new=True, complete_after=timedelta(minutes=5))
    assert second.files == {"in/a.csv": b"a"}


class Growing(ManualClock):
    """A clock whose first sleep is when a file grows."""

    def __init__(self, start: datetime, grow: Callable[[], None]) -> None:
        super().__init__(start)
        self._grow: Callable[[], None] | None = grow

    def sleep(self, seconds: float) -> None:
        if self._grow is not None:
            grow, self._grow = self._grow, None
            grow()
        super().sleep(seconds)


@listing
def test_what_grows_between_two_looks_is_left_for_later(there: There) -> None:
    there.put("in/a.csv", b"a")
    there.put("in/b.csv", b"b")
    clock = Growing(datetime.now(UTC) + timedelta(hours=1), lambda: there.put("in/a.csv", b"more of it"))
    first = Extracted(there, "in/*.csv", clock, new=True, complete_after=timedelta(minutes=1))
    assert first.files == {"in/b.csv": b"b"}
    second = Extracted(there, "in/*.csv", clock, first.bookmark, new=True, complete_after=timedelta(minutes=1))
    assert second.files == {"in/a.csv": b"more of it"}


@listing
def test_the_files_of_an_interval_are_waited_for_until_they_are_complete(there: There) -> None:
    there.put("in/a.csv", b"a")
    clock = ManualClock(datetime.now(UTC) + timedelta(seconds=2))
    before = clock.now()
    got = Extracted(there, "in/*.csv", clock, complete_after=timedelta(minutes=5))
    assert got.files == {"in/a.csv": b"a"}
    assert clock.now() - before >= timedelta(minutes=4)


@listing
def test_a_marker_says_that_a_file_is_complete(there: There, later: ManualClock) -> None:
    for name in ("a.csv", "b.csv", "a.csv.ok"):
        there.put(f"in/{name}", name.encode())
    first = Extracted(there, "in/*", later, new=True, done="{name}.ok")
    assert first.names == ["in/a.csv"]
    there.put("in/b.csv.ok", b"")
    second = Extracted(there, "in/*", later, first.bookmark, new=True, done="{name}.ok")
    assert second.names == ["in/b.csv"]
    there.put("in/c.csv", b"c")
    with pytest.raises(Unreachable, match=r'"in/c\.csv\.ok" is not'):
        Extracted(there, "in/*", later, done="{name}.ok")


@listing
def test_a_marker_of_a_whole_folder(there: There, later: ManualClock) -> None:
    there.put("in/a.csv", b"a")
    with pytest.raises(Unreachable):
        Extracted(there, "in/*.csv", later, done="_SUCCESS")
    there.put("in/_SUCCESS", b"")
    assert Extracted(there, "in/*", later, done="_SUCCESS").files == {"in/a.csv": b"a"}


def test_a_link_out_of_the_project_is_refused(tmp_path: Path, later: ManualClock) -> None:
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.csv").symlink_to(tmp_path / "secret")
    there = There(lambda: LocalPlace(root, "shop.py:3"), *in_folder(root))
    for pattern in ("*.csv", "a.csv"):
        with pytest.raises(TidemillError, match="link out of the project"):
            Extracted(there, pattern, later)
    assert os.path.exists(tmp_path / "secret")
