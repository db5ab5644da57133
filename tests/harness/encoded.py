"""Records as the archive encodes them, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, cast

from tidemill.adapters.records.encoder import ArchiveRecordEncoder
from tidemill.ports.records import RecordEncoder


class WriteOnly:
    """An output as the archive gives it: it is written to, hashed, and nothing else."""

    def __init__(self) -> None:
        self.data = b""
        self.written: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> int:
        self.written()
        self.data += bytes(data)
        return len(data)

    def flush(self) -> None: ...


def encoded(rows: Any, form: str = "jsonl", compression: str = "none", adapter: RecordEncoder | None = None) -> bytes:
    out = WriteOnly()
    rows = list(rows)
    count = (adapter or ArchiveRecordEncoder()).encode(cast(BinaryIO, out), iter(rows), form, compression)
    assert count == len(rows)
    return out.data
