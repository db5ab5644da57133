"""Port `files`: write-once files under one root. The archive and the lake both stand on it.

One port serves both, so that a storage technology is one file and a fault-injecting wrapper sees every write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from tidemill.model.errors import Refused

#: How names of files in the making begin. They are invisible to readers, and no path may use them.
TEMPORARY_PREFIX = ".tidemill-tmp-"


def check_path(path: str) -> str:
    """Return `path` if it names a file below a root: relative, with `/`, without `.`, `..` and empty parts.

    Raises:
        Refused: it does not.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path or "\\" in path:
        raise Refused(f'"{path}" is not a path below the root.', hint='use a relative path with "/", e.g. "a/b.csv"')
    if any(part.startswith(TEMPORARY_PREFIX) for part in parts):
        raise Refused(f'"{path}" uses a name that is kept for files in the making ({TEMPORARY_PREFIX}...).')
    return path


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A stored file: its path relative to the root, its size in bytes, and when it was stored."""

    path: str
    bytes: int
    modified_at: datetime


class Seals(Protocol):
    """What files that encrypt can tell beside what `Files` promises."""

    @property
    def key_name(self) -> str | None:
        """The name and id of the key that encrypts what is written now; None: none does."""
        ...

    def is_sealed(self, path: str) -> bool:
        """Whether a file is encrypted."""
        ...


class Files(Protocol):
    """Write-once files, addressed by relative paths with `/`.

    Promises:
      - A file becomes visible whole, when `create`'s context ends well, and is durable from then on; if the
        context ends by an exception, or the process dies within, no file of that path exists.
      - A file that exists is never changed: creating it again raises `FileExistsError`.
      - A path that leaves the root (`..`, absolute, a link outwards) raises `Refused` before any effect.
      - `list` gives complete files only, in the order of their paths; never temporary ones.
      - `url` gives what engines (DuckDB, Polars, Arrow) open directly, and `relative` turns it back.
    """

    def create(self, path: str) -> AbstractContextManager[BinaryIO]:
        """Open a new file for writing; see the promises above. Raises FileExistsError, Refused."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; seekable. Raises FileNotFoundError, Refused."""
        ...

    def info(self, path: str) -> FileInfo | None:
        """Size and age, or None where there is no such file."""
        ...

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        """Every complete file whose path starts with `prefix`."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; removing what does not exist is no error."""
        ...

    def url(self, path: str) -> str:
        """The address by which engines open the file (a local path, or s3://...)."""
        ...

    def relative(self, url: str) -> str:
        """The path of an address that `url` gave. Raises Refused where it is not under this root."""
        ...

    def sweep(self, older_than: datetime) -> int:
        """Remove temporary files of writers that died before `older_than`; returns how many."""
        ...
