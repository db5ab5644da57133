"""Data files that are not local, for one query of DuckDB: opened through the project's files, read by ranges.

DuckDB's own extension for object stores is downloaded when it is first used, and asks for keys of its own. DuckDB opens
a file several times for a query; what it has let go is handed out again, with what it knows.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

OpenFile = Callable[[str], BinaryIO]
#: Data files never change, so that any moment will do.
_WRITTEN = datetime(2000, 1, 1, tzinfo=UTC)


class Remote:
    """The files that one query opens.

    Args:
        open_file: opens a data file by its address.
    """

    def __init__(self, open_file: OpenFile) -> None:
        self._open = open_file
        self._idle: dict[str, list[BinaryIO]] = {}
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        #: What went wrong first: DuckDB makes a text of it.
        self.error: Exception | None = None

    def register(self, connection: DuckDBPyConnection, scheme: str) -> None:
        """Let a connection open addresses of a scheme; which of them, its locks say."""
        connection.register_filesystem(_file_system(self, scheme))

    def take(self, path: str) -> _Handle:
        """An open file."""
        try:
            with self._lock:
                idle = self._idle.get(path)
                stream = idle.pop() if idle else None
            stream = stream or self._open(path)
            if path not in self._sizes:
                self._sizes[path] = stream.seek(0, io.SEEK_END)
        except Exception as error:
            self.error = self.error or error
            raise
        return _Handle(self, path, stream)

    def give_back(self, path: str, stream: BinaryIO) -> None:
        """Keep an open file for the next who asks."""
        with self._lock:
            self._idle.setdefault(path, []).append(stream)

    def size(self, path: str) -> int:
        """Bytes of a file."""
        if path not in self._sizes:
            self.take(path).close()
        return self._sizes[path]

    def close(self) -> None:
        """Let everything go."""
        with self._lock:
            streams = [stream for idle in self._idle.values() for stream in idle]
            self._idle.clear()
        for stream in streams:
            stream.close()


class _Handle(io.RawIOBase):
    """One opening of a file, from its first byte."""

    def __init__(self, remote: Remote, path: str, stream: BinaryIO) -> None:
        super().__init__()
        self._remote = remote
        self._path = path
        self._stream = stream
        stream.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes."""
        try:
            return self._stream.read(-1 if size is None else size)
        except Exception as error:
            self._remote.error = self._remote.error or error
            raise

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._remote.give_back(self._path, self._stream)
        super().close()


def _file_system(remote: Remote, scheme: str) -> Any:
    """What DuckDB asks of a file system."""
    from fsspec import AbstractFileSystem

    class Port(AbstractFileSystem):  # type: ignore[misc]
        protocol = scheme
        cachable = False

        def open(self, path: str, mode: str = "rb", **_options: Any) -> Any:
            if mode != "rb":
                raise PermissionError("Queries write no files.")
            return remote.take(path)

        def info(self, path: str, **_options: Any) -> dict[str, Any]:
            return {"name": path, "size": remote.size(path), "type": "file"}

        def exists(self, path: str, **_options: Any) -> bool:
            return True

        def glob(self, path: str, **_options: Any) -> list[str]:
            return [path]

        def modified(self, path: str) -> datetime:
            return _WRITTEN

        def created(self, path: str) -> datetime:
            return _WRITTEN

    return Port(skip_instance_cache=True)
