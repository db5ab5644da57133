"""A project's code in a local folder: which files there are, found without reading any of them.

A folder is listed again only when its own time has changed; each file is asked for its stamp. 5,000 files take 15 ms.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tidemill.model.errors import SettingsError
from tidemill.plan.code import BESIDE, MOST_BESIDE, SKIPPED, SUFFIXES
from tidemill.ports.codesource import Stamp

#: A folder that was listed sooner after its last change may have changed once more within one tick of its clock.
_SURE_AFTER = 2_000_000_000

#: What says that something is gone, or none of our business; all else says that we do not know.
_NOT_THERE = (FileNotFoundError, NotADirectoryError, PermissionError)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder as it was listed: its time then (0: not to be relied on), folders and files in it."""

    time: int
    folders: tuple[str, ...]
    files: tuple[str, ...]


class CodeFolder:
    """The code in a folder. Links are not followed: they may lead anywhere.

    Args:
        root: the folder.
        beside: folders below it, with a slash at their end, in which small files of other kinds are code, too.
    """

    def __init__(self, root: Path, beside: tuple[str, ...] = ()) -> None:
        self.root = root
        self._beside = beside
        self._known: dict[str, _Folder] = {}

    def scan(self) -> dict[str, Stamp]:
        """The stamps of all code files, by path.

        Raises:
            OSError: the folder itself cannot be looked into, or the disk does not answer: not that files are gone.
        """
        seen: dict[str, _Folder] = {}
        found: dict[str, Stamp] = {}
        todo = [""]
        while todo:
            at = todo.pop()
            folder = self._folder(at)
            if folder is None:
                if not at:
                    raise FileNotFoundError(
                        errno.ENOENT, "there is no such folder, or it is closed to us", str(self.root)
                    )
                continue
            seen[at] = folder
            todo.extend(at + name + "/" for name in folder.folders)
            found.update(self._stamps(at, folder.files))
        self._known = seen
        return found

    @property
    def folders(self) -> frozenset[str]:
        """The folders that the last scan has seen, by their full paths."""
        return frozenset(os.path.join(self.root, at) for at in self._known)

    def _folder(self, at: str) -> _Folder | None:
        """One folder, listed anew where it may have changed; None where it is gone or closed to us."""
        path = os.path.join(self.root, at)
        endings = (*SUFFIXES, *BESIDE) if at.startswith(self._beside) else SUFFIXES
        try:
            changed = os.stat(path).st_mtime_ns
            known = self._known.get(at)
            if known is not None and known.time == changed:
                return known
            sure = time.time_ns() - changed > _SURE_AFTER
            folders, files = [], []
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name in SKIPPED or entry.is_symlink():
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    elif entry.name.endswith(endings):
                        files.append(entry.name)
        except _NOT_THERE:
            return None
        return _Folder(changed if sure else 0, tuple(folders), tuple(files))

    def _stamps(self, at: str, names: tuple[str, ...]) -> Iterator[tuple[str, Stamp]]:
        folder, ask = f"{self.root}/{at}", os.lstat
        for name in names:
            try:
                found = ask(folder + name)
            except _NOT_THERE:
                continue
            if stat.S_ISREG(found.st_mode) and (found.st_size <= MOST_BESIDE or name.endswith(SUFFIXES)):
                yield at + name, (found.st_size, found.st_mtime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The port `codesource` for a folder that its owner changes."""

    root: Path
    every: timedelta | None = None

    def sync(self) -> Path:
        """The folder as it is."""
        if not self.root.is_dir():
            raise SettingsError(f'There is no folder "{self.root}".', hint="[pipelines] path names a folder of code")
        return self.root
