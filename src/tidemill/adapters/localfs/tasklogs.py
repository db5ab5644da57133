"""Port `tasklogs` in a local folder: a file of JSON lines for each try.

    ROOT/pipeline/run/task/1.jsonl          the first try
    ROOT/pipeline/run/task/0/2.jsonl        the second try of the first mapped instance

A line is one `write` to a file opened for appending, so that lines of several processes never mix, a reader sees each
at once, and a process that is killed leaves what it had. Measured: 8 us a line, 0.1 ms more for the first of a try.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

from tidemill.model.graph import WHOLE
from tidemill.ports.clock import Clock
from tidemill.ports.tasklogs import FoundLine, FoundPage, LogLine, LogPage, TryPlace, Wanted

#: The size of a log at which it is cut off.
LIMIT = 16 * 1024 * 1024
_ENDING = ".jsonl"
#: A file system's names have at most 255 bytes.
_LONGEST_NAME = 200
_BLOCK = 1 << 16
#: Bytes that are searched at once, and by one call.
_SEARCHED = 1 << 20
_LOOKED_THROUGH = 32 << 20


class LocalTaskLogs:
    """Logs below one folder.

    Args:
        root: the folder; made with the first line.
        clock: stamps the lines.
        limit: bytes of a log at which it is cut off.
    """

    def __init__(self, root: str | os.PathLike[str], clock: Clock, limit: int = LIMIT) -> None:
        self._root = Path(root)
        self._clock = clock
        self._limit = limit

    def open(self, place: TryPlace) -> LocalLogWriter:
        """A writer that adds to the log of a try."""
        return LocalLogWriter(self._path(place), self._clock, self._limit)

    def read(self, place: TryPlace, offset: int = 0, limit: int = 1000) -> LogPage:
        """Up to `limit` whole lines from an offset on."""
        lines: list[LogLine] = []
        try:
            with self._path(place).open("rb") as file:
                file.seek(offset)
                while len(lines) < limit and (text := file.readline()).endswith(b"\n"):
                    offset += len(text)
                    lines += _read_line(text)
        except FileNotFoundError:
            pass
        return LogPage(lines, offset)

    def tail(self, place: TryPlace, count: int = 100, before: int | None = None) -> LogPage:
        """The last lines, read from the file's end, or from an offset, backwards."""
        try:
            with self._path(place).open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                start = end = end if before is None else min(before, end)
                data, block = b"", _BLOCK
                while start and data.count(b"\n") <= count:
                    start = max(start - block, 0)
                    file.seek(start)
                    data = file.read(end - start)
                    block *= 2
        except FileNotFoundError:
            return LogPage([], 0)
        whole = data[: data.rfind(b"\n") + 1]
        offset = begin = start + len(whole)
        found: list[LogLine] = []
        raw = whole.splitlines(keepends=True)
        for text in reversed(raw if not start else raw[1:]):
            if len(found) == count:
                break
            begin -= len(text)
            found += _read_line(text)
        return LogPage(found[::-1], offset, begin)

    def find(self, place: TryPlace, wanted: Wanted, offset: int = 0, limit: int = 1000) -> FoundPage:
        """Lines that fit, from an offset on."""
        found: list[FoundLine] = []
        until = offset + _LOOKED_THROUGH
        may_fit = _sieve(wanted)
        try:
            with self._path(place).open("rb") as file:
                file.seek(offset)
                while offset < until:
                    block = file.read(_SEARCHED)
                    if not block.endswith(b"\n"):
                        block += file.readline()
                    if not (whole := block[: block.rfind(b"\n") + 1]):
                        return FoundPage(found, offset, whole=True)
                    if not may_fit(whole):
                        offset += len(whole)
                        continue
                    for text in whole.splitlines(keepends=True):
                        if len(found) == limit:
                            return FoundPage(found, offset, whole=False)
                        if may_fit(text):
                            found += [FoundLine(line, offset) for line in _read_line(text) if wanted.fits(line)]
                        offset += len(text)
        except FileNotFoundError:
            return FoundPage([], 0, whole=True)
        return FoundPage(found, offset, whole=False)

    def tries(self, pipeline: str, run_id: int) -> list[TryPlace]:
        """The tries of a run that have a file."""
        folder = self._root / _name(pipeline) / str(run_id)
        found = []
        for path in folder.glob(f"*/**/*{_ENDING}"):
            task, *index = path.relative_to(folder).parts[:-1]
            if path.stem.isdecimal() and all(part.isdecimal() for part in index) and len(index) <= 1:
                mapped = int(index[0]) if index else WHOLE
                found.append(TryPlace(pipeline, run_id, unquote(task), mapped, int(path.stem)))
        return sorted(found)

    def _path(self, place: TryPlace) -> Path:
        folder = self._root / _name(place.pipeline) / str(int(place.run_id)) / _name(place.task)
        if place.index != WHOLE:
            folder /= str(int(place.index))
        return folder / f"{int(place.number)}{_ENDING}"


class LocalLogWriter:
    """The log of one try; see the port."""

    def __init__(self, path: Path, clock: Clock, limit: int) -> None:
        self._path = path
        self._clock = clock
        self._left = limit
        self._limit = limit
        self._file: int | None = None
        self._broken = False

    @property
    def full(self) -> bool:
        """Whether what is written now is dropped."""
        return self._left <= 0 or self._broken

    def write(self, level: str, source: str, text: str) -> None:
        """Add a line."""
        if self.full:
            return
        try:
            if self._file is None:
                self._file = self._open()
            self._add(level, source, text)
        except OSError:
            # A disk that is full, or was taken away: the task goes on, and nobody is left to be told.
            self._broken = True

    def close(self) -> None:
        """Write no more."""
        self._broken = True
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        options = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            file = os.open(self._path, options, 0o666)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, options, 0o666)
        self._left -= os.fstat(file).st_size
        return file

    def _add(self, level: str, source: str, text: str) -> None:
        data = self._line(level, source, text)
        if len(data) > self._left:
            self._left = 0
            data = self._line("WARNING", "tidemill", f"The log is cut off here: it has reached {self._limit:,} bytes.")
        else:
            self._left -= len(data)
        assert self._file is not None
        os.write(self._file, data)

    def _line(self, level: str, source: str, text: str) -> bytes:
        made = {"at": self._clock.now().isoformat(), "level": level, "source": source, "text": text}
        return json.dumps(made, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _name(text: str) -> str:
    """A folder's name: no separators, no dots alone, not too long."""
    name = quote(text, safe=" +=@,()[]{}~!", errors="replace")
    if not name.strip("."):
        name = name.replace(".", "%2E") or "%"
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]
        name = f"{name[: _LONGEST_NAME - 20]}~{digest}"
    return name


def _sieve(wanted: Wanted) -> Callable[[bytes], bool]:
    """Says of raw lines, one or many, whether any may fit: a million lines take half a second instead of ten."""
    marks = None
    if wanted.level not in (None, "DEBUG", "INFO"):  # of a level that is not known INFO is what it counts as
        marks = [f'"level": "{level}"'.encode() for level in wanted.levels]  # quotes of a text are escaped there
    needle = json.dumps(wanted.text, ensure_ascii=False)[1:-1].lower()
    plain = needle.encode() if needle.isascii() else None

    def may_fit(raw: bytes) -> bool:
        if marks is not None and not any(mark in raw for mark in marks):
            return False
        if plain is not None:
            return plain in raw.lower() or not raw.isascii()
        return needle in raw.decode("utf-8", "replace").lower()

    return may_fit


def _read_line(text: bytes) -> list[LogLine]:
    """The line; none where a machine that crashed has left half of one."""
    try:
        found = json.loads(text)
        return [LogLine(datetime.fromisoformat(found["at"]), found["level"], found["source"], found["text"])]
    except (ValueError, KeyError, TypeError):
        return []
