"""The port `records`: JSON Lines by msgspec (zstd, gzip or plain), Avro by fastavro (deflate inside the container)."""

from __future__ import annotations

import decimal
import gzip
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, BinaryIO, cast

import msgspec

from tidemill.adapters.records.avro import avro_schema
from tidemill.model.errors import DataError

_EXTENSIONS = {"zstd": ".zst", "gzip": ".gz", "none": ""}
#: Lines encoded between two writes: enough that the compressor gets big blocks, small enough for memory.
_LINES = 2_000
#: Rows whose values decide the Avro schema; every further row must fit it (a wider one is an error, not a loss).
_AVRO_SAMPLE = 100_000


class ArchiveRecordEncoder:
    """Writes records for the archive."""

    def extension(self, format: str, compression: str) -> str:
        """The file name extension, such as `.jsonl.zst`."""
        return ".avro" if format == "avro" else ".jsonl" + _EXTENSIONS[compression]

    def encode(self, out: BinaryIO, rows: Iterable[Mapping[str, Any]], format: str, compression: str) -> int:
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


def _json_lines(out: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> int:
    encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_plain)
    count = 0
    remaining = iter(rows)
    while lines := list(islice(remaining, _LINES)):
        try:
            out.write(encoder.encode_lines(lines))
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
            raise _unwritable(lines, count, encoder) from None
        count += len(lines)
    return count


def _plain(value: Any) -> Any:
    """Values that JSON does not know and that other libraries hand out: numpy scalars, pandas timestamps, sets."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _unwritable(lines: list[Mapping[str, Any]], before: int, encoder: msgspec.json.Encoder) -> DataError:
    """The error that names the first record and key that cannot be written."""
    for number, row in enumerate(lines, before + 1):
        for key, value in row.items():
            try:
                encoder.encode({key: value})
            except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
                return DataError(
                    f'Record {number} cannot be archived: "{key}" is a {type(value).__name__} ({value!r:.60}).',
                    hint="yield text, numbers, booleans, dates, times, decimals, bytes, lists or mappings",
                )
    return DataError("A record cannot be archived as JSON.")


def _avro(out: BinaryIO, rows: Iterable[Mapping[str, Any]], compression: str) -> int:
    import fastavro
    from fastavro.validation import ValidationError

    remaining = iter(rows)
    sample = list(islice(remaining, _AVRO_SAMPLE))
    declared = avro_schema(sample)
    fields = {field["name"] for field in declared["fields"]}
    count = 0

    def counted() -> Iterator[Mapping[str, Any]]:
        nonlocal count
        for part in (sample, remaining):
            for row in part:
                count += 1
                unknown = row.keys() - fields
                if unknown:
                    raise DataError(
                        f'Record {count} brings "{min(unknown)}", which the first {_AVRO_SAMPLE:,} do not have.',
                        hint='archive="jsonl" takes any record; or yield the key as None from the start',
                    )
                yield row

    try:
        codec = "null" if compression == "none" else "deflate"
        fastavro.writer(out, fastavro.parse_schema(declared), counted(), codec=codec, sync_interval=1 << 18)
    except (ValueError, TypeError, ValidationError, decimal.InvalidOperation, AttributeError) as error:
        raise DataError(
            f"Record {count} cannot be archived as Avro: {error}.",
            hint='archive="jsonl" takes any record; or make the types of the values agree',
        ) from None
    return count
