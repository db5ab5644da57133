"""What only an object store can show of the port `files`: lost answers, errors, stores without conditional writes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from harness.objectstore import KEY, SECRET, FaultyProxy, ObjectStore, Request, proxying
from tidemill.adapters.s3.bucket import Bucket
from tidemill.adapters.s3.files import S3Files
from tidemill.model.errors import SettingsError, TidemillError, Unreachable

SMALL, LARGE = b"small " * 100, os.urandom(1 << 20) * 17
PATIENCE = timedelta(seconds=2)
#: Where the store answers wrongly for good, and the end of patience is waited for.
SHORT = {"patience": timedelta(milliseconds=400)}


@pytest.fixture
def proxy(object_store: ObjectStore) -> Iterator[FaultyProxy]:
    with proxying(object_store.endpoint) as made:
        yield made


@pytest.fixture
def name(object_store: ObjectStore) -> str:
    return object_store.bucket()


def files_at(endpoint: str, name: str, **options: Any) -> S3Files:
    bucket = {"patience": PATIENCE, **options.pop("bucket", {})}
    return S3Files(Bucket(name, "root", endpoint, "us-east-1", key=KEY, secret=SECRET, **bucket), **options)


@pytest.fixture
def files(proxy: FaultyProxy, name: str) -> S3Files:
    return files_at(proxy.endpoint, name)


def put(files: S3Files, path: str, content: bytes) -> None:
    with files.create(path) as stream:
        stream.write(content)


def is_write(request: Request) -> bool:
    return request.method in ("PUT", "POST") and "conditional" not in request.path


@pytest.mark.parametrize("what", ["500", "503", "lost", "done", "drop"])
@pytest.mark.parametrize(
    ("content", "nth"),
    [pytest.param(SMALL, 0, id="small"), *(pytest.param(LARGE, nth, id=f"large-{nth}") for nth in range(5))],
)
def test_a_write_that_fails_once_is_done_once(
    files: S3Files, proxy: FaultyProxy, object_store: ObjectStore, name: str, content: bytes, what: str, nth: int
) -> None:
    """Each of a write's requests fails once: by an error, or by an answer that is lost after it was done."""
    put(files, "before", b"")
    passed = []

    def fault(request: Request) -> str | None:
        if not is_write(request):
            return None
        passed.append(request)
        return what if len(passed) == nth + 1 else None

    proxy.fault = fault
    put(files, "a", content)
    assert len(passed) > nth
    proxy.fault = lambda _request: None
    with files.open("a") as stream:
        assert stream.read() == content
    with pytest.raises(FileExistsError):
        put(files, "a", content + b"other")
    assert [one.path for one in files.list()] == ["a", "before"]
    left = [key for key in object_store.keys(name) if "uploads" in key]
    assert left == []


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("what", ["500", "503", "drop"])
def test_a_store_that_goes_on_failing_is_unreachable_and_leaves_no_file(
    files: S3Files, proxy: FaultyProxy, name: str, content: bytes, what: str
) -> None:
    put(files, "before", b"")
    proxy.first(10**6, what, is_write)
    with pytest.raises(Unreachable) as caught:
        put(files_at(proxy.endpoint, name, bucket=SHORT), "a", content)
    assert SECRET not in str(caught.value)
    assert "s3://" in str(caught.value)
    proxy.fault = lambda _request: None
    assert [one.path for one in files.list()] == ["before"]
    put(files, "a", content)


def test_an_answer_that_never_comes_is_waited_for_as_long_as_patience_says(
    proxy: FaultyProxy, name: str, object_store: ObjectStore
) -> None:
    put(files_at(object_store.endpoint, name), "a", SMALL)
    impatient = files_at(
        proxy.endpoint, name, bucket={"answer": timedelta(milliseconds=300), "patience": timedelta(seconds=1)}
    )
    proxy.first(1, "hang")
    with impatient.open("a") as stream:
        assert stream.read() == SMALL
    proxy.first(10**6, "hang")
    with pytest.raises(Unreachable):
        impatient.open("a")


def test_a_server_that_is_not_there_is_unreachable(name: str) -> None:
    with pytest.raises(Unreachable, match=r"at http://127\.0\.0\.1:9 does not answer"):
        files_at("http://127.0.0.1:9", name).info("a")


@pytest.mark.parametrize("what", ["cut", "drop", "500"])
def test_reading_goes_on_after_an_answer_that_is_cut(files: S3Files, proxy: FaultyProxy, what: str) -> None:
    put(files, "a", LARGE)
    stream = files.open("a")
    begun = stream.read(100)
    proxy.first(1, what)
    assert begun + stream.read() == LARGE


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(
    files: S3Files, object_store: ObjectStore, name: str
) -> None:
    put(files, "a", LARGE)
    stream = files.open("a")
    stream.read(100)
    object_store.client.put_object(Bucket=name, Key="root/a", Body=LARGE[::-1])
    with pytest.raises(Unreachable, match="replaced"):
        stream.read()


def test_readers_ask_for_ranges_and_not_for_whole_objects(files: S3Files, proxy: FaultyProxy) -> None:
    put(files, "a", LARGE)
    asked: list[str] = []
    proxy.fault = lambda request: asked.append(request.headers.get("range", "all"))
    with files.open("a") as stream:
        stream.seek(-1000, os.SEEK_END)
        assert stream.read() == LARGE[-1000:]
    assert len(asked) == 2
    sizes = [int(end) - int(start) + 1 for start, end in (one.removeprefix("bytes=").split("-") for one in asked)]
    assert sum(sizes) < 100_000


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_store_without_conditional_writes_is_refused_before_anything_is_written(
    files: S3Files, proxy: FaultyProxy, content: bytes
) -> None:
    proxy.first(10**6, "unconditional")
    with pytest.raises(SettingsError, match="no conditional writes") as caught:
        put(files, "a", content)
    assert "conditional_writes = false" in str(caught.value)
    assert [one.path for one in files.list()] == []


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_who_says_so_writes_to_a_store_without_conditional_writes_and_a_taken_name_is_still_refused(
    proxy: FaultyProxy, name: str, content: bytes
) -> None:
    files = files_at(proxy.endpoint, name, conditional=False)
    proxy.first(10**6, "unconditional")
    put(files, "a", content)
    with pytest.raises(FileExistsError):
        put(files, "a", content)
    with files.open("a") as stream:
        assert stream.read() == content


def test_without_conditional_writes_the_last_of_two_who_write_at_once_wins(proxy: FaultyProxy, name: str) -> None:
    """What `conditional_writes = false` gives up, shown: nobody is told."""
    files = files_at(proxy.endpoint, name, conditional=False)
    proxy.first(10**6, "unconditional")
    both, outcomes = threading.Barrier(2), []

    def fault(request: Request) -> str:
        if request.method == "PUT":
            both.wait(10)
        return "unconditional"

    proxy.fault = fault

    def write(content: bytes) -> None:
        put(files, "a", content)
        outcomes.append(content)

    threads = [threading.Thread(target=write, args=(content,)) for content in (b"one", b"two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [b"one", b"two"]
    assert files.open("a").read() in (b"one", b"two")


def test_a_file_that_no_store_copies_at_once_is_written_all_the_same(proxy: FaultyProxy, name: str) -> None:
    files = files_at(proxy.endpoint, name, largest_copy=1 << 20)
    put(files, "a", LARGE)
    with pytest.raises(FileExistsError):
        put(files, "a", LARGE)
    assert files.open("a").read() == LARGE


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_a_writer_that_stops_leaves_nothing_in_the_store(
    files: S3Files, object_store: ObjectStore, name: str, content: bytes
) -> None:
    def broken() -> None:
        with files.create("a") as stream:
            stream.write(content)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert object_store.keys(name) == []
    assert object_store.uploads(name) == []


def test_a_large_upload_that_fails_is_given_up(
    files: S3Files, proxy: FaultyProxy, object_store: ObjectStore, name: str
) -> None:
    put(files, "before", b"")
    proxy.first(10**6, "503", lambda request: "partNumber=2" in request.path)
    with pytest.raises(Unreachable):
        put(files, "a", LARGE)
    assert object_store.uploads(name) == []


def test_what_dead_writers_uploaded_is_swept_and_nothing_else(
    files: S3Files, object_store: ObjectStore, name: str
) -> None:
    put(files, "a", SMALL)
    object_store.client.put_object(Bucket=name, Key="root/.tidemill-tmp-uploads/dead", Body=LARGE)
    assert [one.path for one in files.list()] == ["a"]
    assert files.sweep(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert files.sweep(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert not any("uploads" in key for key in object_store.keys(name))
    assert files.open("a").read() == SMALL


def test_listings_of_many_pages_are_whole_and_in_order(
    files: S3Files, object_store: ObjectStore, name: str, proxy: FaultyProxy
) -> None:
    wanted = [f"many/{i:05d}" for i in range(1100)]
    for path in wanted:
        object_store.client.put_object(Bucket=name, Key=f"root/{path}", Body=b"")
    object_store.client.put_object(Bucket=name, Key="root/many-others", Body=b"")
    proxy.first(1, "503")
    assert [one.path for one in files.list("many/")] == wanted
    assert [one.path for one in files.list("many/0001")] == wanted[10:20]
    proxy.seen.clear()
    assert len(list(files.list("many/010"))) == 100
    assert len(proxy.seen) == 1, "a listing begins where the prefix does"


def test_keys_that_are_wrong_and_buckets_that_are_missing_are_settings(object_store: ObjectStore) -> None:
    nowhere = files_at(object_store.endpoint, "nobody-has-this")
    for use in (lambda: put(nowhere, "a", SMALL), lambda: put(nowhere, "a", LARGE), lambda: list(nowhere.list()),
                lambda: nowhere.open("a")):  # fmt: skip
        with pytest.raises(SettingsError, match='no bucket "nobody-has-this"'):
            use()


def test_a_store_that_refuses_is_a_setting_and_no_secret_is_told(proxy: FaultyProxy, name: str) -> None:
    files = files_at(proxy.endpoint, name)
    proxy.fault = lambda _request: "403"
    for use in (lambda: put(files, "a", SMALL), lambda: list(files.list()), lambda: files.open("a"),
                lambda: files.info("a"), lambda: files.delete("a")):  # fmt: skip
        with pytest.raises(SettingsError, match="refuses") as caught:
            use()
        assert SECRET not in str(caught.value)
        assert KEY not in str(caught.value)


def test_what_is_stored_now_is_not_older_than_now(files: S3Files) -> None:
    """Stores tell whole seconds; the collector compares them with when attempts began."""
    before = datetime.now(UTC)
    put(files, "a", SMALL)
    info = files.info("a")
    assert info is not None
    assert info.modified_at >= before
    assert next(iter(files.list())).modified_at >= before


MEMORY = """
import resource, sys
from datetime import timedelta
from tidemill.adapters.s3.bucket import Bucket
from tidemill.adapters.s3.files import S3Files
files = S3Files(Bucket(sys.argv[2], "root", sys.argv[1], "us-east-1", key="k", secret="s"))
with files.create("warm") as stream:
    stream.write(b"x" * (9 << 20))
files.open("warm").read()
piece = bytes(1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with files.create("a") as stream:
    for _ in range(200):
        stream.write(piece)
read = 0
with files.open("a") as stream:
    while found := stream.read(1 << 20):
        read += len(found)
assert read == 200 << 20, read
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_large_file_is_written_and_read_in_bounded_memory(object_store: ObjectStore, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, object_store.endpoint, name], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout)
    assert grown < 120_000, f"{grown} KB more for 200 MB"


def test_errors_are_ours(proxy: FaultyProxy, name: str) -> None:
    """Whatever answer comes, what is raised is told in our words."""
    files = files_at(proxy.endpoint, name, bucket=SHORT)
    for status in ("400", "404", "405", "409", "411", "416", "429", "501"):
        proxy.fault = lambda _request, status=status: status  # type: ignore[misc]
        for use in (lambda: put(files, "a", SMALL), lambda: list(files.list()), lambda: files.info("a")):
            told = ""
            try:
                use()
            except (TidemillError, FileNotFoundError, FileExistsError) as error:
                told = str(error)
            assert "Debug source" not in told
