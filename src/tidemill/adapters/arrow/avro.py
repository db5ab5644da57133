"""Avro container files as record batches, block by block. The first step of loading.

The container (header, blocks, codecs, limits) is read here; fastavro decodes the records of a block; `avro_schema`
makes columns of them. fastavro's own container reader lacks snappy and zstandard without further packages, unpacks
without a limit, takes a file that ends within a block header for whole, and does not see bytes left over in a block.
"""

from __future__ import annotations

import bz2
import io
import itertools
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, BinaryIO

import fastavro
import pyarrow as pa
import zstandard

from tidemill.adapters.arrow.avro_schema import Reading, read_schema
from tidemill.adapters.arrow.limits import Budget, check_sizes
from tidemill.model.errors import DecodeError, LimitError
from tidemill.ports.decoder import DecodeOptions, Feed

#: What a batch aims at: encoded bytes, and rows. A row is a Python dict for a moment, some 30 times its bytes.
BATCH_BYTES = 1 << 20
BATCH_ROWS = 32_768
#: A block is decoded as a whole, so it may not be of any size. Writers make blocks of 16 KB to a few MB.
MAX_BLOCK = 256 << 20
#: A block of records without bytes (no field, or nulls only) may claim any number; more than this is refused.
MAX_EMPTY = 1_000_000

MAGIC = b"Obj\x01"
_SYNC = 16
_PIECE = 1 << 20
_HINT = "fetch the file again (--refetch)"

#: What fastavro raises on bytes that are not what the schema says, and what the builders of columns raise.
_CORRUPT = (EOFError, ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, AssertionError)
_UNFIT = (pa.ArrowException, *_CORRUPT)


def read_avro(feed: Feed, options: DecodeOptions) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Read an Avro container file.

    Args:
        feed: the file, its stream read from begin to end.
        options: limits: `max_unpacked`, `max_ratio`, `max_depth`, `max_field`, `max_columns`.

    Yields:
        Record batches with the types of `read_schema`, and the number of their first record, from 1. A file
        without records gives one batch without rows, so that its columns are known.

    Raises:
        DecodeError: no Avro file, truncated, corrupt, an unknown codec, a schema that no columns can have.
        LimitError: a limit is exceeded.
    """
    with closing(feed.open()) as stream:
        container = _Container(stream, feed, options)
        root = read_schema(container.schema, feed.name, options)
        first = 1
        for rows in _rows(container, root, feed):
            yield _batch(rows, root, feed, first, options), first
            first += len(rows)
        if first == 1:
            yield pa.RecordBatch.from_struct_array(root.build([])), 1


def _rows(container: _Container, root: Reading, feed: Feed) -> Iterator[list[Any]]:
    """The records, a batch's worth at a time."""
    plain: Any = _Plain(root.wire, container.blocks(root.smallest))
    blocks: Any = fastavro.block_reader(plain, return_named_type=True, return_named_type_override=True)
    rows: list[Any] = []
    done = 0
    for block in blocks:
        records = iter(block)
        limit = _batch_rows(block)
        while True:
            try:
                # A list keeps what it was extended by before the iterator failed: the failing record's number.
                rows.extend(itertools.islice(records, max(limit - len(rows), 1)))
            except _CORRUPT as error:
                raise _corrupt(feed, done + len(rows) + 1, error) from error
            if len(rows) < limit:
                break
            yield rows
            done += len(rows)
            rows = []
        if block.bytes_.read(1):
            raise DecodeError(
                "The Avro file is corrupt: a block holds more bytes than its records.",
                where=f"{feed.name} record {done + len(rows)}",
                hint=_HINT,
            )
    if rows:
        yield rows


def _batch_rows(block: Any) -> int:
    row_bytes = max(block.size // max(block.num_records, 1), 1)
    return int(min(max(BATCH_BYTES // row_bytes, 1), BATCH_ROWS))


def _batch(rows: list[Any], root: Reading, feed: Feed, first: int, options: DecodeOptions) -> pa.RecordBatch:
    try:
        batch = pa.RecordBatch.from_struct_array(root.build(rows))
    except _UNFIT as error:
        raise _corrupt(feed, first + _first_unfit(rows, root), error) from error
    check_sizes(batch, options, f"{feed.name} records {first} to {first + len(rows) - 1}")
    return batch


def _first_unfit(rows: list[Any], root: Reading) -> int:
    """Which record does not fit, found one by one: a column says only that some value does not."""
    for at, row in enumerate(rows):
        try:
            root.build([row])
        except _UNFIT:
            return at
    return 0


def _corrupt(feed: Feed, number: int, error: BaseException) -> DecodeError:
    reason = str(error).partition("\n")[0].rstrip(".") or "it ends too early"
    return DecodeError(
        f"The Avro record does not fit the file's schema: {reason}.", where=f"{feed.name} record {number}", hint=_HINT
    )


class _Container:
    """An Avro container file: its schema, and its blocks, unpacked."""

    def __init__(self, stream: BinaryIO, feed: Feed, options: DecodeOptions) -> None:
        self._stream = stream
        self._feed = feed
        self._budget = Budget(feed, options)
        self._records = 0
        self._held = b""
        self._at = 0
        if self._take(len(MAGIC)) != MAGIC:
            raise DecodeError(
                "This is no Avro container file.", where=feed.name, hint="name the right format: csv, jsonl, parquet"
            )
        meta = self._meta()
        try:
            self.schema: Any = json.loads(meta["avro.schema"])
            codec = meta.get("avro.codec", b"null").decode()
        except (KeyError, ValueError, RecursionError) as error:
            raise DecodeError("The Avro file's header holds no schema.", where=feed.name, hint=_HINT) from error
        if codec not in _CODECS:
            raise DecodeError(
                f'The Avro file is packed by "{codec}", which is not known here.',
                where=feed.name,
                hint="write it with one of " + ", ".join(_CODECS),
            )
        self._unpack = _CODECS[codec]
        self._sync = self._take(_SYNC)

    def blocks(self, smallest: int) -> Iterator[tuple[int, bytes]]:
        """The blocks: number of records, and their bytes. `smallest` is the least that a record takes."""
        while (records := self._long(may_end=True)) is not None:
            data = self._block()
            if self._take(_SYNC) != self._sync:
                raise self._broken("a block does not end where it says")
            if records < 0 or records > (len(data) // smallest if smallest else MAX_EMPTY):
                raise self._broken(f"a block of {len(data):,} bytes claims {records:,} records")
            yield records, data
            self._records += records

    def _block(self) -> bytes:
        packed = self._take(self._long() or 0)
        allowed = self._budget.left
        try:
            data = self._unpack(packed, min(allowed, MAX_BLOCK))
        except _TooLarge:
            if allowed < MAX_BLOCK:
                raise self._budget.exceeded() from None
            raise LimitError(
                f"A block of {self._feed.name} has more than {MAX_BLOCK:,} bytes.",
                where=self._place(),
                hint="write it with smaller blocks (the sync interval)",
            ) from None
        except (zlib.error, OSError, ValueError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
            raise self._broken(f"a block cannot be unpacked ({error})") from error
        self._budget.spend(len(data))
        return data

    def _meta(self) -> dict[str, bytes]:
        """The header's map from name to bytes."""
        meta: dict[str, bytes] = {}
        while count := self._long() or 0:
            if count < 0:
                count = -count
                self._long()  # the size in bytes of what follows, for readers that skip
            for _ in range(count):
                key = self._take(self._long() or 0)
                meta[key.decode(errors="replace")] = self._take(self._long() or 0)
        return meta

    def _long(self, *, may_end: bool = False) -> int | None:
        """A zigzag varint; None where the file may end here and does."""
        value = shift = 0
        while True:
            if self._at == len(self._held) and not self._refill():
                if may_end and not shift:
                    return None
                raise self._truncated()
            byte = self._held[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise self._broken("a number has more than 64 bits")

    def _take(self, size: int) -> bytes:
        """Exactly `size` bytes, read in pieces: a corrupt size must not reserve memory for what is not there."""
        if size < 0:
            raise self._broken("a size is negative")
        pieces = []
        while size > 0:
            if self._at == len(self._held) and not self._refill():
                raise self._truncated()
            piece = self._held[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _refill(self) -> bool:
        """Read on; False at the end."""
        self._held, self._at = self._stream.read(_PIECE), 0
        return bool(self._held)

    def _place(self) -> str:
        return f"{self._feed.name} after record {self._records}" if self._records else self._feed.name

    def _truncated(self) -> DecodeError:
        return DecodeError("The Avro file is truncated.", where=self._place(), hint=_HINT)

    def _broken(self, reason: str) -> DecodeError:
        return DecodeError(f"The Avro file is corrupt: {reason}.", where=self._place(), hint=_HINT)


class _Plain:
    """The container as fastavro gets it: the same blocks, not packed, and a schema by which it decodes them.

    fastavro reads it as a stream; each of its reads stays within the header or one block.
    """

    def __init__(self, wire: Any, blocks: Iterator[tuple[int, bytes]]) -> None:
        schema = json.dumps(wire).encode()
        header = [MAGIC, _varint(1), _text(b"avro.schema"), _text(schema), _varint(0), bytes(_SYNC)]
        self._piece = io.BytesIO(b"".join(header))
        self._blocks = blocks

    def read(self, size: int) -> bytes:
        if not (data := self._piece.read(size)) and size:
            for records, block in self._blocks:
                self._piece = io.BytesIO(b"".join([_varint(records), _text(block), bytes(_SYNC)]))
                return self._piece.read(size)
        return data

    def tell(self) -> int:
        return self._piece.tell()


def _varint(value: int) -> bytes:
    """A zigzag varint of a number that is not negative."""
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(data: bytes) -> bytes:
    return _varint(len(data)) + data


class _TooLarge(Exception):
    """What is unpacked has more bytes than the limit."""


def _null(packed: bytes, limit: int) -> bytes:
    return _within(packed, limit)


def _within(data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise _TooLarge
    return data


def _deflate(packed: bytes, limit: int) -> bytes:
    return _whole(zlib.decompressobj(-zlib.MAX_WBITS), packed, limit)


def _bzip2(packed: bytes, limit: int) -> bytes:
    return _whole(bz2.BZ2Decompressor(), packed, limit)


def _xz(packed: bytes, limit: int) -> bytes:
    return _whole(lzma.LZMADecompressor(), packed, limit)


def _whole(unpacker: Any, packed: bytes, limit: int) -> bytes:
    data = _within(unpacker.decompress(packed, limit + 1), limit)
    if not unpacker.eof:
        raise EOFError("it ends too early")
    return data


def _zstandard(packed: bytes, limit: int) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(packed) as reader:
        return _within(reader.read(limit + 1), limit)


def _snappy(packed: bytes, limit: int) -> bytes:
    """Snappy with the sum of the unpacked bytes behind it; their number stands in front as a varint."""
    body, expected = packed[:-4], int.from_bytes(packed[-4:], "big")
    size = 0
    for at, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            break
    if size > limit:
        raise _TooLarge
    data: bytes = pa.Codec("snappy").decompress(body, decompressed_size=size, asbytes=True)
    if zlib.crc32(data) != expected:
        raise ValueError("its check sum is wrong")
    return data


_CODECS: dict[str, Callable[[bytes, int], bytes]] = {
    "null": _null,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": _bzip2,
    "xz": _xz,
}
