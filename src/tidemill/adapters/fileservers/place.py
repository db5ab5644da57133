"""Port `places` for a server with folders: what FTP and SFTP have in common. A protocol adds how it asks."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from tidemill.model.errors import TidemillError
from tidemill.plan.globs import Glob
from tidemill.ports.places import Found

#: Seconds for a connection, and for each answer.
TIMEOUT = 30
#: Bytes that are asked for where nobody says how many.
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """What a server tells of a name in a folder.

    Args:
        name: it.
        kind: "link" leads to a file or to nowhere, and no folder is looked into through one; of "untold" only the name
            is known.
        bytes, modified_at: of a file.
    """

    name: str
    kind: Literal["folder", "file", "link", "untold"]
    bytes: int | None = None
    modified_at: datetime | None = None


class ServerPlace(ABC):
    """Files below a folder of a server, over one connection, which is made when it is needed.

    Args:
        server: what messages call it.
        root: the folder; empty: where the login begins. Whole paths begin with `/`.
    """

    def __init__(self, server: str, root: str) -> None:
        self._called = server
        self._root = root.rstrip("/")

    # -- what a protocol adds

    @abstractmethod
    def look(self, path: str) -> Found | None:
        """One file."""

    @abstractmethod
    def close(self) -> None:
        """Let the connection go."""

    @abstractmethod
    def _entries(self, folder: str) -> Sequence[Entry]:
        """What is in a folder, given by its whole path; nothing where there is none."""

    @abstractmethod
    def _told(self, error: Exception) -> Exception:
        """An error of the protocol's as one of the port's; one that is none of its own as it is."""

    # -- what all have

    def list(self, glob: Glob) -> Iterator[Found]:
        """Files that match; only folders are looked into that can hold some."""
        if glob.is_fixed:
            found = self.look(glob.text)
            if found is not None:
                yield found
            return
        yield from self._walk(glob.base, glob)

    def _walk(self, folder: str, glob: Glob) -> Iterator[Found]:
        with self.telling():
            entries = self._entries(self._whole(folder))
        for entry in entries:
            if entry.name in ("", ".", "..") or "/" in entry.name or "\0" in entry.name:
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.kind == "folder":
                if glob.may_hold(path):
                    yield from self._walk(path, glob)
            elif entry.kind == "untold":
                yield from self._untold(path, glob)
            elif glob.matches(path):
                found = self.look(path) if entry.kind == "link" else Found(path, entry.bytes, entry.modified_at)
                if found is not None:
                    yield found

    def _untold(self, path: str, glob: Glob) -> Iterator[Found]:
        """What may be a file or a folder; where the server knows no file of that name it is a folder."""
        matches, may_hold = glob.matches(path), glob.may_hold(path)
        if not matches and not may_hold:
            return
        found = self.look(path)
        if found is None and may_hold:
            yield from self._walk(path, glob)
        elif found is not None and matches:
            yield found

    def __str__(self) -> str:
        return f"{self._called}/{self._root.lstrip('/')}".rstrip("/")

    def _whole(self, path: str) -> str:
        return f"{self._root}/{path}" if self._root and path else path or self._root or "."

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Errors as the port's; after one of the server's, the next question connects anew."""
        try:
            yield
        except (FileNotFoundError, TidemillError):
            raise
        except Exception as error:
            self.close()
            raise self._told(error) from None


class Body(io.RawIOBase):
    """The bytes of a file, with errors as the port's.

    Args:
        stream: what the protocol gives them by.
        place: from where they come.
    """

    def __init__(self, stream: Any, place: ServerPlace) -> None:
        super().__init__()
        self._stream = stream
        self._place = place

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        with self._place.telling():
            piece: bytes = self._stream.read(_PIECE if size is None or size < 0 else size)
        return piece
