"""Conformance of the port `files`: one test a promise, over every adapter; then what only a real folder can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.objectstore import KEY, SECRET, ObjectStore
from harness.secretplaces import key
from tidemill.adapters.crypto.files import SealedFiles
from tidemill.adapters.crypto.keys import Keys
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.adapters.s3.bucket import Bucket
from tidemill.adapters.s3.files import S3Files
from tidemill.model.errors import Refused
from tidemill.ports.files import TEMPORARY_PREFIX, Files

ADAPTERS: dict[str, Callable[[Path, ObjectStore], Files]] = {
    "localfs": lambda folder, _store: LocalFiles(folder / "root"),
    "memory": lambda _folder, _store: MemoryFiles(),
    "s3": lambda _folder, store: S3Files(bucket_of(store, "deep/er")),
    "encrypted": lambda folder, _store: sealed(LocalFiles(folder / "root")),
    "s3 whole bucket": lambda _folder, store: S3Files(bucket_of(store, "")),
}
LATER = timedelta(hours=1)


def sealed(below: Files) -> Files:
    return SealedFiles(below, lambda: [Keys(key(), "archive-key")], "archive-key")


def bucket_of(store: ObjectStore, prefix: str) -> Bucket:
    return Bucket(store.bucket(), prefix, store.endpoint, "us-east-1", key=KEY, secret=SECRET)


@pytest.fixture(params=ADAPTERS)
def files(request: pytest.FixtureRequest, tmp_path: Path, object_store: ObjectStore) -> Files:
    return ADAPTERS[request.param](tmp_path, object_store)


def put(files: Files, path: str, content: bytes = b"x") -> None:
    with files.create(path) as stream:
        stream.write(content)


def paths(files: Files, prefix: str = "") -> list[str]:
    return [info.path for info in files.list(prefix)]


def test_a_file_appears_whole_when_its_context_ends(files: Files) -> None:
    with files.create("a/b.csv") as stream:
        stream.write(b"half")
        stream.flush()
        assert files.info("a/b.csv") is None
        assert paths(files) == []
        with pytest.raises(FileNotFoundError):
            files.open("a/b.csv")
        stream.write(b" whole")
    with files.open("a/b.csv") as stream:
        assert stream.read() == b"half whole"
    info = files.info("a/b.csv")
    assert info is not None
    assert (info.path, info.bytes) == ("a/b.csv", 10)
    assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=1)


def test_an_exception_leaves_no_file(files: Files) -> None:
    def broken_write() -> None:
        with files.create("a.csv") as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken_write()
    assert files.info("a.csv") is None
    assert paths(files) == []
    put(files, "a.csv")
    assert paths(files) == ["a.csv"]


def test_a_stream_closed_by_the_writer_is_published(files: Files) -> None:
    with files.create("a.csv") as stream:
        stream.write(b"abc")
        stream.close()
    assert files.open("a.csv").read() == b"abc"


def test_a_file_that_exists_is_never_changed(files: Files) -> None:
    put(files, "a.csv", b"first")
    with pytest.raises(FileExistsError):
        put(files, "a.csv", b"second")
    assert files.open("a.csv").read() == b"first"


def test_of_two_writers_at_once_the_second_to_finish_fails(files: Files) -> None:
    def slow_write() -> None:
        with files.create("a.csv") as slow:
            slow.write(b"slow")
            put(files, "a.csv", b"fast")

    with pytest.raises(FileExistsError):
        slow_write()
    assert files.open("a.csv").read() == b"fast"
    assert paths(files) == ["a.csv"]


def test_of_many_threads_exactly_one_creates_a_path(files: Files) -> None:
    start, outcomes = threading.Barrier(8), []

    def attempt(number: int) -> None:
        start.wait()
        try:
            put(files, "deep/er/a.csv", bytes([number]) * 1000)
            outcomes.append(number)
        except FileExistsError:
            outcomes.append(None)

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [o for o in outcomes if o is not None]
    assert len(outcomes) == 8
    assert files.open("deep/er/a.csv").read() == bytes([winner]) * 1000


BAD_PATHS = ["", "/etc/passwd", "../a", "a/../../b", "a/..", "./a", "a//b", "a/", "a\0b", "..\\a", "a/.tidemill-tmp-1"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_leaves_the_root_is_refused(files: Files, path: str) -> None:
    for use in (lambda: put(files, path), lambda: files.open(path), lambda: files.info(path), lambda: files.url(path)):
        with pytest.raises(Refused):
            use()
    with pytest.raises(Refused):
        files.delete(path)
    assert paths(files) == []


def test_a_listing_stays_below_the_root(files: Files) -> None:
    for prefix in ("../", "/etc/", "a/../../"):
        with pytest.raises(Refused):
            paths(files, prefix)


def test_open_raises_for_what_does_not_exist_and_for_folders(files: Files) -> None:
    put(files, "a/b.csv")
    for path in ("b.csv", "a", "a/b.csv/c"):
        with pytest.raises(FileNotFoundError):
            files.open(path)
        assert files.info(path) is None


def test_open_gives_a_seekable_stream(files: Files) -> None:
    put(files, "a", b"0123456789")
    with files.open("a") as stream:
        stream.seek(-3, os.SEEK_END)
        assert stream.read() == b"789"
        stream.seek(2)
        assert stream.read(2) == b"23"


segment = st.text(alphabet="ab-.0é ", min_size=1, max_size=3).filter(lambda s: s not in (".", ".."))
some_paths = st.lists(st.lists(segment, min_size=1, max_size=3).map("/".join), max_size=8, unique=True)


@given(wanted=some_paths, data=st.data())
@settings(max_examples=few(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_list_gives_paths_in_order_by_prefix(
    adapter: str,
    tmp_path_factory: pytest.TempPathFactory,
    object_store: ObjectStore,
    wanted: list[str],
    data: st.DataObject,
) -> None:
    files = ADAPTERS[adapter](tmp_path_factory.mktemp("list"), object_store)
    kept = [p for p in wanted if not any(q.startswith(p + "/") for q in wanted)]
    for path in kept:
        put(files, path)
    assert paths(files) == sorted(kept)
    if kept:
        path = data.draw(st.sampled_from(kept))
        prefix = path[: data.draw(st.integers(0, len(path)))].lstrip("/")
        assert paths(files, prefix) == sorted(p for p in kept if p.startswith(prefix))


def test_delete_is_final_and_may_be_repeated(files: Files) -> None:
    put(files, "a/b/c.csv")
    put(files, "a/d.csv")
    files.delete("a/b/c.csv")
    files.delete("a/b/c.csv")
    files.delete("never/was")
    assert paths(files) == ["a/d.csv"]
    put(files, "a/b/c.csv", b"again")
    assert files.open("a/b/c.csv").read() == b"again"


def test_relative_undoes_url_and_refuses_foreign_addresses(files: Files) -> None:
    put(files, "a/b c.csv")
    assert files.relative(files.url("a/b c.csv")) == "a/b c.csv"
    root = files.url("a")[: -len("/a")]
    for foreign in ("/etc/passwd", "s3://bucket/a", root, root + "/../x", root + "x/a", "a"):
        with pytest.raises(Refused):
            files.relative(foreign)


# What only a folder on a disk can show.


@pytest.fixture
def local(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path / "root")


def temporaries(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names if name.startswith(TEMPORARY_PREFIX)]


def test_local_url_is_what_engines_open(local: LocalFiles, tmp_path: Path) -> None:
    put(local, "a/b.csv", b"k\n1\n")
    assert Path(local.url("a/b.csv")).read_bytes() == b"k\n1\n"
    assert local.relative("file://" + local.url("a/b.csv")) == "a/b.csv"
    assert temporaries(tmp_path) == []


def test_local_links_that_leave_the_root_are_refused(local: LocalFiles, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    put(local, "a")
    (tmp_path / "root" / "door").symlink_to(outside)
    (tmp_path / "root" / "hole").symlink_to(outside / "secret")
    for path in ("door/secret", "hole", "door/new"):
        for use in (lambda p: put(local, p), local.open, local.info, local.delete, local.url):
            with pytest.raises(Refused):
                use(path)
    with pytest.raises(Refused):
        paths(local, "door/")
    assert paths(local) == ["a"]
    assert [p.name for p in outside.iterdir()] == ["secret"]


def test_local_root_may_itself_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files = LocalFiles(tmp_path / "link")
    put(files, "a/b")
    assert paths(files) == ["a/b"]
    assert (tmp_path / "real" / "a" / "b").exists()


def test_local_delete_takes_away_the_folders_it_empties(local: LocalFiles, tmp_path: Path) -> None:
    put(local, "a/b/c")
    put(local, "a/d")
    local.delete("a/b/c")
    assert sorted(p.name for p in (tmp_path / "root" / "a").iterdir()) == ["d"]
    local.delete("a/d")
    assert list((tmp_path / "root").iterdir()) == []


WRITER = """
import sys
from tidemill.adapters.localfs.files import LocalFiles
files = LocalFiles(sys.argv[1])
with files.create("a/b.csv") as stream:
    stream.write(b"half" * 1000)
    stream.flush()
    print("writing", flush=True)
    sys.stdin.readline()
    stream.write(sys.argv[2].encode())
print("done", flush=True)
"""


def start_writer(root: Path, content: str = "end") -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), content],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


def test_local_kill_in_the_middle_of_a_write_leaves_no_file(local: LocalFiles, tmp_path: Path) -> None:
    writer = start_writer(tmp_path / "root")
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert local.info("a/b.csv") is None
    assert paths(local) == []
    put(local, "a/b.csv", b"second try")
    assert local.open("a/b.csv").read() == b"second try"


def test_local_sweep_takes_what_dead_writers_left_and_nothing_else(local: LocalFiles, tmp_path: Path) -> None:
    put(local, "a/kept")
    dead, living = start_writer(tmp_path / "root"), start_writer(tmp_path / "root")
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert local.sweep(datetime.now(UTC) - LATER) == 0, "too young"
    assert len(temporaries(tmp_path)) == 2
    assert local.sweep(datetime.now(UTC) + LATER) == 1, "the living writer's file stays, however old"
    assert living.communicate("\n")[0] == "done\n"
    assert temporaries(tmp_path) == []
    assert paths(local) == ["a/b.csv", "a/kept"]


def test_local_of_two_processes_one_creates_the_path(local: LocalFiles, tmp_path: Path) -> None:
    first, second = start_writer(tmp_path / "root", "first"), start_writer(tmp_path / "root", "second")
    for writer in (first, second):
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    ends = [writer.communicate() for writer in (first, second)]
    done = [out == "done\n" for out, _ in ends]
    assert sorted(done) == [False, True]
    assert "FileExistsError" in ends[done.index(False)][1]
    assert local.open("a/b.csv").read() == b"half" * 1000 + (b"first" if done[0] else b"second")
    assert temporaries(tmp_path) == []
