"""Port `live`: the lines of files as they are written, through rotation and truncation.

A file is known by its number in the file system, and by what it held: a hash of its first bytes, and one of the last
bytes that were read. So a file that was renamed is read to its end under its new name; one that was copied and cut to
nothing is told from one that has only grown, and what was not read of it yet is read from the copy.

The position: for each file its name, number, place, and the two hashes.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from tidemill.model.errors import LimitError, Unreachable
from tidemill.model.live import Begin
from tidemill.ports.clock import Clock
from tidemill.ports.live import Taken

_log = logging.getLogger("tidemill")

#: Bytes and lines that are given at a time.
_CHUNK = 4 << 20
_LINES = 50_000
#: Bytes that are hashed, at the beginning and before the place.
_PRINT = 256
#: A file that was rotated away is done with when it has not grown for so many seconds.
_QUIET = 30.0


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a file has been read.

    Args:
        name: of the file, when it was last seen.
        number: of its device and inode.
        at: the byte after the last line that was given.
        head, last: hashes of its first bytes, and of those before `at`.
    """

    name: str
    number: str
    at: int = 0
    head: str = ""
    last: str = ""


@dataclass(slots=True)
class _File:
    """A file that is being read."""

    path: Path
    mark: Mark
    #: Size and time of change when it was last looked at: what has not changed is not opened.
    seen: tuple[int, int] | None = None
    #: It has lost its name, or is a copy of what was cut.
    is_rotated: bool = False
    #: As such: since when it has not grown.
    quiet_since: float | None = None


class TailSource:
    """The port over files.

    Args:
        folder: the project's; a pattern is relative to it.
        pattern: a path; the file's name may have `*`.
        begin: where to begin in files that are there at the very first time.
        clock: the time.
    """

    def __init__(self, folder: Path, pattern: str, begin: Begin, clock: Clock) -> None:
        self._path = folder / pattern
        self._begin = begin
        self._clock = clock

    def open(self, position: Any) -> Tailing:
        """Begin to read."""
        marks = None if position is None else [Mark(**one) for one in position["files"]]
        return Tailing(self._path, marks, self._begin, self._clock)


class Tailing:
    """Files that are being read."""

    def __init__(self, path: Path, marks: list[Mark] | None, begin: Begin, clock: Clock) -> None:
        self._folder, self._pattern = path.parent, path.name
        self._clock = clock
        self._marks = marks
        self._begin = begin
        self._files: list[_File] = []
        self._turn = 0

    def read(self, timeout: float) -> Taken | None:
        """What has been written since."""
        try:
            taken = self._read()
            if taken is None:
                self._clock.sleep(timeout)
                taken = self._read()
        except OSError as error:
            raise Unreachable(f"Files cannot be read: {error}.", where=str(self._folder)) from None
        return taken

    def committed(self) -> None:
        """Nobody waits for an answer."""

    def close(self) -> None:
        """No file stays open."""
        self._files = []

    def _read(self) -> Taken | None:
        names = self._names()
        if self._marks is None:
            return self._first(names)
        if self._marks:  # of an earlier reading
            self._files = [found for mark in self._marks if (found := self._found(mark)) is not None]
            self._marks = []
        dropped = self._look(names)
        for file in self._in_turn():
            lines = self._lines(file)
            if lines:
                return self._taken(lines)
        if dropped:
            return self._taken([])
        return None

    def _first(self, names: list[Path]) -> Taken | None:
        """The very first look: files are noted, and read from here on."""
        self._marks = []
        self._files = [_File(path, _mark_of(path)) for path in names]
        if self._begin == "start" or not names:
            return self._taken([])
        for file in self._files:
            with file.path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                end = _line_end(stream, size)
                file.mark = _moved(file.mark, stream, end)
        return self._taken([])

    def _names(self) -> list[Path]:
        """Files that the pattern means, in order."""
        try:
            listed = sorted(os.listdir(self._folder)) if "*" in self._pattern else [self._pattern]
        except FileNotFoundError:
            return []
        return [p for name in listed if fnmatchcase(name, self._pattern) and (p := self._folder / name).is_file()]

    def _look(self, names: list[Path]) -> bool:
        """Take in files that are new, or another one under an old name; let those go that are read and gone."""
        for path in names:
            number = _number(path)
            if number is None:
                continue
            file = next((file for file in self._files if file.mark.number == number), None)
            if file is None:
                self._files.append(_File(path, Mark(path.name, number)))
            else:
                file.path, file.is_rotated = path, False
                self._check(file)
        current = {str(path) for path in names}
        gone = []
        for file in self._files:
            if str(file.path) not in current or _number(file.path) != file.mark.number:
                self._follow(file)
            if file.is_rotated and self._is_done(file):
                gone.append(file)
        self._files = [file for file in self._files if file not in gone]
        return bool(gone)

    def _check(self, file: _File) -> None:
        """See whether the file is still what was read: cut to nothing, it begins anew, whatever it holds by now."""
        found = os.stat(file.path)
        if file.seen == (found.st_size, found.st_mtime_ns) or file.mark.at == 0:
            return
        if _holds(file.path, file.mark):
            return
        rest = self._copy_of(file.mark, file.path)
        if rest is not None:
            self._files.insert(0, _File(rest, replace(file.mark, name=rest.name, number=_number(rest) or ""),
                                        is_rotated=True))  # fmt: skip
        else:
            _log.info("%s was cut; it is read from its beginning.", file.path)
        file.mark = Mark(file.path.name, file.mark.number)
        file.seen = None

    def _follow(self, file: _File) -> None:
        """A file that has lost its name: it may have another one, in the same folder."""
        file.is_rotated = True
        if _number(file.path) != file.mark.number:
            other = self._by_number(file.mark)
            if other is not None:
                file.path, file.seen = other, None

    def _found(self, mark: Mark) -> _File | None:
        """The file of a mark, after a time in which nobody looked."""
        path = self._folder / mark.name
        if _number(path) == mark.number:
            return _File(path, mark)
        other = self._by_number(mark) or self._copy_of(mark, None)
        if other is None:
            _log.warning("%s is gone; what was not read of it is lost.", path)
            return None
        return _File(other, replace(mark, name=other.name, number=_number(other) or mark.number), is_rotated=True)

    def _by_number(self, mark: Mark) -> Path | None:
        return next((p for p in self._beside() if _number(p) == mark.number and _holds(p, mark)), None)

    def _copy_of(self, mark: Mark, but: Path | None) -> Path | None:
        """A file beside that holds what was read, and perhaps more: a copy, made before the file was cut."""
        if mark.at == 0:
            return None
        known = {file.mark.number for file in self._files}
        stem = Path(mark.name).stem
        near = (path for path in self._beside() if stem in path.name and path != but)
        return next((path for path in near if _number(path) not in known and _holds(path, mark)), None)

    def _beside(self) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            yield from (path for name in sorted(os.listdir(self._folder)) if (path := self._folder / name).is_file())

    def _is_done(self, file: _File) -> bool:
        """Whether a file that was rotated away will not grow any more."""
        try:
            found = os.stat(file.path)
        except FileNotFoundError:
            return True
        if _number(file.path) != file.mark.number:
            return True
        now = self._clock.monotonic()
        if file.seen != (found.st_size, found.st_mtime_ns) or file.quiet_since is None:
            file.quiet_since = now
            return False
        if now - file.quiet_since < _QUIET:
            return False
        if file.mark.at < found.st_size:
            _log.warning("%s ends with a line that is not complete; it is left out.", file.path)
        return True

    def _in_turn(self) -> list[_File]:
        """Files that were rotated away first, as what they hold is older; the others take turns."""
        old = [file for file in self._files if file.is_rotated]
        new = [file for file in self._files if not file.is_rotated]
        self._turn += 1
        start = self._turn % len(new) if new else 0
        return [*old, *new[start:], *new[:start]]

    def _lines(self, file: _File) -> list[bytes]:
        """The next whole lines of a file, and its mark behind them."""
        try:
            found = os.stat(file.path)
        except FileNotFoundError:
            return []
        if file.seen == (found.st_size, found.st_mtime_ns):
            return []
        with file.path.open("rb") as stream:
            info = os.fstat(stream.fileno())
            if f"{info.st_dev}:{info.st_ino}" != file.mark.number or not _is_of(stream, file.mark):
                return []  # it has become another one since it was looked at: the next look tells
            stream.seek(file.mark.at)
            data = stream.read(_CHUNK)
            end = data.rfind(b"\n") + 1
            if not end:
                if len(data) == _CHUNK:
                    raise LimitError(
                        f"A line has more than {_CHUNK >> 20} MB.", where=f"{file.path} byte {file.mark.at}"
                    )
                file.seen = (info.st_size, info.st_mtime_ns)
                return []
            lines = data[:end].split(b"\n")[:-1]
            if len(lines) > _LINES:
                end = sum(map(len, lines[:_LINES])) + _LINES
                lines = lines[:_LINES]
            file.mark = _moved(file.mark, stream, file.mark.at + end)
        # The file is looked at again unless nothing is behind what was read.
        file.seen = (info.st_size, info.st_mtime_ns) if end == len(data) < _CHUNK else None
        file.quiet_since = None
        return [line.removesuffix(b"\r") for line in lines if line.strip()] or self._lines(file)

    def _taken(self, lines: list[bytes]) -> Taken:
        return Taken({"files": [asdict(file.mark) for file in self._files]}, lines)


def _number(path: Path) -> str | None:
    """What a file is to the file system; None: it is not there."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return f"{found.st_dev}:{found.st_ino}"


def _mark_of(path: Path) -> Mark:
    return Mark(path.name, _number(path) or "")


def _moved(mark: Mark, stream: BinaryIO, at: int) -> Mark:
    """The mark, further on."""
    return replace(mark, at=at, head=_hash(stream, 0, min(_PRINT, at)), last=_hash(stream, max(0, at - _PRINT), at))


def _holds(path: Path, mark: Mark) -> bool:
    """Whether a file holds what was read when the mark was made."""
    try:
        with path.open("rb") as stream:
            return _is_of(stream, mark)
    except FileNotFoundError:
        return False


def _is_of(stream: BinaryIO, mark: Mark) -> bool:
    if os.fstat(stream.fileno()).st_size < mark.at:
        return False
    moved = _moved(mark, stream, mark.at)
    return (moved.head, moved.last) == (mark.head, mark.last)


def _hash(stream: BinaryIO, begin: int, end: int) -> str:
    stream.seek(begin)
    return hashlib.sha256(stream.read(end - begin)).hexdigest()[:16] if end > begin else ""


def _line_end(stream: BinaryIO, size: int) -> int:
    """The byte after the last whole line."""
    at = size
    while at > 0:
        begin = max(0, at - _CHUNK)
        stream.seek(begin)
        found = stream.read(at - begin).rfind(b"\n")
        if found >= 0:
            return int(begin + found + 1)
        at = begin
    return 0
