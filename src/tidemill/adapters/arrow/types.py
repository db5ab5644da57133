"""Column types between the model and Arrow: what a `Type` is in a record batch, and what a foreign batch's type means.

Field ids travel as Parquet expects them, in a field's metadata, so that a batch which came from a table keeps them.
"""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

from tidemill.model.table import Column, Schema
from tidemill.model.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    UUID,
    Decimal,
    List,
    Map,
    Primitive,
    Struct,
    Type,
)

#: Where Arrow and Parquet keep Iceberg's field id.
FIELD_ID = b"PARQUET:field_id"

_PRIMITIVES: dict[Primitive, pa.DataType] = {
    BOOLEAN: pa.bool_(),
    INT: pa.int32(),
    LONG: pa.int64(),
    FLOAT: pa.float32(),
    DOUBLE: pa.float64(),
    DATE: pa.date32(),
    TIME: pa.time64("us"),
    TIMESTAMP: pa.timestamp("us"),
    TIMESTAMPTZ: pa.timestamp("us", "UTC"),
    STRING: pa.string(),
    BINARY: pa.binary(),
    UUID: pa.uuid(),
    UNKNOWN: pa.null(),
}


@lru_cache(maxsize=4096)
def to_arrow_type(kind: Type) -> pa.DataType:
    """The Arrow type that holds values of `kind`; times in microseconds, `timestamptz` in UTC."""
    if isinstance(kind, Primitive):
        return _PRIMITIVES[kind]
    if isinstance(kind, Decimal):
        return pa.decimal128(kind.precision, kind.scale)
    if isinstance(kind, List):
        return pa.list_(pa.field("element", to_arrow_type(kind.element)))
    if isinstance(kind, Map):
        return pa.map_(to_arrow_type(kind.key), to_arrow_type(kind.value))
    return pa.struct([pa.field(name, to_arrow_type(part)) for name, part in kind.fields])


def to_arrow(schema: Schema) -> pa.Schema:
    """The Arrow schema of `schema`; columns that have a field id carry it in their metadata.

    Fields within structs and lists have no ids in the model, so they get none here.
    """
    return pa.schema([_to_field(column) for column in schema])


def _to_field(column: Column) -> pa.Field:
    metadata = None if column.field_id is None else {FIELD_ID: str(column.field_id).encode()}
    return pa.field(column.name, to_arrow_type(column.type), nullable=column.nullable, metadata=metadata)


def from_arrow_type(kind: pa.DataType) -> Type:
    """The narrowest `Type` that holds every value of the Arrow type `kind`.

    Unsigned 64-bit integers become decimal(20,0). What Iceberg has no type for (durations, unions, decimals beyond
    38 digits) becomes string.
    """
    kinds = pa.types
    if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind):
        return from_arrow_type(kind.value_type)
    if isinstance(kind, pa.UuidType):
        return UUID
    if isinstance(kind, pa.BaseExtensionType):
        return from_arrow_type(kind.storage_type)
    if kinds.is_decimal(kind):
        return _from_decimal(kind.precision, kind.scale)
    if kinds.is_timestamp(kind):
        return TIMESTAMP if kind.tz is None else TIMESTAMPTZ
    if kinds.is_map(kind):
        return Map(from_arrow_type(kind.key_type), from_arrow_type(kind.item_type))
    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return List(from_arrow_type(kind.value_type))
    if kinds.is_list_view(kind) or kinds.is_large_list_view(kind):
        return List(from_arrow_type(kind.value_type))
    if kinds.is_struct(kind):
        return Struct(tuple((field.name, from_arrow_type(field.type)) for field in kind))
    return next((ours for holds, ours in _SIMPLE if holds(kind)), STRING)


_SIMPLE = (
    (pa.types.is_null, UNKNOWN),
    (pa.types.is_boolean, BOOLEAN),
    (pa.types.is_int64, LONG),
    (pa.types.is_uint32, LONG),
    (pa.types.is_uint64, Decimal(20, 0)),
    (pa.types.is_integer, INT),
    (pa.types.is_float64, DOUBLE),
    (pa.types.is_floating, FLOAT),
    (pa.types.is_date, DATE),
    (pa.types.is_time, TIME),
    (pa.types.is_binary, BINARY),
    (pa.types.is_large_binary, BINARY),
    (pa.types.is_binary_view, BINARY),
    (pa.types.is_fixed_size_binary, BINARY),
)


def _from_decimal(precision: int, scale: int) -> Type:
    if scale < 0:
        precision, scale = precision - scale, 0
    precision = max(precision, scale)
    return Decimal(precision, scale) if precision <= 38 else STRING


def from_arrow(schema: pa.Schema) -> Schema:
    """The model's schema of an Arrow schema, with the field ids that its metadata carries."""
    return Schema(tuple(_from_field(field) for field in schema))


def _from_field(field: pa.Field) -> Column:
    stored = (field.metadata or {}).get(FIELD_ID)
    return Column(field.name, from_arrow_type(field.type), field.nullable, None if stored is None else int(stored))
