"""Port `files` in memory, for tests: the same promises, nothing kept after the process."""

from __future__ import annotations

import errno
import io
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO

from tidemill.model.errors import Refused
from tidemill.ports.clock import Clock
from tidemill.ports.files import FileInfo, check_path


class MemoryFiles:
    """Files in a dictionary. Safe for threads; engines outside Python cannot open its addresses.

    Args:
        clock: dates the files; without one the system's time does, as a file system's would.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._root = f"memory://{uuid.uuid4().hex[:8]}"
        self._files: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """Open a new file for writing; it appears when the context ends well."""
        if check_path(path) in self._files:
            raise FileExistsError(errno.EEXIST, "the file exists and is never changed", path)
        stream = _Kept()
        yield stream
        stream.close()
        now = self._clock.now() if self._clock else datetime.now(UTC)
        with self._lock:
            if path in self._files:
                raise FileExistsError(errno.EEXIST, "somebody else created the file first", path)
            self._files[path] = (stream.content, now)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; seekable."""
        found = self._files.get(check_path(path))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", path)
        return io.BytesIO(found[0])

    def info(self, path: str) -> FileInfo | None:
        """Size and age, or None where there is no such file."""
        found = self._files.get(check_path(path))
        return FileInfo(path, len(found[0]), found[1]) if found else None

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        """Every complete file whose path starts with `prefix`, in the order of paths."""
        if folder := prefix.rpartition("/")[0]:
            check_path(folder)
        with self._lock:
            found = sorted(item for item in self._files.items() if item[0].startswith(prefix))
        for path, (content, modified_at) in found:
            yield FileInfo(path, len(content), modified_at)

    def delete(self, path: str) -> None:
        """Remove a file."""
        self._files.pop(check_path(path), None)

    def url(self, path: str) -> str:
        """An address that only this object understands."""
        return f"{self._root}/{check_path(path)}"

    def relative(self, url: str) -> str:
        """The path of an address that `url` gave."""
        if not url.startswith(self._root + "/"):
            raise Refused(f'"{url}" is not below "{self._root}".')
        return check_path(url[len(self._root) + 1 :])

    def sweep(self, older_than: datetime) -> int:
        """Remove nothing: what a writer leaves here ends with its context."""
        return 0


class _Kept(io.BytesIO):
    """A buffer whose content outlives `close`, as a file's does when the writer closes it early."""

    content = b""

    def close(self) -> None:
        if not self.closed:
            self.content = self.getvalue()
        super().close()
