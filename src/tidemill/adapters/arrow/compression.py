"""Unpacking: a feed's bytes as a stream of plain ones, bounded against bombs; truncation and damage are errors.

isal unpacks gzip (three times as fast as zlib), Arrow zstd and bzip2; all three work outside the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Protocol, cast

import pyarrow as pa
from isal import igzip_lib

from tidemill.model.errors import DecodeError, LimitError
from tidemill.ports.decoder import DecodeOptions, Feed

#: Packed bytes read at a time.
_STEP = 1 << 18
#: A ratio means nothing on little data: below this many unpacked bytes it is not judged.
_RATIO_FROM = 64 << 20

#: isal's own error; its stub gives an instance where the class is meant.
_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)

#: How compressed data begins.
MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "bzip2": b"BZh"}
#: Zstandard allows frames to skip before, between and after the data.
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
EXTENSIONS = {"gz": "gzip", "gzip": "gzip", "zst": "zstd", "zstd": "zstd", "bz2": "bzip2"}


class Stream(Protocol):
    """What decoding needs of a file: read on, close."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


class Peekable:
    """A stream of which the first bytes can be looked at before they are read."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._head = b""

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, or all that are left."""
        while len(self._head) < size and (more := self._stream.read(max(size - len(self._head), _STEP))):
            self._head += more
        return self._head[:size]

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        if not self._head:
            return self._stream.read(size)
        taken, self._head = self._head[:size], self._head[size:]
        return taken

    def close(self) -> None:
        """Close the stream beneath."""
        self._stream.close()


def compression_of(head: bytes) -> str | None:
    """The compression whose magic number `head` begins with."""
    if head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5:
        return "zstd"
    return next((name for name, magic in MAGIC.items() if head.startswith(magic)), None)


def unpack(feed: Feed, raw: Peekable, options: DecodeOptions) -> tuple[str | None, Peekable]:
    """Find the compression by content, and give it with the unpacked stream.

    A name like `.gz` on data that is not compressed is no error (web servers unpack on the way); a compression that
    is declared must be there.

    Raises:
        DecodeError: while reading, where the data is damaged, ends in the middle, or has a foreign tail.
        LimitError: while reading, where more comes out than `options` allows.
    """
    head = raw.peek(4)
    found = compression_of(head)
    if feed.compression is not None and head and found != feed.compression:
        raise DecodeError(
            f"{feed.name} is declared {feed.compression}, but its content is {found or 'not compressed'}.",
            where=feed.name,
        )
    if found is None:
        return None, Peekable(_Bounded(raw, feed, options))
    stream: Stream = _Gzip(raw, feed.name) if found == "gzip" else _ArrowUnpacked(raw, feed.name, found)
    return found, Peekable(_Bounded(stream, feed, options))


def truncated(name: str, kind: str, unpacked: int) -> DecodeError:
    """The error for compressed data that ends too early."""
    return DecodeError(
        f"The {kind} data of {name} ends in the middle: the file is truncated.",
        where=f"{name}, after {unpacked:,} unpacked bytes",
        hint="fetch the file again (--refetch)",
    )


def damaged(name: str, kind: str, unpacked: int, why: str) -> DecodeError:
    """The error for compressed data that cannot be unpacked."""
    return DecodeError(
        f"The {kind} data of {name} is damaged: {why}.",
        where=f"{name}, after {unpacked:,} unpacked bytes",
        hint="fetch the file again (--refetch)",
    )


class _Gzip:
    """Gzip members, one after the other; zero padding behind the last is allowed, as the gzip tool does."""

    def __init__(self, raw: Peekable, name: str) -> None:
        self._raw = raw
        self._name = name
        self._unpacked = 0
        self._member = self._new_member()

    @staticmethod
    def _new_member() -> igzip_lib.IgzipDecompressor:
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    def read(self, size: int) -> bytes:
        while True:
            packed = b""
            if self._member.eof:
                packed = self._next_member()
                if not packed:
                    return b""
            elif self._member.needs_input:
                packed = self._raw.read(_STEP)
                if not packed:
                    raise truncated(self._name, "gzip", self._unpacked)
            try:
                out: bytes = self._member.decompress(packed, size)
            except _ISAL_ERROR as error:
                raise damaged(self._name, "gzip", self._unpacked, str(error).partition(" ")[2].lower()) from None
            if out:
                self._unpacked += len(out)
                return out

    def _next_member(self) -> bytes:
        """The first bytes of the next member, with a fresh decompressor for them; none at the end of the file."""
        rest: bytes = self._member.unused_data
        while len(rest := rest.lstrip(b"\0")) < len(MAGIC["gzip"]) and (more := self._raw.read(_STEP)):
            rest += more
        if not rest:
            return b""  # the old member stays: who reads again at the end is told so again
        if not rest.startswith(MAGIC["gzip"]):
            raise damaged(self._name, "gzip", self._unpacked, "something else follows its end")
        self._member = self._new_member()
        return rest

    def close(self) -> None:
        self._raw.close()


class _ArrowUnpacked:
    """Zstandard frames or bzip2 streams, one after the other."""

    def __init__(self, raw: Peekable, name: str, kind: str) -> None:
        self._raw = raw
        self._name = name
        self._kind = kind
        self._unpacked = 0
        self._stream = pa.CompressedInputStream(pa.PythonFile(_Readable(raw), "r"), "zstd" if kind == "zstd" else "bz2")

    def read(self, size: int) -> bytes:
        try:
            out: bytes = self._stream.read(size)
        except OSError as error:
            if "Truncated" in str(error):
                raise truncated(self._name, self._kind, self._unpacked) from None
            if "decompress failed" in str(error):
                raise damaged(self._name, self._kind, self._unpacked, str(error).partition(": ")[2].lower()) from None
            raise
        self._unpacked += len(out)
        return out

    def close(self) -> None:
        with suppress(OSError):  # Arrow looks for the frame's end when it closes; that was reported while reading
            self._stream.close()
        self._raw.close()


class _Readable:
    """What Arrow asks of a Python file that it reads from."""

    closed = False

    def __init__(self, stream: Stream) -> None:
        self.read: Callable[[int], bytes] = stream.read

    def close(self) -> None:
        self.closed = True


class _Bounded:
    """A stream that stops at the limits of `DecodeOptions`: unpacked bytes, and their ratio to the packed ones."""

    def __init__(self, stream: Stream, feed: Feed, options: DecodeOptions) -> None:
        self._stream = stream
        self._feed = feed
        self._options = options
        self._total = 0

    def read(self, size: int) -> bytes:
        out = self._stream.read(size)
        self._total += len(out)
        if self._total > self._options.max_unpacked:
            raise self._too_much(f"more than {self._options.max_unpacked:,} bytes", "max_unpacked")
        if self._total > _RATIO_FROM and self._total > self._options.max_ratio * max(self._feed.bytes, 1):
            raise self._too_much(f"more than {self._options.max_ratio:g} times its size", "max_ratio")
        return out

    def _too_much(self, amount: str, limit: str) -> LimitError:
        return LimitError(
            f"{self._feed.name} ({self._feed.bytes:,} bytes) unpacks to {amount}.",
            where=self._feed.name,
            hint=f"raise {limit} if this file is meant to be so large",
        )

    def close(self) -> None:
        self._stream.close()


def open_raw(feed: Feed) -> Peekable:
    """The feed's bytes as they are stored."""
    raw: BinaryIO = feed.open()
    return Peekable(raw)
