"""Port `places`: where files of a feed lie, local or far away. Who reads them is `flow/files.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from tidemill.plan.globs import Glob


@dataclass(frozen=True, slots=True)
class Found:
    """A file as a place tells of it.

    Args:
        path: below the place, with `/`.
        bytes: its size; None: the place does not tell.
        modified_at: when it was changed last; None: not told.
        tag: what changes whenever its content does (an ETag); None: there is no such thing.
        called: how it is named where the path holds more than a name (the query of a web address); None: as the path.
    """

    path: str
    bytes: int | None = None
    modified_at: datetime | None = None
    tag: str | None = None
    called: str | None = None

    @property
    def name(self) -> str:
        """What messages and the archive call it."""
        return self.called or self.path

    @property
    def version(self) -> str | None:
        """What tells this content from another of the same name: the tag, else size and time; None: nothing does."""
        if self.tag is not None:
            return self.tag
        if self.bytes is None and self.modified_at is None:
            return None
        return f"{self.bytes} {self.modified_at.isoformat() if self.modified_at else ''}"


class Place(Protocol):
    """Files below one root that others put there, and may change.

    Promises:
      - `list` gives files, no folders, in any order; names that lead out of the place are left out or `Refused`.
      - `open` gives the bytes from `at` on. A stream that ends early, by whatever reason, raises `Unreachable`, or
        ends: the reader knows the size. After an error the place can be asked again, and connects anew.
      - Every error is `Unreachable` (later it may do), `SettingsError` (login, rights, host), `Refused`, or for `open`
        FileNotFoundError. None tells a password.
    """

    def list(self, glob: Glob) -> Iterator[Found]:
        """Files that match. Raises Unreachable, SettingsError, Refused."""
        ...

    def look(self, path: str) -> Found | None:
        """One file as it is now; None: it is not there."""
        ...

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Open a file from a byte on. Raises FileNotFoundError, Unreachable, SettingsError."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...

    def __str__(self) -> str:
        """What messages call it, without any secret."""
        ...
