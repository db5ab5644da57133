"""Port `message files` as Parquet: any engine reads what is archived of a topic, with a row group for each block.

partition int32, offset int64, timestamp timestamp(ms, UTC), key binary, value binary,
headers list<struct<name string, value binary>>
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.model.errors import DataError
from tidemill.ports.topic import Headers, Messages, Partition

#: A block holds at most so many messages, and about so many bytes: what a reader has in memory of a partition.
_ROWS = 20_000
_BYTES = 8 << 20

_HEADER = pa.struct([pa.field("name", pa.string(), nullable=False), pa.field("value", pa.binary())])
_SCHEMA = pa.schema([
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("timestamp", pa.timestamp("ms", tz="UTC")),
    pa.field("key", pa.binary()),
    pa.field("value", pa.binary()),
    pa.field("headers", pa.list_(_HEADER)),
])  # fmt: skip
#: Places of `partition` and `offset` among the file's columns.
_PARTITION, _OFFSET = 0, 1


class ParquetMessages:
    """Files of messages; see the module."""

    extension = ".parquet"

    def write(self, out: BinaryIO, stretches: Sequence[Messages]) -> int:
        """Write messages; returns how many."""
        count = 0
        with pq.ParquetWriter(_Through(out), _SCHEMA, compression="zstd", use_dictionary=["key"]) as writer:
            for block in _blocks(stretches):
                writer.write_table(block, row_group_size=block.num_rows)
                count += block.num_rows
        return count

    def read(self, stream: BinaryIO, partition: Partition, offset: int) -> Iterator[Messages]:
        """The messages of a partition from an offset on, a block at a time. Raises DataError."""
        try:
            file = pq.ParquetFile(stream)
            for group in range(file.num_row_groups):
                if _has(file.metadata.row_group(group), partition.number, offset):
                    found = _messages(file.read_row_group(group), partition, offset)
                    if len(found):
                        yield found
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"A file of {partition}'s messages cannot be read: {error}") from None


def blocks_of(stream: BinaryIO, topic: str) -> Iterator[Messages]:
    """All messages of such a file, a block at a time, each of one partition. Raises DataError."""
    try:
        file = pq.ParquetFile(stream)
        for group in range(file.num_row_groups):
            block = file.read_row_group(group)
            if block.num_rows:
                yield _messages(block, Partition(topic, block.column("partition")[0].as_py()), 0)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"A file of {topic}'s messages cannot be read: {error}") from None


class _Through(io.RawIOBase):
    """What Arrow takes for a file, over anything that can be written to; closing it leaves that open."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Write on."""
        return self._out.write(bytes(data))


def _blocks(stretches: Sequence[Messages]) -> Iterator[pa.Table]:
    """Stretches cut where a block is full, and joined where they are small: a block is of one partition."""
    waiting: list[pa.Table] = []
    rows, size, partition = 0, 0, None
    for stretch in stretches:
        if stretch.partition != partition and waiting:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, rows, size = [], 0, 0
        partition, start = stretch.partition, 0
        content = sum(map(len, filter(None, stretch.values))) + sum(map(len, filter(None, stretch.keys)))
        if rows + len(stretch) < _ROWS and size + content < _BYTES:  # most often; a look at each message takes longer
            waiting.append(_table(stretch, 0, len(stretch)))
            rows, size = rows + len(stretch), size + content
            continue
        for at, value in enumerate(stretch.values):
            size += len(value or b"") + len(stretch.keys[at] or b"")
            rows += 1
            if rows >= _ROWS or size >= _BYTES:
                yield pa.concat_tables([*waiting, _table(stretch, start, at + 1)]).combine_chunks()
                waiting, rows, size, start = [], 0, 0, at + 1
        if start < len(stretch):
            waiting.append(_table(stretch, start, len(stretch)))
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _table(messages: Messages, start: int, stop: int) -> pa.Table:
    part = slice(start, stop)
    stamps = [None if stamp == -1 else stamp for stamp in messages.timestamps[part]]
    headers = [None] * (stop - start) if messages.headers is None else [_listed(h) for h in messages.headers[part]]
    columns: list[Any] = [
        [messages.partition.number] * (stop - start), messages.offsets[part], stamps, messages.keys[part],
        messages.values[part], headers,
    ]  # fmt: skip
    made = []
    for values, field in zip(columns, _SCHEMA, strict=True):
        if field.name == "timestamp":
            made.append(pa.array(values, pa.int64()).cast(field.type))
        else:
            made.append(pa.array(values, field.type))
    return pa.Table.from_arrays(made, schema=_SCHEMA)


def _listed(headers: Headers) -> list[dict[str, Any]] | None:
    return [{"name": name, "value": value} for name, value in headers] or None


def _has(group: Any, number: int, offset: int) -> bool:
    """Whether a block may have messages of a partition from an offset on."""
    partitions, offsets = (group.column(place).statistics for place in (_PARTITION, _OFFSET))
    if partitions is None or offsets is None or not (partitions.has_min_max and offsets.has_min_max):
        return True
    return bool(partitions.min <= number <= partitions.max and offsets.max >= offset)


def _messages(table: pa.Table, partition: Partition, offset: int) -> Messages:
    rows = table.select(["offset", "timestamp", "key", "value", "headers"])
    offsets = rows.column("offset").to_pylist()
    skip = sum(one < offset for one in offsets)  # a block is of one partition, in order
    rows = rows.slice(skip)
    stamps = rows.column("timestamp").cast(pa.int64()).to_pylist()
    kept = rows.column("headers")
    headers: list[Headers] | None = None
    if kept.null_count < len(kept):
        headers = [[(h["name"], h["value"]) for h in one or ()] for one in kept.to_pylist()]
    return Messages(
        partition,
        offsets[skip:],
        [-1 if stamp is None else stamp for stamp in stamps],
        rows.column("key").to_pylist(),
        rows.column("value").to_pylist(),
        headers,
    )
