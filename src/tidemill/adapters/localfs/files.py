"""Port `files` in a local folder: a hidden temporary file, synced, then linked to its name.

`link` is the one POSIX call that gives a finished file its name and fails where the name is taken, whoever
else tries at the same moment; `rename` would overwrite silently. Measured on an SSD: 0.5 ms a file, nearly all
of it the two syncs (file and folder).
"""

from __future__ import annotations

import errno
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import BinaryIO

from tidemill.model.errors import Refused, SettingsError
from tidemill.ports.files import TEMPORARY_PREFIX, FileInfo, check_path

#: What `link` answers on file systems that have no hard links (exFAT, some network and container mounts).
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
#: A folder that `delete` emptied can vanish between our making it and writing into it; each turn of the loop
#: needs another such delete, so a handful is plenty.
_FOLDER_TRIES = 10


class LocalFiles:
    """Files below one local folder.

    Args:
        root: the folder; made at the first write. Links in its own path are followed once, here.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.realpath(root)

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """Open a new file for writing; it appears when the context ends well."""
        target = self._locate(path)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "the file exists and is never changed", path)
        temporary, descriptor = self._open_temporary(os.path.dirname(target))
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as stream:
                yield stream
            os.fsync(descriptor)
            self._publish(temporary, target, path)
        finally:
            # The lock on the descriptor tells `sweep` that the writer lives, so the name goes first.
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            os.close(descriptor)

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; seekable."""
        try:
            return open(self._locate(path), "rb")
        except (IsADirectoryError, NotADirectoryError):
            raise FileNotFoundError(errno.ENOENT, "there is no such file", path) from None

    def info(self, path: str) -> FileInfo | None:
        """Size and age, or None where there is no such file."""
        target = self._locate(path)
        if not os.path.isfile(target):
            return None
        with suppress(FileNotFoundError):
            return _info(path, os.stat(target))
        return None

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        """Every complete file whose path starts with `prefix`, in the order of paths."""
        folder, _, name = prefix.rpartition("/")
        start = self._locate(folder) if folder else self._root
        yield from self._walk(start, f"{folder}/" if folder else "", name)

    def delete(self, path: str) -> None:
        """Remove a file, and the folders that it leaves empty."""
        target = self._locate(path)
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(target)
        folder = os.path.dirname(target)
        with suppress(OSError):  # not empty, or somebody else was faster
            while folder != self._root:
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    def url(self, path: str) -> str:
        """The file's absolute path."""
        return self._locate(path)

    def relative(self, url: str) -> str:
        """The path of an address that `url` gave; `file://` before it is allowed, other tools write it so."""
        absolute = url.removeprefix("file://")
        if not absolute.startswith(self._root + "/"):
            raise Refused(f'"{url}" is not below "{self._root}".')
        return check_path(absolute[len(self._root) + 1 :])

    def sweep(self, older_than: datetime) -> int:
        """Remove temporary files of writers that died before `older_than`."""
        swept = 0
        for folder, _, names in os.walk(self._root):
            for name in names:
                if name.startswith(TEMPORARY_PREFIX):
                    swept += _remove_abandoned(os.path.join(folder, name), older_than.timestamp())
        return swept

    def _locate(self, path: str) -> str:
        """The absolute path, once it is sure that no link on the way leaves the root."""
        target = f"{self._root}/{check_path(path)}"
        if not os.path.realpath(target).startswith(self._root + "/"):
            raise Refused(f'"{path}" leads out of "{self._root}" through a link.')
        return target

    def _open_temporary(self, folder: str) -> tuple[str, int]:
        """Open a temporary file in `folder`; the lock on it lasts as long as the writer."""
        temporary = os.path.join(folder, f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        for attempt in range(_FOLDER_TRIES):
            self._make_folder(folder)
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:
                if attempt == _FOLDER_TRIES - 1:
                    raise
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return temporary, descriptor
        raise AssertionError("the loop returns or raises")

    def _make_folder(self, folder: str) -> None:
        """Make `folder` and what is missing above it, durably: a synced file in a lost folder is lost."""
        if os.path.isdir(folder):
            return
        parent = os.path.dirname(folder)
        self._make_folder(parent)
        with suppress(FileExistsError):
            os.mkdir(folder)
            _sync_folder(parent)

    def _publish(self, temporary: str, target: str, path: str) -> None:
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "somebody else created the file first", path) from None
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise SettingsError(
                    f'The file system of "{self._root}" has no hard links, so files cannot be published safely.',
                    hint="put the lake and the archive on a local disk, or on S3-compatible storage",
                ) from error
            raise
        try:
            _sync_folder(os.path.dirname(target))
        except OSError:
            os.unlink(target)  # not durable, so it must not be visible either
            raise

    def _walk(self, folder: str, shown: str, name_prefix: str = "") -> Iterator[FileInfo]:
        """Files below `folder`, sorted as whole paths are: a folder `a/` sorts after a file `a-b`."""
        try:
            with os.scandir(folder) as entries:
                found = sorted((e.name + "/" * e.is_dir(follow_symlinks=False), e) for e in entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in found:
            if not name.startswith(name_prefix) or name.startswith(TEMPORARY_PREFIX):
                continue
            if name.endswith("/"):
                yield from self._walk(entry.path, shown + name)
            elif entry.is_file(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    yield _info(shown + name, entry.stat(follow_symlinks=False))


def _info(path: str, status: os.stat_result) -> FileInfo:
    return FileInfo(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_abandoned(temporary: str, before: float) -> bool:
    """Remove a temporary file that is old enough and that no living writer holds locked."""
    with suppress(FileNotFoundError, BlockingIOError):
        descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_mtime >= before:
                return False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(temporary)
            return True
        finally:
            os.close(descriptor)
    return False
