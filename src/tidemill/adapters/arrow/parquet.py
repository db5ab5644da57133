"""Parquet feeds as record batches: row group by row group, in the types that tables have. The first step of loading.

Pages are read as they are needed, so memory follows the size of a batch and not of the file or its row groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.adapters.arrow.limits import Budget, check_sizes, too_deep, too_many_columns
from tidemill.adapters.arrow.normal import normal, normal_type
from tidemill.model.errors import DecodeError
from tidemill.ports.decoder import DecodeOptions, Feed

#: What a batch aims at: bytes as the file stores them before compression, and rows.
BATCH_BYTES = 8 << 20
BATCH_ROWS = 65_536
#: How much of a column is read ahead.
READ_AHEAD = 1 << 20


def read_parquet(feed: Feed, options: DecodeOptions) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Read a Parquet file.

    Args:
        feed: the file; its stream can seek, since a Parquet file is read from its end.
        options: limits: `max_unpacked`, `max_ratio`, `max_depth`, `max_field`, `max_columns`.

    Yields:
        Record batches with the types of `normal_type`, and the number of their first row, from 1. A file without
        rows gives one batch without rows, so that its columns are known.

    Raises:
        DecodeError: no Parquet file, truncated, corrupt, encrypted, or of a type that no column can have.
        LimitError: a limit is exceeded.
    """
    with closing(feed.open()) as stream:
        with _explained(feed, 1):
            file = _open(stream)
        schema = _schema_of(feed, file, options)
        # The footer says how large the pages are when unpacked, so a bomb is refused before it is opened.
        Budget(feed, options).spend(sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)))
        batches = itertools.chain.from_iterable(_batches(file, group) for group in range(file.num_row_groups))
        decoded = Budget(feed, options)
        first = 1
        while True:
            with _explained(feed, first):
                raw = next(batches, None)
                if raw is None:
                    break
                raw.validate(full=True)  # Arrow trusts the file that its strings are UTF-8
                batch = pa.RecordBatch.from_arrays([normal(column) for column in raw.columns], schema=schema)
            check_sizes(batch, options, f"{feed.name} rows {first} to {first + batch.num_rows - 1}")
            decoded.spend(batch.nbytes, by_ratio=False)  # a column of one value is rightly a million times smaller
            yield batch, first
            first += batch.num_rows
        if first == 1:
            yield pa.RecordBatch.from_pylist([], schema=schema), 1


def _open(stream: BinaryIO) -> Any:
    # int96 holds a range of years that int64 nanoseconds lack, so it is read as microseconds at once.
    return pq.ParquetFile(
        stream,
        pre_buffer=False,
        buffer_size=READ_AHEAD,
        coerce_int96_timestamp_unit="us",
        page_checksum_verification=True,
    )


def _schema_of(feed: Feed, file: Any, options: DecodeOptions) -> pa.Schema:
    if file.metadata.num_columns > options.max_columns:
        raise too_many_columns(feed.name, options)
    columns = []
    for field in file.schema_arrow:
        if _depth(field.type) > options.max_depth:
            raise too_deep(feed.name, options)
        try:
            columns.append(pa.field(field.name, normal_type(field.type)))
        except DecodeError as error:
            raise DecodeError(f'Column "{field.name}": {error.what}', where=feed.name, hint=error.hint) from None
    return pa.schema(columns)


def _depth(kind: pa.DataType) -> int:
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return 1 + max((_depth(each) for each in inner), default=-1)


def _batches(file: Any, group: int) -> Iterator[Any]:
    """One row group in batches whose size follows that of its rows."""
    found = file.metadata.row_group(group)
    row_bytes = max(found.total_byte_size // max(found.num_rows, 1), 1)
    rows = min(max(BATCH_BYTES // row_bytes, 1), BATCH_ROWS)
    yield from file.iter_batches(batch_size=rows, row_groups=[group])


@contextmanager
def _explained(feed: Feed, row: int) -> Iterator[None]:
    """Turn what Arrow says about bad bytes into a DecodeError; errors of the storage itself pass through."""
    try:
        yield
    except (pa.ArrowException, OSError, NotImplementedError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        reason = str(error).partition("\n")[0].rstrip(".")
        if "encrypt" in reason or "decrypt" in reason:
            raise DecodeError(
                f"The Parquet file is encrypted: {reason}.", where=feed.name, hint="decrypt it before it is archived"
            ) from error
        raise DecodeError(
            f"The Parquet file cannot be read: {reason}.",
            where=f"{feed.name} from row {row}",
            hint="fetch the file again (--refetch)",
        ) from error
