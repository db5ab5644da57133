"""Column types: Tidemill's and Polars', and which of Polars' a table can hold."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from tidemill.model.errors import DefinitionError
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
    parse_type,
)

_PRIMITIVES: dict[Primitive, pl.DataType] = {
    BOOLEAN: pl.Boolean(),
    INT: pl.Int32(),
    LONG: pl.Int64(),
    FLOAT: pl.Float32(),
    DOUBLE: pl.Float64(),
    DATE: pl.Date(),
    TIME: pl.Time(),
    TIMESTAMP: pl.Datetime("us"),
    TIMESTAMPTZ: pl.Datetime("us", "UTC"),
    STRING: pl.String(),
    BINARY: pl.Binary(),
    UUID: pl.Binary(),  # Polars has no such type; the 16 bytes pass through
    UNKNOWN: pl.Null(),
}
_TABLE_TYPES: dict[pl.DataType, Primitive] = {v: k for k, v in _PRIMITIVES.items() if k is not UUID}

#: What tables cannot hold, and the nearest that they can.
_NEAREST: dict[type[pl.DataType], pl.DataType] = {
    pl.Int8: pl.Int32(),
    pl.Int16: pl.Int32(),
    pl.UInt8: pl.Int32(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Int64(),
    pl.Int128: pl.Decimal(38, 0),
    pl.UInt128: pl.Decimal(38, 0),
    pl.Float16: pl.Float32(),
    pl.Categorical: pl.String(),
    pl.Enum: pl.String(),
}


def polars_type(kind: Type | str | Any) -> pl.DataType:
    """The Polars type of a table's type, of its text, or of a Polars or Python type."""
    if isinstance(kind, str):
        kind = parse_type(kind)
    match kind:
        case Primitive():
            return _PRIMITIVES[kind]
        case Decimal(precision, scale):
            return pl.Decimal(precision, scale)
        case List(element):
            return pl.List(polars_type(element))
        case Map(key, value):
            return pl.Map(polars_type(key), polars_type(value))
        case Struct(members):
            return pl.Struct({name: polars_type(member) for name, member in members})
        case pl.DataType():
            return kind
        case _ if isinstance(kind, type) and issubclass(kind, pl.DataType):
            return kind()
        case _:
            try:
                return _made(pl.DataType.from_python(kind))
            except TypeError:
                raise DefinitionError(
                    f"{kind!r} is no column type.", hint='"long", "string", "list<double>" or a Polars type'
                ) from None


def polars_schema(schema: Schema) -> pl.Schema:
    """Columns with the types by which Polars reads them."""
    return pl.Schema({column.name: polars_type(column.type) for column in schema})


def held_type(dtype: pl.DataType, column: str) -> pl.DataType:
    """The type in which a table holds values of `dtype`: itself, or the nearest wider one.

    Raises:
        DefinitionError: tables hold no such values (durations, Python objects).
    """
    if dtype in _TABLE_TYPES:
        return dtype
    nearest = _NEAREST.get(type(dtype))
    if nearest is not None:
        return nearest
    match dtype:
        case pl.Decimal():
            return pl.Decimal(dtype.precision or 38, dtype.scale)
        case pl.Datetime():
            return pl.Datetime("us", None if dtype.time_zone is None else "UTC")
        case pl.List() | pl.Array():
            return pl.List(held_type(_made(dtype.inner), column))
        case pl.Map():
            return pl.Map(held_type(_made(dtype.key), column), held_type(_made(dtype.value), column))
        case pl.Struct():
            return pl.Struct({f.name: held_type(_made(f.dtype), f"{column}.{f.name}") for f in dtype.fields})
        case pl.Duration():
            hint = f'f["{column}"] = f["{column}"].dt.total_seconds(fractional=True)'
        case _:
            hint = f'f.cast({{"{column}": "string"}}), or leave it out: f.drop("{column}")'
    raise DefinitionError(f'Column "{column}" is of type {dtype}, which a table cannot hold.', hint=hint)


def _made(dtype: Any) -> pl.DataType:
    """A type as a value: Polars lets users write `pl.List(pl.Int64)`, with a class inside."""
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def table_type(dtype: pl.DataType) -> Type:
    """The table's type for a Polars type that `held_type` gave."""
    match dtype:
        case pl.Decimal():
            return Decimal(dtype.precision or 38, dtype.scale)
        case pl.List():
            return List(table_type(_made(dtype.inner)))
        case pl.Map():
            return Map(table_type(_made(dtype.key)), table_type(_made(dtype.value)))
        case pl.Struct():
            return Struct(tuple((f.name, table_type(_made(f.dtype))) for f in dtype.fields))
        case _:
            return _TABLE_TYPES[dtype]


def table_schema(schema: pl.Schema) -> Schema:
    """The columns that a table would have for these."""
    return Schema(tuple(Column(name, table_type(held_type(dtype, name))) for name, dtype in schema.items()))


def arrow_schema(schema: pl.Schema) -> pa.Schema:
    """How Arrow sees columns of types that `held_type` gave. Times of day are cut to the microseconds tables know."""
    seen = pl.DataFrame(schema=schema).to_arrow().schema
    return pa.schema([field.with_type(_microseconds(field.type)) for field in seen])


def _microseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_microseconds(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(_microseconds(kind.key_type), kind.item_field.with_type(_microseconds(kind.item_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_microseconds(field.type)) for field in kind])
    return kind
