"""Results of queries as Parquet files, written batch by batch."""

from __future__ import annotations

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
