"""What a tap's run brings, on its way to the archive: a file for each part of each feed, handed on when it is full."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tidemill.model.singer import ACTIVATIONS
from tidemill.ports.source import RawFile

#: Bytes of a part of lines, as the tap wrote them: loads take apart documents of less than 32 MB at once.
PART_BYTES = 24 << 20


class Spool:
    """Parts that are being written.

    Args:
        folder: for files that are not yet in the archive.
        part_bytes: of which a part is full.
    """

    def __init__(self, folder: Path, part_bytes: int = PART_BYTES) -> None:
        self._folder = folder
        self._part_bytes = part_bytes
        self._open: dict[tuple[str, str], _Part] = {}
        self._numbers: dict[str, int] = {}

    def write(self, feed: str, kind: str, ending: str, data: bytes) -> Iterator[RawFile]:
        """Add lines to a feed's part of a kind; gives it where it is full.

        Args:
            feed: whose.
            kind: how the part's name begins.
            ending: how it ends; `.zst` compresses it.
            data: with their newlines.
        """
        part = self._open.get((feed, kind))
        if part is None or part.ending != ending:
            # Parts are loaded in the order in which they are given, so that a feed's others come before.
            yield from self._end(feed, kind)
            part = self._open[feed, kind] = _Part(self._path(), self._name(feed, kind, ending), ending)
        part.write(data)
        if part.bytes >= self._part_bytes:
            del self._open[feed, kind]
            yield part.close(feed)

    def add(self, feed: str, kind: str, name: str, path: Path) -> Iterator[RawFile]:
        """Give a file as it is, after what the feed has had before."""
        yield from self._end(feed, kind)
        copied = self._path()
        shutil.copyfile(path, copied)
        yield _raw(copied, self._name(feed, kind, f"-{name}"), feed)

    def end(self) -> Iterator[RawFile]:
        """Give what is left."""
        for (feed, _), part in self._open.items():
            yield part.close(feed)
        self._open.clear()

    def _end(self, feed: str, kind: str) -> Iterator[RawFile]:
        """Give a feed's parts with rows, or about them, where another one of these begins."""
        for at in [at for at in self._open if at[0] == feed and _is_ordered(at[1]) and _is_ordered(kind)]:
            yield self._open.pop(at).close(feed)

    def _name(self, feed: str, kind: str, ending: str) -> str:
        number = self._numbers[feed] = self._numbers.get(feed, 0) + 1
        return f"{kind}{number:06d}{ending}"

    def _path(self) -> Path:
        return self._folder / f"part-{sum(self._numbers.values()):08d}"


class _Part:
    def __init__(self, path: Path, name: str, ending: str) -> None:
        self._path = path
        self.ending = ending
        self._name = name
        self._file: IO[bytes] = path.open("wb")
        self._out: Any = self._file
        if name.endswith(".zst"):
            import zstandard

            self._out = zstandard.ZstdCompressor(level=1).stream_writer(self._file)
        self.bytes = 0

    def write(self, data: bytes) -> None:
        self.bytes += len(data)
        self._out.write(data)

    def close(self, feed: str) -> RawFile:
        self._out.close()
        self._file.close()
        return _raw(self._path, self._name, feed)


def _is_ordered(kind: str) -> bool:
    return kind.startswith(("rows-", ACTIVATIONS))


def _raw(path: Path, name: str, feed: str) -> RawFile:
    def opened() -> Any:
        stream = path.open("rb")
        path.unlink()  # what is open stays readable, and is gone with the stream
        return stream

    return RawFile(name, opened, feed)
