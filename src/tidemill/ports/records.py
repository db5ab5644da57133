"""Port `records`: writes records that a source yields as lines of JSON or as Avro, for the archive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol


class RecordEncoder(Protocol):
    """Encodes records.

    Promises:
      - Nothing is lost that a value says: times keep their offset (in Avro their instant), decimals all their digits,
        bytes are base64 (in Avro bytes); NaN, and what other libraries write for "no value", is null.
      - The order of records and of their keys stays. The same records give the same bytes.
      - A value that cannot be written raises DataError with the record's number (from 1) and the key. Errors that
        `rows` itself raises pass through.
      - Memory does not grow with the number of records; `out` is only written to, and stays open.
    """

    def extension(self, format: str, compression: str) -> str:
        """The file name extension, such as `.jsonl.zst`."""
        ...

    def encode(self, out: BinaryIO, rows: Iterable[Any], format: str, compression: str) -> int:
        """Write `rows`, mappings from column to value, to `out`; returns how many.

        `format` is jsonl or avro; `compression` zstd, gzip or none (in Avro any but none is its own deflate).

        Raises:
            DataError: a value that the format cannot hold.
        """
        ...
