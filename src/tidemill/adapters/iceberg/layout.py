"""How a table's files are laid out: partition transforms and sort columns, Tidemill's to Iceberg's and back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import IdentityTransform, Transform, parse_transform
from pyiceberg.types import NestedField

from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.table import Partition, TableName

#: Ends of partition field names, as Iceberg's Spark integration writes them: `time_hour_day`.
_SUFFIXES = {"identity": "", "truncate": "_trunc"}


def partition_spec(name: TableName, schema: IcebergSchema, partitions: Iterable[Partition]) -> PartitionSpec:
    """The Iceberg partition spec of declared transforms.

    Raises:
        UnknownName: a transform names no column.
        DefinitionError: a transform does not fit its column's type.
    """
    taken = {f.name for f in schema.fields}
    fields = []
    for number, partition in enumerate(partitions):
        source = _column(name, schema, partition.column)
        transform = _transform(partition)
        if not source.field_type.is_primitive or not transform.can_transform(source.field_type):
            raise DefinitionError(
                f'Table "{name}" cannot be partitioned by {partition}: the column is {source.field_type}.',
                hint="year, month, day, hour fit dates and times; truncate fits numbers and strings",
            )
        label = partition.column + _SUFFIXES.get(partition.transform, f"_{partition.transform}")
        while label in taken and partition.transform != "identity":
            label += "_"
        taken.add(label)
        fields.append(PartitionField(source.field_id, PARTITION_FIELD_ID_START + number, transform, label))
    return PartitionSpec(*fields)


def sort_order(name: TableName, schema: IcebergSchema, columns: Iterable[str]) -> SortOrder:
    """The Iceberg sort order of declared columns: ascending, nulls first.

    Raises:
        UnknownName: a name is no column.
        DefinitionError: a column is nested.
    """
    fields = []
    for column in columns:
        source = _column(name, schema, column)
        if not source.field_type.is_primitive:
            raise DefinitionError(f'Table "{name}" cannot be sorted by "{column}": the column is {source.field_type}.')
        fields.append(SortField(source.field_id, IdentityTransform(), SortDirection.ASC, NullOrder.NULLS_FIRST))
    return SortOrder(*fields) if fields else UNSORTED_SORT_ORDER


def partition_text(schema: IcebergSchema, spec: PartitionSpec) -> tuple[str, ...]:
    """The transforms of a spec as they are declared: `day(time_hour)`, `bucket(16, id)`, `country`."""
    texts = []
    for field in spec.fields:
        transform, _, parameter = str(field.transform).partition("[")
        column = schema.find_column_name(field.source_id) or f"#{field.source_id}"
        texts.append(str(Partition(transform, column, int(parameter.rstrip("]")) if parameter else None)))
    return tuple(texts)


def sort_text(schema: IcebergSchema, order: SortOrder) -> tuple[str, ...]:
    """The sort columns as they are declared; a direction or transform that another tool gave is added."""
    texts = []
    for field in order.fields:
        column = schema.find_column_name(field.source_id) or f"#{field.source_id}"
        text = column if isinstance(field.transform, IdentityTransform) else f"{field.transform}({column})"
        texts.append(text if field.direction == SortDirection.ASC else f"{text} desc")
    return tuple(texts)


def used_columns(schema: IcebergSchema, specs: Iterable[PartitionSpec], order: SortOrder) -> set[str]:
    """Columns that partitions or the sort order need: they cannot be dropped."""
    sources = {f.source_id for spec in specs for f in spec.fields} | {f.source_id for f in order.fields}
    return {f.name for f in schema.fields if f.field_id in sources}


def _column(name: TableName, schema: IcebergSchema, column: str) -> NestedField:
    for field in schema.fields:
        if field.name == column:
            return field
    raise UnknownName.of("column", column, (f.name for f in schema.fields), where=f"table {name}")


def _transform(partition: Partition) -> Transform[object, object]:
    parameter = f"[{partition.parameter}]" if partition.parameter is not None else ""
    if not re.fullmatch("identity|year|month|day|hour|bucket|truncate", partition.transform):
        raise DefinitionError(f'"{partition.transform}" is no partition transform.')
    return parse_transform(partition.transform + parameter)
