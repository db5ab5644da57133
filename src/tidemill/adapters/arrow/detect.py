"""What a feed is: its format and compression, found by content first and by the name's extension second."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from tidemill.adapters.arrow.compression import EXTENSIONS as PACKED
from tidemill.adapters.arrow.compression import Peekable, open_raw, unpack
from tidemill.model.errors import DecodeError
from tidemill.ports.decoder import DecodeOptions, Feed, check_format

_MAGIC = {b"PAR1": "parquet", b"Obj\x01": "avro"}
_EXTENSIONS = {
    "csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
    "avro": "avro", "parquet": "parquet", "pq": "parquet", "html": "html", "htm": "html",
}  # fmt: skip
#: What is recognised in order to say that it is not read.
_FOREIGN = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an Excel file of the old form, or one with a password",
    b"\xfd7zXZ\x00": "xz-compressed", b"7z\xbc\xaf\x27\x1c": "a 7z archive", b"Rar!": "a rar archive",
    b"\x04\x22\x4d\x18": "lz4-compressed", b"ORC": "an ORC file",
}  # fmt: skip
#: Archives: zip by its first bytes (a workbook is one, too), tar, which names itself at byte 257.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_TAR, _TAR_AT = b"ustar", 257
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Opened:
    """A feed, opened: what it is, and its unpacked bytes from the first one on."""

    feed: Feed
    format: str
    compression: str | None
    stream: Peekable


class IsArchive(Exception):
    """Raised by `open_feed`: the feed is an archive ("zip" or "tar"), whose members are to be read."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def open_feed(feed: Feed, options: DecodeOptions) -> Opened:
    """Open a feed and find out what it is. The caller closes `stream`.

    Raises:
        IsArchive: it is one.
        DecodeError: a format that is not read, or content that contradicts what is declared.
        UnknownName: a declared format that does not exist.
    """
    raw = open_raw(feed)
    try:
        _look(feed, raw.peek(_TAR_AT + len(_TAR)))
        compression, stream = unpack(feed, raw, options)
        head = stream.peek(_TAR_AT + len(_TAR))
        if compression is not None:
            _look(feed, head)
            if head.startswith(_ZIP):
                raise DecodeError(f"{feed.name} is a compressed zip archive.", where=feed.name, hint="unpack it once")
        return Opened(feed, _format(feed, options.format or feed.format, head), compression, stream)
    except BaseException:
        raw.close()
        raise


def _look(feed: Feed, head: bytes) -> None:
    """Raises IsArchive, and DecodeError for what is not read."""
    if head.startswith(_ZIP):
        raise IsArchive("zip")
    if head[_TAR_AT:] == _TAR:
        raise IsArchive("tar")
    kind = next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)
    if kind is not None:
        raise DecodeError(
            f"{feed.name} is {kind}, which is not read.",
            where=feed.name,
            hint="feed what is inside: CSV, JSON Lines, Avro, Parquet or .xlsx; plain, gzip, zstd or bzip2, zip or tar",
        )


def _format(feed: Feed, declared: str | None, head: bytes) -> str:
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if declared is None:
        return found or _by_extension(feed.name) or _by_text(head)
    check_format(declared, feed.name)
    if declared == "xlsx":
        raise DecodeError(f"{feed.name} is declared xlsx, and is no Excel workbook.", where=feed.name)
    expected = declared if declared in _MAGIC.values() else None
    if head and found != expected:
        raise DecodeError(
            f"{feed.name} is declared {declared}, but its content is {found or f'not {declared}'}.",
            where=feed.name,
            hint="leave the format out to have it found",
        )
    return declared


def extension(name: str) -> str:
    """The extension that tells the format: the last one, or the one before a compression's."""
    parts = PurePosixPath(name.lower()).name.split(".")[1:]
    while parts and parts[-1] in PACKED:
        parts.pop()
    return parts[-1] if parts else ""


def _by_extension(name: str) -> str | None:
    found = _EXTENSIONS.get(extension(name))
    # Avro and Parquet announce themselves; a name alone does not make them.
    return found if found in ("csv", "jsonl", "html") else None


def _by_text(head: bytes) -> str:
    for bom in _BOMS:
        head = head.removeprefix(bom)
    return "jsonl" if head.lstrip(b" \t\r\n\0")[:1] in (b"{", b"[") else "csv"


def unpacked_feed(opened: Opened, *, seekable: bool) -> Feed:
    """The feed as a reader of a binary format takes it: unpacked, and seekable if need be (by a temporary file)."""
    if opened.compression is None:
        return opened.feed
    return replace(opened.feed, open=_unpacker(opened, seekable), compression=None)


def _unpacker(opened: Opened, seekable: bool) -> Callable[[], BinaryIO]:
    def unpacked() -> BinaryIO:
        if not seekable:
            return cast(BinaryIO, opened.stream)
        copy = tempfile.TemporaryFile()  # noqa: SIM115 -- the reader that asked for it closes it
        while part := opened.stream.read(1 << 20):
            copy.write(part)
        copy.seek(0)
        return cast(BinaryIO, copy)

    return unpacked
