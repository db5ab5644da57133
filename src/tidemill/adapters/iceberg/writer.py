"""Streams record batches into data files: conformed, partitioned, sorted, encoded by a thread of its own.

The thread lets decoding and encoding overlap (both leave Python's lock); the queue between them holds two
batches. Rows are gathered up to a row group's worth, then split by partition and written, so nothing is held
for partitions that fill slowly. The sort order is applied to what is written at once: a file of one row group
is sorted as a whole, and says so.
"""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import SortDirection
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record

from tidemill.adapters.iceberg.arrow import BY_NAME, arrow_schema, conform
from tidemill.adapters.iceberg.completion import Completion
from tidemill.adapters.iceberg.footers import FileFacts, marks
from tidemill.adapters.iceberg.parquet import ParquetFile
from tidemill.adapters.iceberg.store import Store
from tidemill.adapters.iceberg.transforms import transformed
from tidemill.model.branch import StagedFile
from tidemill.model.errors import Refused
from tidemill.model.table import BATCH_ID

#: Rows that are conformed at once. A larger batch is cut, without a copy; smaller ones are joined up to the second
#: figure or 4 MB first, for conforming costs 80 µs a column, however few the rows.
_SLICE_ROWS = 65_536
_JOINED_ROWS = 16_384
_JOINED_BYTES = 4 << 20
#: What is gathered before it is written: a row group. DuckDB reads groups of 122,880 rows in parallel, and the last
#: group is what a load waits for when all is decoded (0.05 s; twice as long for twice the rows, in files no smaller);
#: 32 MB keep wide rows from filling memory. Rows that are partitioned or sorted are gathered longer.
_GROUP_ROWS = 131_072
_GROUP_BYTES = 32 << 20
_SPLIT_ROWS = 1 << 20
_SPLIT_BYTES = 40 << 20
#: Data files open at once. Beyond it the one used last is closed: rows that come in order are done with it, and
#: rows that come at random return to each partition in turn, so closing the oldest would close them all.
_OPEN_FILES = 200
_QUEUED_BATCHES = 2
_TARGET_BYTES = "write.target-file-size-bytes"
_TARGET_BYTES_DEFAULT = 128 << 20


@contextmanager
def open_writer(
    store: Store,
    metadata: TableMetadata,
    batch_id: int | None,
    *,
    target_bytes: int | None = None,
    completion: Completion | None = None,
) -> Iterator[StagingWriter]:
    """A writer for files of that version; what it wrote is garbage unless `finish` was called.

    Files end at about `target_bytes`, by default the table's own target. `completion` adds columns to the batches.
    """
    target = target_bytes or int(metadata.properties.get(_TARGET_BYTES, _TARGET_BYTES_DEFAULT))
    writer = StagingWriter(_Stage(store, metadata, batch_id, target, completion or Completion()))
    try:
        yield writer
    finally:
        writer.close()


class StagingWriter:
    """The port's FileWriter: hands batches to the thread, and its errors to the caller."""

    def __init__(self, stage: _Stage) -> None:
        self._stage = stage
        self._queue: queue.Queue[Any] = queue.Queue(_QUEUED_BATCHES)
        self._error: BaseException | None = None
        self._staged: tuple[StagedFile, ...] | None = None
        self._thread = threading.Thread(target=self._work, name="tidemill-parquet", daemon=True)
        self._thread.start()

    def write(self, batch: Any) -> None:
        """Add an Arrow RecordBatch or Table, or anything that exports one. Raises what an earlier batch met."""
        self._raise()
        if not self._thread.is_alive():
            raise Refused("The writer is finished; open another one.")
        self._queue.put(batch)

    def write_rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Add a few rows given as mappings from column to value."""
        names = dict.fromkeys(name for row in rows for name in row)
        self.write(pa.table({name: [row.get(name) for row in rows] for name in names}))

    def finish(self) -> tuple[StagedFile, ...]:
        """Close the files and tell what they are."""
        self._stop()
        self._raise()
        assert self._staged is not None
        return self._staged

    def close(self) -> None:
        """End without publishing what is not finished yet."""
        if self._staged is None:
            self._error = self._error or Refused("The writer was closed before it was finished.")
            self._stop()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        """Take batches until None comes; after an error take them still, so that no caller waits for room."""
        while (batch := self._queue.get()) is not None:
            if self._error is None:
                self._guard(lambda batch=batch: self._stage.take(batch))
        if self._error is None:
            self._guard(self._finish)
        if self._error is not None:
            self._stage.abandon(self._error)

    def _finish(self) -> None:
        self._staged = self._stage.finish()

    def _guard(self, step: Any) -> None:
        try:
            step()
        except BaseException as error:
            self._error = error


@dataclass(slots=True)
class _Partition:
    """One partition's file in the making."""

    record: Record
    file: ParquetFile | None = None
    writes: int = 0
    used_at: int = 0


class _Stage:
    """The thread's work: from batches to files."""

    def __init__(
        self, store: Store, metadata: TableMetadata, batch_id: int | None, target_bytes: int, completion: Completion
    ) -> None:
        self._completion = completion
        self._store = store
        self._schema = metadata.schema()
        self._spec = metadata.spec()
        self._uuid = metadata.table_uuid
        self._arrow = arrow_schema(self._schema)
        self._batch_id = batch_id
        self._batch_field = next((f.field_id for f in self._schema.fields if f.name == BATCH_ID), None)
        self._target = target_bytes
        self._folder = f"{metadata.location}/data"
        self._label = f"{'' if batch_id is None else f'b{batch_id}-'}{uuid.uuid4()}"
        self._split = _Splitter(self._schema, self._spec)
        self._sort = _sort_keys(metadata)
        self._order_id = metadata.default_sort_order_id
        self._max_rows, self._max_bytes = (
            (_SPLIT_ROWS, _SPLIT_BYTES) if self._spec.fields or self._sort else (_GROUP_ROWS, _GROUP_BYTES)
        )
        self._small: list[Any] = []
        self._small_rows = 0
        self._small_bytes = 0
        self._gathered: list[Any] = []
        self._rows = 0
        self._bytes = 0
        self._partitions: dict[tuple[Any, ...], _Partition] = {}
        self._files_opened = 0
        self._writes = 0
        self._staged: list[StagedFile] = []

    def take(self, batch: Any) -> None:
        """Gather the rows of a batch, and write what is enough."""
        for part in _table(batch).to_batches(max_chunksize=_SLICE_ROWS):
            if self._small and not part.schema.equals(self._small[0].schema):
                self._gather()
            self._small.append(part)
            self._small_rows += len(part)
            self._small_bytes += part.nbytes
            if self._small_rows >= _JOINED_ROWS or self._small_bytes >= _JOINED_BYTES:
                self._gather()

    def finish(self) -> tuple[StagedFile, ...]:
        """Write what is gathered and close the files. Those of one partition come in the order of their rows."""
        self._gather()
        self._write_gathered()
        for partition in self._partitions.values():
            self._close(partition)
        return tuple(self._staged)

    def abandon(self, error: BaseException) -> None:
        """Give up the files that are still open."""
        for partition in self._partitions.values():
            if partition.file is not None:
                partition.file.abandon(error)
                partition.file = None

    def _gather(self) -> None:
        """Conform what came in small batches."""
        if not self._small:
            return
        joined = self._small[0] if len(self._small) == 1 else pa.concat_batches(self._small)
        self._small, self._small_rows, self._small_bytes = [], 0, 0
        rows = conform(self._completion.of(joined, self._arrow), self._arrow, BY_NAME)
        self._gathered.append(rows)
        self._rows += len(rows)
        self._bytes += rows.nbytes
        if self._rows >= self._max_rows or self._bytes >= self._max_bytes:
            self._write_gathered()

    def _write_gathered(self) -> None:
        if not self._rows:
            return
        if self._spec.fields or self._sort:
            rows = pa.concat_batches(self._gathered)
            self._gathered = []
            for key, record, part in self._split(rows):
                self._write(self._partitions.setdefault(key, _Partition(record)), self._sorted(part))
        else:
            table = pa.Table.from_batches(self._gathered)
            self._write(self._partitions.setdefault((), _Partition(Record())), table)
        self._gathered, self._rows, self._bytes = [], 0, 0

    def _sorted(self, rows: Any) -> Any:
        if self._sort:
            columns = [rows.column(name) for name, _, _ in self._sort]
            plain = [c.storage if c.type == pa.uuid() else c for c in columns]  # Arrow sorts no extension type
            keys = pa.RecordBatch.from_arrays(plain, names=[name for name, _, _ in self._sort])
            rows = rows.take(pc.sort_indices(keys, sort_keys=self._sort))
        return pa.Table.from_batches([rows])

    def _write(self, partition: _Partition, table: Any) -> None:
        if partition.file is None:
            partition.file = self._open(table)
            partition.writes = 0
        partition.file.write(table, _GROUP_ROWS)
        partition.writes += 1
        self._writes += 1
        partition.used_at = self._writes
        if partition.file.bytes >= self._target:
            self._close(partition)

    def _open(self, first: Any) -> ParquetFile:
        open_files = [p for p in self._partitions.values() if p.file is not None]
        if len(open_files) >= _OPEN_FILES:
            self._close(max(open_files, key=lambda p: p.used_at))
        path = self._store.files.relative(f"{self._folder}/{self._label}-{self._files_opened:05d}.parquet")
        self._files_opened += 1
        return ParquetFile(self._store.files, path, self._arrow, first)

    def _close(self, partition: _Partition) -> None:
        if partition.file is None:
            return
        file, partition.file = partition.file, None
        told = marks(self._uuid, self._spec, self._schema, partition.record)
        if self._sort and partition.writes == 1:
            told["sort"] = self._order_id
        facts, size = file.close(told)
        self._check_batch(facts)
        address = self._store.files.url(file.path)
        self._store.keep_facts(address, facts)
        self._staged.append(StagedFile(address, facts.rows, size, self._batch_id))

    def _check_batch(self, facts: FileFacts) -> None:
        """A file that is marked as one batch's must hold no other's rows: reverts and re-runs remove whole files."""
        if self._batch_id is None or self._batch_field is None:
            return
        if facts.only_value(self._batch_field) != self._batch_id:
            raise Refused(f"Rows written for batch {self._batch_id} carry another {BATCH_ID}, or none.")


class _Splitter:
    """Cuts rows by partition; those of one partition keep their order."""

    def __init__(self, schema: IcebergSchema, spec: PartitionSpec) -> None:
        positions = {column.field_id: at for at, column in enumerate(schema.fields)}
        self._fields = [
            (f.transform, schema.find_field(f.source_id).field_type, positions[f.source_id]) for f in spec.fields
        ]

    def __call__(self, batch: Any) -> Iterator[tuple[tuple[Any, ...], Record, Any]]:
        """Give (key, partition values, rows) for each partition in the batch."""
        if not self._fields:
            yield (), Record(), batch
            return
        values = [transformed(t, kind, batch.column(at)) for t, kind, at in self._fields]
        codes = pa.repeat(pa.scalar(0, pa.int32()), len(batch))
        for column in values:
            encoded = column.dictionary_encode(null_encoding="encode")
            pairs = pc.add(pc.multiply(codes.cast(pa.int64()), len(encoded.dictionary)), encoded.indices)
            codes = pairs.dictionary_encode().indices
        order = pc.sort_indices(codes)
        start = 0
        for end in pc.run_end_encode(codes.take(order)).run_ends.to_pylist():
            rows = order.slice(start, end - start)
            record = [column[rows[0].as_py()].as_py() for column in values]
            key = tuple("NaN" if value != value else value for value in record)
            yield key, Record(*record), batch if len(rows) == len(batch) else batch.take(rows)
            start = end


def _table(batch: Any) -> Any:
    if isinstance(batch, pa.RecordBatch):
        return pa.Table.from_batches([batch])
    return batch if isinstance(batch, pa.Table) else pa.table(batch)


def _sort_keys(metadata: TableMetadata) -> list[tuple[str, str, str]]:
    """Arrow's sort keys for the table's order; none where another tool sorts by a transform."""
    names = {f.field_id: f.name for f in metadata.schema().fields}
    keys = []
    for item in metadata.sort_order().fields:
        if not isinstance(item.transform, IdentityTransform) or item.source_id not in names:
            return []
        direction = "ascending" if item.direction == SortDirection.ASC else "descending"
        placement = "at_start" if item.null_order.value == "nulls-first" else "at_end"
        keys.append((names[item.source_id], direction, placement))
    return keys
