"""What encrypted files promise beyond the port `files` (see `test_files.py`): nothing in the clear, nothing changed."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.secretplaces import key
from tidemill.adapters.crypto.files import _FRAME, SUFFIX, SealedFiles
from tidemill.adapters.crypto.keys import Keys
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.model.errors import DataError, SettingsError

SIZES = [0, 1, _FRAME - 1, _FRAME, _FRAME + 1, 2 * _FRAME, 2 * _FRAME + 77]


def sealed(below: MemoryFiles, text: str = "", name: str | None = "archive-key") -> SealedFiles:
    return SealedFiles(below, lambda: [Keys(text or key(1), "archive-key")], name)


def put(files: SealedFiles, content: bytes, path: str = "a/b") -> None:
    with files.create(path) as stream:
        stream.write(content)


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def stored(below: MemoryFiles, path: str = "a/b") -> bytes:
    with below.open(path + SUFFIX) as stream:
        return stream.read()


def replace(below: MemoryFiles, content: bytes, path: str = "a/b") -> None:
    below.delete(path + SUFFIX)
    with below.create(path + SUFFIX) as stream:
        stream.write(content)


def read(files: SealedFiles, path: str = "a/b") -> bytes:
    with files.open(path) as stream:
        return stream.read()


@pytest.mark.parametrize("size", SIZES)
def test_content_and_size_are_those_that_were_written(size: int) -> None:
    below = MemoryFiles()
    files = sealed(below)
    put(files, content_of(size))
    info = files.info("a/b")
    assert info is not None
    assert (info.path, info.bytes) == ("a/b", size)
    assert [(one.path, one.bytes) for one in files.list()] == [("a/b", size)]
    assert read(files) == content_of(size)
    assert below.info("a/b") is None


@given(
    pieces=st.lists(st.integers(0, 3 * _FRAME), max_size=5),
    reads=st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 70_000)), max_size=5),
)
def test_however_it_is_written_and_read_the_bytes_are_the_same(pieces: list[int], reads: list[tuple[int, int]]) -> None:
    files = sealed(MemoryFiles())
    whole = b"".join(map(content_of, pieces))
    with files.create("a/b") as stream:
        for size in pieces:
            stream.write(content_of(size))
    with files.open("a/b") as found:
        for at, size in reads:
            found.seek(at)
            assert found.read(size) == whole[at : at + size]
        found.seek(-min(10, len(whole)), 2)
        assert found.read() == whole[len(whole) - min(10, len(whole)) :]


def test_nothing_is_stored_in_the_clear_and_nothing_twice_alike() -> None:
    below = MemoryFiles()
    files = sealed(below)
    put(files, b"canary" * 1000)
    put(files, b"canary" * 1000, "a/c")
    assert b"canary" not in stored(below)
    assert stored(below)[60:] != stored(below, "a/c")[60:]


FRAME = _FRAME + 16
SECOND, THIRD = 49 + FRAME, 49 + 2 * FRAME
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda all_: all_[:-1] + bytes([all_[-1] ^ 1]),
    "a bit of the header": lambda all_: all_[:20] + bytes([all_[20] ^ 1]) + all_[21:],
    "cut by a byte": lambda all_: all_[:-1],
    "cut after a frame": lambda all_: all_[: 49 + FRAME],
    "cut after the header": lambda all_: all_[:49],
    "cut within the header": lambda all_: all_[:30],
    "empty": lambda _all: b"",
    "frames in another order": lambda all_: all_[:49] + all_[SECOND:THIRD] + all_[49:SECOND] + all_[THIRD:],
    "a frame twice": lambda all_: all_[: 49 + FRAME] + all_[49:],
    "something after it": lambda all_: all_ + b"x" * FRAME,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_not_read(change: str) -> None:
    below = MemoryFiles()
    files = sealed(below)
    put(files, content_of(2 * _FRAME + 77))
    replace(below, CHANGES[change](stored(below)))
    with pytest.raises((DataError, SettingsError)) as caught:
        read(files)
    assert "a/b" in str(caught.value)


def test_a_file_in_anothers_place_is_not_read() -> None:
    below = MemoryFiles()
    files = sealed(below)
    put(files, b"one")
    put(files, b"two", "a/c")
    replace(below, stored(below, "a/c"))
    with pytest.raises(DataError, match="damaged, cut, or was changed"):
        read(files)


def test_keys_rotate_and_what_was_there_before_stays_readable() -> None:
    below = MemoryFiles()
    with below.create("a/plain") as stream:
        stream.write(b"plain")
    put(sealed(below), b"one")
    both = sealed(below, f"{key(2)} {key(1)}")
    put(both, b"two", "a/c")
    assert [read(both, path) for path in ("a/plain", "a/b", "a/c")] == [b"plain", b"one", b"two"]
    assert both.key_name == f"archive-key/{Keys(key(2), '').newest[0].hex()}"
    with pytest.raises(SettingsError, match="encrypted by key"):
        read(sealed(below, key(2)))
    with pytest.raises(FileExistsError):
        put(both, b"again", "a/plain")
    off = sealed(below, name=None)
    with pytest.raises(FileExistsError):
        put(off, b"again")
    put(off, b"three", "a/d")
    assert (off.key_name, read(off, "a/d"), below.info("a/d" + SUFFIX)) == (None, b"three", None)
    assert [info.path for info in both.list("a/")] == ["a/b", "a/c", "a/d", "a/plain"]
