"""An object as a seekable stream: ranges of it, larger and larger as long as they follow each other.

Every answer is of the version that the first one was of: an object that is replaced while it is read is an error.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from tidemill.adapters.s3.bucket import telling
from tidemill.model.errors import Unreachable

if TYPE_CHECKING:
    from obstore.store import S3Store

#: The first range: small files, and footers of Parquet files, are then one request.
_FIRST = 64 << 10
#: The largest that is fetched ahead of what is asked for: what one reader holds.
_LARGEST = 8 << 20


class ObjectReader(io.RawIOBase):
    """A stream of one object.

    Args:
        store: the driver's.
        path: below the store's prefix.
        address: for messages.

    Raises:
        FileNotFoundError: there is no such object.
    """

    def __init__(self, store: S3Store, path: str, address: str) -> None:
        super().__init__()
        self._store = store
        self._path = path
        self._address = address
        self._at = 0
        self._window = _FIRST
        self._start = 0
        self._held = b""
        #: What tells its version, if the store has such a thing.
        self.tag: str | None = None
        self.size = 0
        self._begin()

    def _begin(self) -> None:
        import obstore

        try:
            with telling(self._address):
                found = obstore.get(self._store, self._path, options={"range": (0, _FIRST)})
                self._held = bytes(found.bytes())
            meta: Any = found.meta
        except Unreachable as error:
            # What has no bytes has no range of them.
            if "416" not in str(error):
                raise
            with telling(self._address):
                meta = obstore.head(self._store, self._path)
        self.size, self.tag = meta["size"], meta["e_tag"]

    def _fetch(self, start: int, end: int) -> bytes:
        import obstore

        options: dict[str, Any] = {"range": (start, end)}
        if self.tag is not None:
            options["if_match"] = self.tag
        with telling(self._address):
            return bytes(obstore.get(self._store, self._path, options=options).bytes())  # type: ignore[arg-type]

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; returns it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Up to `size` bytes: all of them, but at the end."""
        left = max(self.size - self._at, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        pieces = []
        while wanted:
            piece = self._piece(wanted)
            pieces.append(piece)
            wanted -= len(piece)
            self._at += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; returns how far."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        """What is left."""
        return self.read(-1)

    def _piece(self, wanted: int) -> bytes:
        """Some of the next bytes, at least one: of what is held, or of a range that is fetched."""
        inside = self._at - self._start
        if not 0 <= inside < len(self._held):
            follows = inside == len(self._held)
            self._window = min(self._window * 4, _LARGEST) if follows else _FIRST
            end = min(self._at + max(wanted, self._window), self.size)
            if wanted >= _LARGEST:  # so much goes straight to whoever asks
                self._start, self._held = self._at + wanted, b""
                return self._fetch(self._at, self._at + wanted)
            self._start, self._held = self._at, self._fetch(self._at, end)
            inside = 0
        return self._held[inside : inside + wanted]
