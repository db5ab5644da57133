"""Port `records`: writes records that a source yields as lines of JSON or as Avro, for the archive."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO, Protocol


class RecordEncoder(Protocol):
    """Encodes records.

    Promises: nothing is lost that a value says: times keep their offset, decimals all their digits, bytes are
    base64; the order of records and of their keys stays. A value that cannot be written raises DataError with the
    record's number and the key.
    """

    def extension(self, format: str, compression: str) -> str:
        """The file name extension, such as `.jsonl.zst`."""
        ...

    def encode(self, out: BinaryIO, rows: Iterable[Any], format: str, compression: str) -> int:
        """Write `rows` (mappings, lists of mappings, Arrow tables, data frames) to `out`; returns how many."""
        ...
