"""Lines of files as they are written: whole, each once, whatever becomes of the files meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.adapters.localfs.tail import Tailing, TailSource
from tidemill.model.errors import LimitError
from tidemill.model.live import Begin
from tidemill.testing.clock import ManualClock


class Reader:
    """Reads as a feeding does, which may end and go on from the last position."""

    def __init__(self, folder: Path, pattern: str = "log.jsonl", begin: Begin = "start") -> None:
        self.clock = ManualClock()
        self._source = TailSource(folder, pattern, begin, self.clock)
        self._position: Any = None
        self._reading: Tailing | None = None
        self.lines: list[bytes] = []

    def look(self) -> list[bytes]:
        """All lines that there are now."""
        if self._reading is None:
            self._reading = self._source.open(self._position)
        found: list[bytes] = []
        while (taken := self._reading.read(0.1)) is not None:
            found += [value for value in taken.values if value is not None]
            self._position = json.loads(json.dumps(taken.position))
        self.lines += found
        return found

    def begin_anew(self) -> None:
        """As another process."""
        self._reading = None


def test_a_line_is_given_when_its_end_is_written(tmp_path: Path) -> None:
    log, reader = tmp_path / "log.jsonl", Reader(tmp_path)
    assert reader.look() == []
    log.write_bytes(b"one\ntw")
    assert reader.look() == [b"one"]
    with log.open("ab") as stream:
        stream.write(b"o\n\n \nthree")
    assert reader.look() == [b"two"]
    reader.begin_anew()
    assert reader.look() == []
    with log.open("ab") as stream:
        stream.write(b"\r\n")
    assert reader.look() == [b"three"]


def test_from_the_end_means_what_is_written_from_now_on(tmp_path: Path) -> None:
    log, reader = tmp_path / "log.jsonl", Reader(tmp_path, begin="end")
    log.write_bytes(b"old\nhalf")
    assert reader.look() == []
    with log.open("ab") as stream:
        stream.write(b" a line\n")
    assert reader.look() == [b"half a line"]
    log.rename(tmp_path / "log.1")
    log.write_bytes(b"new\n")
    assert reader.look() == [b"new"], "what comes later is read from its beginning"


def test_a_file_that_is_rotated_while_nobody_looks_is_read_to_its_end(tmp_path: Path) -> None:
    log, reader = tmp_path / "log.jsonl", Reader(tmp_path)
    log.write_bytes(b"one\n")
    reader.look()
    reader.begin_anew()
    with log.open("ab") as stream:
        stream.write(b"two\n")
    log.rename(tmp_path / "log.jsonl.2026")
    log.write_bytes(b"three\n")
    assert reader.look() == [b"two", b"three"]


def test_another_file_with_the_number_of_one_that_was_deleted_is_another_file(tmp_path: Path) -> None:
    """File systems give the number of a deleted file to the next one."""
    log, reader = tmp_path / "log.jsonl", Reader(tmp_path)
    log.write_bytes(b"one\n")
    reader.look()
    number = os.stat(log).st_ino
    log.unlink()
    log.write_bytes(b"1st\n2nd\n")
    if os.stat(log).st_ino != number:
        log.write_bytes(b"")  # as good: the file that was read has other bytes now
        log.write_bytes(b"1st\n2nd\n")
    assert reader.look() == [b"1st", b"2nd"]


def test_files_of_a_pattern_are_read_each_in_its_order(tmp_path: Path) -> None:
    reader = Reader(tmp_path, "*.jsonl")
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{name}{n}\n" for n in range(3)))
    (tmp_path / "c.txt").write_text("not this\n")
    found = reader.look()
    assert sorted(found) == [b"a0", b"a1", b"a2", b"b0", b"b1", b"b2"]
    assert [line for line in found if line.startswith(b"b")] == [b"b0", b"b1", b"b2"]
    (tmp_path / "0.jsonl").write_text("new\n")
    assert reader.look() == [b"new"]


def test_a_file_that_was_rotated_away_is_forgotten_once_it_does_not_grow(tmp_path: Path) -> None:
    log, reader = tmp_path / "log.jsonl", Reader(tmp_path)
    log.write_bytes(b"one\n")
    reader.look()
    log.rename(tmp_path / "log.1")
    log.write_bytes(b"two\n")
    assert reader.look() == [b"two"]
    with (tmp_path / "log.1").open("ab") as stream:
        stream.write(b"written by one who has not noticed\n")
    assert reader.look() == [b"written by one who has not noticed"]
    reader.clock.advance(60)
    reader.look()
    reader.clock.advance(60)
    reader.look()
    assert [one["name"] for one in reader._position["files"]] == ["log.jsonl"]


def test_a_line_without_an_end_is_an_error_and_not_a_full_memory(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"ok\n" + b"x" * (5 << 20))
    reader = Reader(tmp_path)
    with pytest.raises(LimitError, match="more than 4 MB"):
        reader.look()


OPS = st.lists(st.sampled_from(["write", "write", "half", "rename", "copy", "look", "look", "begin anew"]), max_size=30)


class Log:
    """A file that a program writes, and that others rotate, in both ways that there are."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        self._folder = folder
        self._path = folder / "log.jsonl"
        self._reader = reader
        self._half = b""
        self._copies = 0
        #: Which line is the file's first.
        self._first = 0
        self.written: list[bytes] = []

    def write(self) -> None:
        """Write a line."""
        self.finish()
        self._append(b'{"line": %d}' % len(self.written), b"\n")

    def half(self) -> None:
        """Write half of a line."""
        self.finish()
        self._half = b'{"half": %d' % len(self.written)
        with self._path.open("ab") as stream:
            stream.write(self._half)

    def finish(self) -> None:
        """Write the other half."""
        if self._half:
            half, self._half = self._half, b""
            self._append(b"}", b"\n", before=half)

    def rename(self) -> None:
        """Rotate by renaming. A file that comes and goes between two looks is never seen: one has been."""
        self.finish()
        if self._path.exists():
            self._reader.look()
            self._more()
            self._path.rename(self._other())
            self._first = len(self.written)

    def copy(self) -> None:
        """Rotate by copying and cutting. A copy is known by what was read of it: a line was."""
        self.finish()
        if self._path.exists():
            if not set(self.written[self._first :]) & set(self._reader.lines):
                self._reader.look()
            self._more()
            shutil.copyfile(self._path, self._other())
            os.truncate(self._path, 0)
            self._first = len(self.written)

    def _more(self) -> None:
        """Something that has not been read yet."""
        if len(self.written) % 2:
            self.write()

    def _append(self, *parts: bytes, before: bytes = b"") -> None:
        with self._path.open("ab") as stream:
            stream.write(b"".join(parts))
        self.written.append(before + parts[0])

    def _other(self) -> Path:
        self._copies += 1
        return self._folder / f"log.jsonl.{self._copies}"


@given(OPS)
@settings(max_examples=few(150), deadline=None)
def test_whatever_is_done_to_a_log_each_line_is_given_once(ops: list[str]) -> None:
    """Written in parts, renamed, copied and cut, read by processes that end: the lines are those that were written."""
    folder = Path(tempfile.mkdtemp())
    try:
        reader = Reader(folder)
        log = Log(folder, reader)
        steps: dict[str, Callable[[], object]] = {
            "write": log.write, "half": log.half, "rename": log.rename, "copy": log.copy, "look": reader.look,
            "begin anew": reader.begin_anew,
        }  # fmt: skip
        reader.look()
        for op in ops:
            steps[op]()
        log.finish()
        reader.look()
        reader.look()
        assert sorted(reader.lines) == sorted(log.written)
    finally:
        shutil.rmtree(folder)
