"""The port `records`: JSON Lines by msgspec (zstd, gzip or plain), Avro by fastavro (deflate inside the container)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec

from tidemill.adapters.records.avro import Misfit, Shape
from tidemill.adapters.records.values import plain_row
from tidemill.model.errors import DataError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_EXTENSIONS = {"zstd": ".zst", "gzip": ".gz", "none": ""}
#: Bytes between two writes, so that the compressor gets big blocks.
_WRITE = 1 << 18
_NEWLINE = 0x0A
#: Records whose values decide the Avro schema; every further one must fit it (a wider one is an error, not a loss).
_AVRO_SAMPLE = 100_000
_AVRO_BLOCK = 1 << 18

_JSON_TAKES_IT = 'archive="jsonl" takes any record'

#: What msgspec raises on values, keys and text that JSON cannot hold.
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


class ArchiveRecordEncoder:
    """Writes records for the archive."""

    def extension(self, format: str, compression: str) -> str:
        """The file name extension, such as `.jsonl.zst`."""
        return ".avro" if format == "avro" else ".jsonl" + _EXTENSIONS[compression]

    def encode(self, out: BinaryIO, rows: Iterable[Any], format: str, compression: str) -> int:
        """Write `rows` to `out`; returns how many."""
        if format == "avro":
            return _avro(out, rows, compression)
        with _compressed(out, compression) as stream:
            return _json_lines(stream, rows)


def _compressed(out: BinaryIO, compression: str) -> AbstractContextManager[BinaryIO]:
    if compression == "zstd":
        import zstandard

        return cast(
            AbstractContextManager[BinaryIO], zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False)
        )
    if compression == "gzip":
        # No name and no time inside: the same records give the same bytes.
        return cast(
            AbstractContextManager[BinaryIO],
            gzip.GzipFile(filename="", mode="wb", fileobj=out, compresslevel=6, mtime=0),
        )
    return nullcontext(out)


def _json_lines(out: BinaryIO, rows: Iterable[Any]) -> int:
    encoder = msgspec.json.Encoder(decimal_format="number")
    lines = bytearray()
    count = 0
    # Each record is encoded when it comes: a source may change the same mapping and yield it again.
    for row in rows:
        count += 1
        try:
            # As a decimal, an infinite number is written as the token `Infinity`; as a float it would be null.
            encoder.encode_into(plain_row(row, infinity=Decimal), lines, -1)
        except _UNWRITABLE:
            raise _unwritable(count, row, encoder) from None
        lines.append(_NEWLINE)
        if len(lines) >= _WRITE:
            out.write(lines)
            lines.clear()
    out.write(lines)
    return count


def _unwritable(number: int, row: Any, encoder: msgspec.json.Encoder) -> DataError:
    """The error that names the key of a record that cannot be written."""
    if not isinstance(row, Mapping):
        return _not_a_record(number, row)
    for key, value in row.items():
        try:
            encoder.encode(plain_row({key: value}, infinity=Decimal))
        except _UNWRITABLE as error:
            why = f": {error}" if isinstance(error, UnicodeError) else ""
            return DataError(
                f'Record {number} cannot be archived: "{key}" is {value!r:.60} ({type(value).__name__}){why}.',
                hint="yield text, numbers, booleans, dates, times, decimals, bytes, lists or mappings",
            )
    return DataError(f"Record {number} cannot be archived as JSON.")


def _not_a_record(number: int, row: object) -> DataError:
    return DataError(
        f"Record {number} cannot be archived: it is {row!r:.60}, not a mapping from columns to values.",
        hint='yield mappings such as {"id": 1}',
    )


def _avro(out: BinaryIO, rows: Iterable[Any], compression: str) -> int:
    from fastavro import parse_schema
    from fastavro.write import Writer

    remaining = enumerate(rows, 1)
    shape = Shape("", "record")
    sample = [_fitting(number, row, shape, grow=True) for number, row in islice(remaining, _AVRO_SAMPLE)]
    schema = shape.schema()
    writer = Writer(
        cast(BinaryIO, _Forward(out)),
        parse_schema(schema),
        codec="null" if compression == "none" else "deflate",
        sync_interval=_AVRO_BLOCK,
        # By default a random one: the same records would not give the same bytes.
        sync_marker=hashlib.blake2b(json.dumps(schema).encode(), digest_size=16).digest(),
    )
    judged = (_fitting(number, row, shape, grow=False) for number, row in remaining)
    count = 0
    for row in chain(sample, judged):
        count += 1
        try:
            writer.write(row)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"Record {count} cannot be archived as Avro: {error}.", hint=_JSON_TAKES_IT) from None
    writer.flush()
    return count


def _fitting(number: int, row: Any, shape: Shape, *, grow: bool) -> dict[str, Any]:
    """The record with plain values, of which `shape` says that the schema holds them."""
    if type(row) is not dict and not isinstance(row, Mapping):
        raise _not_a_record(number, row)
    try:
        record = dict(plain_row(row))  # a copy: a source may change the same mapping and yield it again
        shape.take_record(record, grow)
    except Misfit as misfit:
        what = f'Record {number} cannot be archived as Avro: "{misfit.path}" {misfit.reason}.'
        raise DataError(what, hint=_JSON_TAKES_IT) from None
    except (TypeError, RecursionError) as error:
        raise DataError(f"Record {number} cannot be archived: {error}.") from None
    return record


class _Forward(io.RawIOBase):
    """A stream for fastavro, which asks more of one (whether it can seek) than that it writes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        return self._out.write(bytes(data))
