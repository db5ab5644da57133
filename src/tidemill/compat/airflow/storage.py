"""`ObjectStoragePath`: files of object stores, and this computer's, by paths like those of `pathlib`."""

from __future__ import annotations

import os
import posixpath
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidemill.authoring.task_context import get_current_context

#: Files of this computer.
_LOCAL = "file"


class FileStat(dict[str, Any]):
    """What a store says of a file, by its own names, and by two of `os.stat_result`'s."""

    @property
    def st_size(self) -> int:
        """Bytes."""
        return int(self.get("size") or 0)

    @property
    def st_mtime(self) -> float:
        """When it was changed last, in seconds since 1970; 0 where the store does not say."""
        found = next((self[name] for name in ("mtime", "last_modified", "LastModified") if self.get(name)), 0.0)
        return found.timestamp() if isinstance(found, datetime) else float(found)


@dataclass(frozen=True, init=False)
class ObjectStoragePath:
    """A file or folder: `ObjectStoragePath("s3://lake@bucket/key")` is reached by the connection `lake`.

    A path is a value: it may be made anywhere, and handed to other tasks. What asks the store works within tasks.

    Args:
        address: `s3://bucket/key`, `file:///folder/name`, or a path of this computer: absolute, or below the project.
        parts: more of the path.
        protocol: where the address has none.
        conn_id: the connection, where the address names none; None: what `[s3]` in tidemill.toml says.
    """

    address: str
    conn_id: str | None

    def __init__(
        self,
        address: str | os.PathLike[str] | ObjectStoragePath,
        *parts: str | os.PathLike[str],
        protocol: str | None = None,
        conn_id: str | None = None,
    ) -> None:
        if isinstance(address, ObjectStoragePath):
            conn_id = conn_id or address.conn_id
            address = address.address
        text = os.fspath(address)
        scheme, mark, rest = text.partition("://")
        if not mark:
            scheme, rest = protocol or _LOCAL, text
        host, slash, key = rest.partition("/")
        if scheme != _LOCAL and "@" in host:
            named, _, host = host.rpartition("@")
            conn_id, rest = conn_id or named or None, f"{host}{slash}{key}"
        for part in parts:
            more = os.fspath(part)
            rest = posixpath.join(rest, more.lstrip("/") if scheme != _LOCAL else more)
        object.__setattr__(self, "address", f"{scheme}://{rest}")
        object.__setattr__(self, "conn_id", conn_id)

    # -- what it is

    @property
    def protocol(self) -> str:
        """`s3`, or `file`."""
        return self.address.partition("://")[0]

    @property
    def path(self) -> str:
        """As the file system calls it: `bucket/key`, or the path on this computer."""
        found = self.address.partition("://")[2]
        if self.protocol != _LOCAL:
            return found
        return os.path.abspath(os.path.join(_root(), found)) if not os.path.isabs(found) else found

    @property
    def bucket(self) -> str:
        """The bucket; nothing, of a file of this computer."""
        return "" if self.protocol == _LOCAL else self.path.partition("/")[0]

    container = bucket

    @property
    def key(self) -> str:
        """The path within the bucket."""
        return self.path.lstrip("/") if self.protocol == _LOCAL else self.path.partition("/")[2]

    @property
    def namespace(self) -> str:
        """`s3://bucket`."""
        return f"{self.protocol}://{self.bucket}" if self.bucket else self.protocol

    @property
    def name(self) -> str:
        """The last part of it."""
        return posixpath.basename(self.key.rstrip("/"))

    @property
    def stem(self) -> str:
        """The name without its last ending."""
        return posixpath.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        """The last ending of the name, with its dot."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> ObjectStoragePath:
        """The folder that it is in; of a bucket itself."""
        scheme, _, rest = self.address.partition("://")
        above = posixpath.dirname(rest.rstrip("/"))
        return self._of(f"{scheme}://{above}") if above else self

    def joinpath(self, *parts: str | os.PathLike[str]) -> ObjectStoragePath:
        """What is below it."""
        return ObjectStoragePath(self.address, *parts, conn_id=self.conn_id)

    def __truediv__(self, part: str | os.PathLike[str]) -> ObjectStoragePath:
        return self.joinpath(part)

    def with_name(self, name: str) -> ObjectStoragePath:
        """Another one beside it."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> ObjectStoragePath:
        """The same with another ending."""
        return self.with_name(self.stem + suffix)

    def as_uri(self) -> str:
        """Its address, without the connection."""
        return self.address

    def samestore(self, other: Any) -> bool:
        """Whether another path is reached in the same way."""
        return isinstance(other, ObjectStoragePath) and (self.protocol, self.conn_id) == (other.protocol, other.conn_id)

    def __str__(self) -> str:
        return self.address

    def _of(self, address: str) -> ObjectStoragePath:
        return ObjectStoragePath(address, conn_id=self.conn_id)

    # -- what the store does

    @property
    def fs(self) -> Any:
        """The file system that it is in, as `fsspec` has them.

        Raises:
            UserError: no task is being executed. SettingsError: there is no such connection, or no driver for it.
        """
        outside = get_current_context().services.need_outside()
        return outside.filesystem(self.protocol, self.bucket, self.conn_id)

    def open(self, mode: str = "r", **options: Any) -> Any:
        """Open the file. Raises FileNotFoundError."""
        return self.fs.open(self.path, mode, **options)

    def read_bytes(self) -> bytes:
        """All of the file. Raises FileNotFoundError."""
        with self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of the file, as text. Raises FileNotFoundError."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> int:
        """Write the file anew; returns how many bytes it has."""
        with self.open("wb") as file:
            file.write(content)
        return len(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        """Write the file anew; returns how many characters it has."""
        self.write_bytes(text.encode(encoding))
        return len(text)

    def exists(self) -> bool:
        """Whether it is there; a bucket counts as there."""
        return self.is_dir() or self.is_file()

    def is_file(self) -> bool:
        """Whether it is a file."""
        return bool(self.key) and bool(self.fs.isfile(self.path))

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return not self.key or bool(self.fs.isdir(self.path))

    def stat(self) -> FileStat:
        """What the store says of it. Raises FileNotFoundError."""
        return FileStat(self.fs.info(self.path))

    def size(self) -> int:
        """Its bytes. Raises FileNotFoundError."""
        return self.stat().st_size

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder; an object store has none to make, and its buckets are there already."""
        if self.protocol == _LOCAL:
            if parents:
                os.makedirs(self.path, mode, exist_ok)
            elif not (exist_ok and self.is_dir()):
                os.mkdir(self.path, mode)

    def iterdir(self) -> Iterator[ObjectStoragePath]:
        """What is in the folder."""
        for found in self.fs.ls(self.path, detail=False):
            yield self._found(found)

    def glob(self, pattern: str) -> Iterator[ObjectStoragePath]:
        """What is below it and matches a pattern."""
        for found in self.fs.glob(posixpath.join(self.path, pattern)):
            yield self._found(found)

    def rglob(self, pattern: str) -> Iterator[ObjectStoragePath]:
        """The same in all folders below it."""
        return self.glob(posixpath.join("**", pattern))

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the file. Raises FileNotFoundError."""
        if self.is_file():
            self.fs.rm_file(self.path)
        elif not missing_ok:
            raise FileNotFoundError(self.address)

    def copy(self, target: str | ObjectStoragePath, recursive: bool = False) -> None:
        """Copy the file, or with `recursive` all files of a folder, also to another store.

        Args:
            target: the copy, or with a slash at its end the folder that it comes into, by its whole key.
            recursive: this is a folder; files come below the target as they are below this.
        """
        into = target if isinstance(target, ObjectStoragePath) else ObjectStoragePath(target)
        if recursive and self.is_dir():
            for file in list(self.rglob("*")):
                if file.is_file():
                    file.copy(into / posixpath.relpath(file.key, self.key or "."))
            return
        into = into / self.key if into.address.endswith("/") else into
        with self.open("rb") as read, into.open("wb") as write:
            shutil.copyfileobj(read, write)

    def rename(self, target: str | ObjectStoragePath) -> ObjectStoragePath:
        """Copy the file, and delete it here; returns the other one."""
        into = target if isinstance(target, ObjectStoragePath) else self._of(target)
        self.copy(into)
        self.unlink()
        return into

    replace = move = rename

    def _found(self, path: str) -> ObjectStoragePath:
        return self._of(f"{self.protocol}://{path}")


def _root() -> str:
    """Where paths that are not absolute begin."""
    return str(get_current_context().services.root)
