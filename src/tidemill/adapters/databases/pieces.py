"""Rows on their way to the archive: Parquet files of bounded size in a temporary folder, removed once read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.ports.source import RawFile

#: Bytes of rows in memory's form that one file holds at most, unless one batch alone has more. What is unpacked to less
#: than 64 MB is never taken for a bomb, however well it packs.
PIECE_BYTES = 56 << 20
#: Rows of a group; the reader takes pages of it at a time.
_GROUP = 262_144


class PieceWriter:
    """Writes batches into files, one after another: a full one is followed by the next, and so is one whose columns
    are no longer those of the batch.

    Args:
        folder: where they stand until they are read.
        stem: how their names begin.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._writer: Any = None
        self._schema: pa.Schema | None = None
        self._bytes = 0
        self._taken = 0
        self.paths: list[Path] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Add a batch."""
        if self._writer is not None and (
            batch.schema != self._schema or (self._bytes and self._bytes + batch.nbytes > PIECE_BYTES)
        ):
            self.close()
        if self._writer is None:
            self._begin(batch.schema)
        self._writer.write_batch(batch, row_group_size=_GROUP)
        self._bytes += batch.nbytes

    def _begin(self, schema: pa.Schema) -> None:
        path = self._folder / f"{self._stem}-{len(self.paths):03d}.parquet"
        # Dictionaries take a third of the time of a read, and zstd finds most of what they would.
        self._writer = pq.ParquetWriter(
            path, schema, compression="zstd", compression_level=1, use_dictionary=False, write_page_checksum=True
        )
        self._schema, self._bytes = schema, 0
        self.paths.append(path)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def taken(self, *, last: bool) -> list[Path]:
        """The files that are complete and were not taken before; `last`: and the one that was just closed."""
        end = len(self.paths) if last else len(self.paths) - 1
        found = self.paths[self._taken : end]
        self._taken = max(self._taken, end)
        return found

    def forget(self) -> None:
        """Remove what was written: it is read once more."""
        self.close()
        for path in self.paths:
            path.unlink(missing_ok=True)


def empty_piece(folder: Path, stem: str, schema: pa.Schema) -> Path:
    """A file without rows, which tells the columns."""
    path = folder / f"{stem}-000.parquet"
    pq.write_table(schema.empty_table(), path)
    return path


def raw_file(path: Path) -> RawFile:
    """A file as a piece; it is gone once it was read."""

    @contextmanager
    def opened() -> Iterator[BinaryIO]:
        with path.open("rb") as stream:
            yield stream
        path.unlink()

    return RawFile(path.name, opened)
