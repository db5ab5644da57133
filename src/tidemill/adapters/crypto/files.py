"""Port `files` around another one: what is written through it is encrypted by AES-256-GCM, frame by frame.

    "TMSEALED" | 1 | id of the key (8) | salt (32)        the file's own key is made of the named one and the salt
    64 KiB of content and a tag (16), again and again; the last frame is marked as such, and may be empty

Each frame's nonce is its number and whether it is the last, and each is bound to the file's path: a file that is cut,
whose frames change places, or that takes another's place is not read. An encrypted file has a name of its own below, so
that files from before are found as they were, and sizes are known without a look into files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, BinaryIO, cast

from tidemill.adapters.crypto.keys import ID_BYTES, Keys, derived
from tidemill.model.errors import DataError, SettingsError
from tidemill.ports.files import FileInfo, Files

#: What names of encrypted files end with.
SUFFIX = ".tidemill-sealed"
_MAGIC = b"TMSEALED\x01"
_SALT = 32
_HEADER = len(_MAGIC) + ID_BYTES + _SALT
_FRAME, _TAG = 64 << 10, 16


class SealedFiles:
    """Files, encrypted when they are written, and in the clear when they are read.

    Args:
        files: where they lie.
        keys: by which they are read; the newest of the first ones writes.
        name: of the first ones' secret; None: what is new is written as it is, and encrypted files can still be read.
    """

    def __init__(self, files: Files, keys: Callable[[], list[Keys]], name: str | None) -> None:
        self._files = files
        self._keys_of = keys
        self._known: list[Keys] | None = None
        self._name = name
        self._writes = name is not None

    @property
    def _keys(self) -> list[Keys]:
        """Looked up when they are needed first."""
        if self._known is None:
            self._known = self._keys_of()
        return self._known

    @property
    def key_name(self) -> str | None:
        """The name and id of the key that encrypts what is written now; None: none does."""
        return f"{self._name}/{self._keys[0].newest[0].hex()}" if self._writes else None

    def is_sealed(self, path: str) -> bool:
        """Whether a file is encrypted."""
        return self._files.info(path + SUFFIX) is not None

    @contextmanager
    def create(self, path: str) -> Iterator[BinaryIO]:
        """Write a file."""
        if self._files.info(path if self._writes else path + SUFFIX) is not None:
            raise FileExistsError(path)
        if not self._writes:
            with self._files.create(path) as out:
                yield out
            return
        key_id, key = self._keys[0].newest
        with self._files.create(path + SUFFIX) as out:
            writer = _Writer(out, path, key_id, key)
            yield cast(BinaryIO, writer)
            writer.finish()

    def open(self, path: str) -> BinaryIO:
        """Read a file. Raises SettingsError: its key is missing. DataError, when it is read: it was changed."""
        info = self._files.info(path + SUFFIX)
        if info is None:
            return self._files.open(path)
        stream = self._files.open(path + SUFFIX)
        try:
            return cast(BinaryIO, io.BufferedReader(_Reader(stream, path, info.bytes, self._key), _FRAME))
        except BaseException:
            stream.close()
            raise

    def _key(self, key_id: bytes, path: str) -> bytes:
        for keys in self._keys:
            found = keys.get(key_id)
            if found is not None:
                return found
        raise SettingsError(
            f'The archived file "{path}" was encrypted by key {key_id.hex()}, which is not among those of '
            f"{', '.join(keys.where for keys in self._keys) or 'the project'}.",
            hint='[archive] encrypt = "archive-key"; an older key stands behind the newer one in that secret',
        )

    def info(self, path: str) -> FileInfo | None:
        """Size of the content, and age."""
        found = self._files.info(path + SUFFIX)
        return self._files.info(path) if found is None else _shown(found)

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        """Every file, by the names that they were given."""
        # The suffix may put names into another order.
        yield from sorted(map(_shown, self._files.list(prefix)), key=lambda info: info.path)

    def delete(self, path: str) -> None:
        """Remove a file."""
        self._files.delete(path + SUFFIX)
        self._files.delete(path)

    def url(self, path: str) -> str:
        """The address of the file as it lies there; engines cannot read it if it is encrypted."""
        return self._files.url(path)

    def relative(self, url: str) -> str:
        """The path of an address."""
        return self._files.relative(url)

    def sweep(self, older_than: datetime) -> int:
        """Remove temporary files."""
        return self._files.sweep(older_than)


def _shown(info: FileInfo) -> FileInfo:
    if not info.path.endswith(SUFFIX):
        return info
    return FileInfo(info.path.removesuffix(SUFFIX), _content_bytes(info.bytes), info.modified_at)


def _content_bytes(stored: int) -> int:
    """The size of the content of an encrypted file."""
    body = max(stored - _HEADER, 0)
    return max(body - _TAG * -(-body // (_FRAME + _TAG)), 0)


def _cipher(key: bytes, salt: bytes) -> Any:
    made = derived(key, b"file", salt)
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(made)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


class _Writer:
    """Encrypts what is written, a frame at a time."""

    def __init__(self, out: BinaryIO, path: str, key_id: bytes, key: bytes) -> None:
        salt = os.urandom(_SALT)
        self._out = out
        self._header = _MAGIC + key_id + salt
        self._bound = self._header + path.encode("utf-8", "surrogateescape")
        self._cipher = _cipher(key, salt)
        self._held = bytearray()
        self._number = 0
        self._at = 0
        out.write(self._header)

    def write(self, data: Any) -> int:
        """Write on."""
        view = memoryview(data).cast("B")
        self._held += view
        self._at += len(view)
        # The last frame is known only at the end: one is always held back.
        done = 0
        while len(self._held) - done > _FRAME:
            self._seal(bytes(self._held[done : done + _FRAME]), last=False)
            done += _FRAME
        del self._held[:done]
        return len(view)

    def _seal(self, content: bytes, *, last: bool) -> None:
        self._out.write(self._cipher.encrypt(_nonce(self._number, last), content, self._bound))
        self._number += 1

    def finish(self) -> None:
        """Write the last frame."""
        self._seal(bytes(self._held), last=True)
        self._held.clear()

    def flush(self) -> None:
        """What is not a whole frame stays here until the end."""

    def tell(self) -> int:
        """How much content was written."""
        return self._at

    def writable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """No."""
        return False

    def seekable(self) -> bool:
        """No."""
        return False

    @property
    def closed(self) -> bool:
        """As the file below."""
        return self._out.closed

    def close(self) -> None:
        """The context ends the file."""


class _Reader(io.RawIOBase):
    """Decrypts what is read, a frame at a time, from anywhere."""

    def __init__(self, stream: IO[bytes], path: str, stored: int, key: Callable[[bytes, str], bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._path = path
        header = stream.read(_HEADER)
        if len(header) != _HEADER or not header.startswith(_MAGIC) or stored < _HEADER + _TAG:
            raise self._damaged()
        self._cipher = _cipher(key(header[len(_MAGIC) : -_SALT], path), header[-_SALT:])
        self._bound = header + path.encode("utf-8", "surrogateescape")
        self._frames = -(-(stored - _HEADER) // (_FRAME + _TAG))
        self._size = _content_bytes(stored)
        self._at = 0
        self._next = 0
        self._kept: tuple[int, bytes] = (-1, b"")
        if self._size == 0:
            self._frame(0)  # nobody will read it, and it may be what is left of a longer one

    def _damaged(self) -> DataError:
        return DataError(
            f'The archived file "{self._path}" is damaged, cut, or was changed by somebody else.',
            hint="restore it from a backup, or extract again: tidemill run ... --refetch",
        )

    def _frame(self, number: int) -> bytes:
        from cryptography.exceptions import InvalidTag

        if self._kept[0] != number:
            if self._next != number:
                self._stream.seek(_HEADER + number * (_FRAME + _TAG))
            sealed = self._stream.read(_FRAME + _TAG)
            self._next = number + 1
            try:
                content = self._cipher.decrypt(_nonce(number, number == self._frames - 1), sealed, self._bound)
            except (InvalidTag, ValueError):
                raise self._damaged() from None
            self._kept = (number, content)
        return self._kept[1]

    def readinto(self, buffer: Any) -> int:
        """Read on."""
        if self._at >= self._size:
            return 0
        number, within = divmod(self._at, _FRAME)
        part = self._frame(number)[within : within + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere in the content."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def tell(self) -> int:
        """Where in the content reading goes on."""
        return self._at

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Close the file below, too."""
        if not self.closed:
            self._stream.close()
        super().close()
