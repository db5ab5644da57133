"""Port `places` for a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tidemill.model.errors import Refused
from tidemill.plan.globs import Glob
from tidemill.ports.places import Found


class LocalPlace:
    """Files below a folder.

    Args:
        root: the folder; what a link leads out of it to is refused.
        where: the line of the user's file.
    """

    def __init__(self, root: Path, where: str) -> None:
        self._root = root
        self._where = where

    def list(self, glob: Glob) -> Iterator[Found]:
        """Files that match; each must lie below the root."""
        if Path(glob.text).is_absolute() or ".." in Path(glob.text).parts:
            raise Refused(f'The pattern "{glob.text}" leaves the project.', where=self._where, hint="a path inside it")
        paths = [self._root / glob.text] if glob.is_fixed else list(self._root.glob(glob.text))
        for path in paths:
            if path.is_file():
                yield self._found(path)

    def look(self, path: str) -> Found | None:
        """One file."""
        there = self._root / path
        return self._found(there) if there.is_file() else None

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Open a file."""
        stream = (self._root / found.path).open("rb")
        stream.seek(at)
        return stream

    def close(self) -> None:
        """Nothing is held."""

    def __str__(self) -> str:
        return str(self._root)

    def _found(self, path: Path) -> Found:
        inside = path.relative_to(self._root)
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise Refused(f'"{inside}" is a link out of the project.', where=self._where, hint="copy the file")
        status = path.stat()
        modified = datetime.fromtimestamp(status.st_mtime_ns // 1000 / 1_000_000, UTC)
        return Found(inside.as_posix(), status.st_size, modified)
