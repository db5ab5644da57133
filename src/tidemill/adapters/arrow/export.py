"""Results of queries as Parquet files, written batch by batch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def write_parquet(reader: Any, stream: IO[bytes]) -> int:
    """Write the rows of a pyarrow.RecordBatchReader as one Parquet file (zstd); returns how many."""
    from pyarrow import parquet

    rows = 0
    with parquet.ParquetWriter(stream, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def rows_of_parquet(file: Path) -> int:
    """How many rows a Parquet file has, by its own word."""
    from pyarrow import parquet

    return int(parquet.read_metadata(file).num_rows)


def parquet_parts(reader: Any, most: int) -> Iterator[bytes]:
    """The rows of a pyarrow.RecordBatchReader as one Parquet file (zstd), in parts of at most so many bytes.

    What a batch has made goes out before the next one is read.
    """
    from pyarrow import parquet

    made = _Given()
    with parquet.ParquetWriter(made, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            yield from made.taken(most)
    yield from made.taken(most)


class _Given(io.RawIOBase):
    """A file that is given away as it grows."""

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._given = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return memoryview(data).nbytes

    def tell(self) -> int:
        return self._given + len(self._held)

    def taken(self, most: int) -> Iterator[bytes]:
        """What was written since, in parts."""
        held, self._held = bytes(self._held), bytearray()
        self._given += len(held)
        for begin in range(0, len(held), most):
            yield held[begin : begin + most]
