"""What a Parquet footer tells about a data file, and the manifest entry that Iceberg makes of it.

A staged file describes itself: field ids, statistics and, under the key `tidemill`, its partition. So files can
be staged by one process and committed by another, with nothing passed between them but their paths.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.schema import index_by_id
from pyiceberg.typedef import Record
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    PrimitiveType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)
from pyiceberg.utils.decimal import decimal_to_bytes, unscaled_to_decimal

from tidemill.adapters.iceberg.arrow import field_id

#: Where a footer keeps what Iceberg wants to know of a file beyond its columns.
MARKS = b"tidemill"
#: Lengths to which bounds of strings and bytes are cut, as Iceberg's default metrics mode does.
_BOUND_LENGTH = 16
#: Iceberg's `write.metadata.metrics.max-inferred-column-defaults`: with 10,000 columns the statistics of one
#: file would take 1 MB in every manifest. Columns that pruning needs are named besides.
_MAX_MEASURED = 100
_MAX_CODE_POINT = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)

_FORMATS = {
    IntegerType: "<i",
    DateType: "<i",
    LongType: "<q",
    TimeType: "<q",
    TimestampType: "<q",
    TimestamptzType: "<q",
    FloatType: "<f",
    DoubleType: "<d",
    BooleanType: "<?",
}


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column of a file: bytes, values (nulls included), and bounds in Parquet's plain representation."""

    field_id: int
    bytes: int
    values: int
    nulls: int | None
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One data file, as its footer tells."""

    rows: int
    columns: tuple[ColumnFacts, ...]
    row_groups: tuple[int, ...]
    marks: dict[str, Any]

    def only_value(self, wanted: int) -> int | None:
        """The one integer that column `wanted` holds in every row, where the statistics prove it."""
        for column in self.columns:
            if column.field_id == wanted and column.nulls == 0 and column.low == column.high:
                return column.low if isinstance(column.low, int) else None
        return None


def marks(table: object, spec: PartitionSpec, schema: IcebergSchema, partition: Record) -> dict[str, Any]:
    """What a file's footer says: its table, its partition's spec, and the partition's values as hexadecimal."""
    fields = spec.partition_type(schema).fields
    values = [partition[i] for i in range(len(fields))]
    texts = [None if v is None else to_bytes(_primitive(f), v).hex() for f, v in zip(fields, values, strict=True)]
    return {"table": str(table), "spec": spec.spec_id, "partition": texts}


def read_facts(metadata: Any) -> FileFacts:
    """The facts of a `pyarrow.parquet.FileMetaData`."""
    leaves = list(_leaves(metadata.schema.to_arrow_schema()))
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    columns = [
        _column_facts(leaf, repeated, kind, [group.column(i) for group in groups])
        for i, (leaf, repeated, kind) in enumerate(leaves)
        if leaf is not None
    ]
    starts = [_start(group.column(0)) for group in groups if group.num_columns]
    found = (metadata.metadata or {}).get(MARKS)
    return FileFacts(metadata.num_rows, tuple(columns), tuple(sorted(starts)), json.loads(found) if found else {})


def measured_types(schema: IcebergSchema, always: Iterable[int]) -> dict[int, PrimitiveType]:
    """Types of the columns whose statistics go into manifests: the first hundred, and `always`."""
    kinds = {i: f.field_type for i, f in index_by_id(schema).items() if isinstance(f.field_type, PrimitiveType)}
    keep = {*sorted(kinds)[:_MAX_MEASURED], *always}
    return {i: kind for i, kind in kinds.items() if i in keep}


def data_file(
    facts: FileFacts,
    address: str,
    size: int,
    *,
    kinds: Mapping[int, PrimitiveType],
    schema: IcebergSchema,
    spec: PartitionSpec,
) -> DataFile:
    """The manifest entry of a file, with statistics of the columns in `kinds`."""
    columns = [c for c in facts.columns if c.field_id in kinds]
    bounded = [c for c in columns if c.low is not None]
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=address,
        file_format=FileFormat.PARQUET,
        partition=_partition(facts, schema, spec),
        record_count=facts.rows,
        file_size_in_bytes=size,
        column_sizes={c.field_id: c.bytes for c in columns},
        value_counts={c.field_id: c.values for c in columns},
        null_value_counts={c.field_id: c.nulls for c in columns if c.nulls is not None},
        nan_value_counts={},
        lower_bounds={c.field_id: _lower_bound(kinds[c.field_id], c.low) for c in bounded},
        upper_bounds={c.field_id: b for c in bounded if (b := _upper_bound(kinds[c.field_id], c.high)) is not None},
        split_offsets=list(facts.row_groups),
        equality_ids=None,
        sort_order_id=facts.marks.get("sort"),
    )
    file.spec_id = spec.spec_id
    return file


def _partition(facts: FileFacts, schema: IcebergSchema, spec: PartitionSpec) -> Record:
    fields = spec.partition_type(schema).fields
    texts = facts.marks.get("partition", [])
    values = [
        None if t is None else from_bytes(_primitive(f), bytes.fromhex(t)) for f, t in zip(fields, texts, strict=True)
    ]
    return Record(*values)


def _primitive(field: Any) -> PrimitiveType:
    assert isinstance(field.field_type, PrimitiveType), "partition values are primitive"
    return field.field_type


def _leaves(fields: Iterable[Any], *, repeated: bool = False) -> Iterator[tuple[int | None, bool, Any]]:
    """Field id, "below a list or map", and type of each Parquet column, in the file's order."""
    for field in fields:
        kind = field.type
        if pa.types.is_struct(kind):
            yield from _leaves(kind, repeated=repeated)
        elif pa.types.is_map(kind):
            yield from _leaves((kind.key_field, kind.item_field), repeated=True)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            yield from _leaves((kind.value_field,), repeated=True)
        else:
            yield field_id(field), repeated, kind


def _column_facts(leaf: int, repeated: bool, kind: Any, chunks: list[Any]) -> ColumnFacts:
    statistics = [chunk.statistics for chunk in chunks if chunk.is_stats_set]
    size = sum(chunk.total_compressed_size for chunk in chunks)
    values = sum(chunk.num_values for chunk in chunks)
    complete = len(statistics) == len(chunks) and all(s.has_null_count for s in statistics)
    nulls = sum(s.null_count for s in statistics) if complete else None
    # A chunk of nulls has no bounds and needs none; one of NaNs has none either, and then nothing can be said.
    bounded = [s for s in statistics if s.has_min_max]
    if repeated or not complete or len(bounded) + sum(s.num_values == 0 for s in statistics) < len(chunks):
        return ColumnFacts(leaf, size, values, nulls, None, None)
    low = min((_plain(kind, s.min_raw) for s in bounded), default=None)
    high = max((_plain(kind, s.max_raw) for s in bounded), default=None)
    return ColumnFacts(leaf, size, values, nulls, low, high)


def _plain(kind: Any, raw: Any) -> Any:
    if pa.types.is_decimal(kind) and isinstance(raw, bytes):
        return int.from_bytes(raw, "big", signed=True)
    return raw


def _start(chunk: Any) -> int:
    if chunk.has_dictionary_page and chunk.dictionary_page_offset < chunk.data_page_offset:
        return int(chunk.dictionary_page_offset)
    return int(chunk.data_page_offset)


def _lower_bound(kind: PrimitiveType, low: Any) -> bytes:
    match kind:
        case StringType():
            return _text(low)[:_BOUND_LENGTH].encode()
        case BinaryType():
            return bytes(low[:_BOUND_LENGTH])
    return _bound(kind, low)


def _upper_bound(kind: PrimitiveType, high: Any) -> bytes | None:
    """The upper bound; a cut one is raised to the next value of that length, None where there is none."""
    match kind:
        case StringType():
            text = _text(high)
            return text.encode() if len(text) <= _BOUND_LENGTH else _next_text(text[:_BOUND_LENGTH])
        case BinaryType():
            return high if len(high) <= _BOUND_LENGTH else _next_bytes(high[:_BOUND_LENGTH])
    return _bound(kind, high)


def _bound(kind: PrimitiveType, value: Any) -> bytes:
    if isinstance(kind, DecimalType):
        return decimal_to_bytes(unscaled_to_decimal(value, kind.scale))
    form = _FORMATS.get(type(kind))
    return struct.pack(form, value) if form else bytes(value)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _next_text(text: str) -> bytes | None:
    for at in range(len(text) - 1, -1, -1):
        following = ord(text[at]) + 1
        following = _SURROGATES.stop if following in _SURROGATES else following
        if following <= _MAX_CODE_POINT:
            return (text[:at] + chr(following)).encode()
    return None


def _next_bytes(value: bytes) -> bytes | None:
    for at in range(len(value) - 1, -1, -1):
        if value[at] < 0xFF:
            return value[:at] + bytes([value[at] + 1])
    return None
