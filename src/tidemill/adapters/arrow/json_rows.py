"""Rows as JSON messages: by Polars in one go, and what it has no form for value by value.

Every value is written so that its column's type reads it back exactly: dates and times in ISO 8601 (`T` between, `Z`
for instants), decimals as text of all their digits (a reader that takes numbers for doubles cannot round them), bytes
in base64, uuids in their own form. Null is written as null. Not a number means "no value" here as in archives: null.
An infinite number has no form that JSON readers agree on: an error.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl

from tidemill.model.errors import DataError
from tidemill.model.table import Schema
from tidemill.model.types import UUID

#: Polars writes these as loads read them, nested too.
_SAME = (
    pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.String, pl.Date,
    pl.Decimal, pl.Null,
)  # fmt: skip
#: Years that four digits can say.
_FIRST, _LAST = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)
_JSON = msgspec.json.Encoder()

#: Makes a value into one that msgspec writes.
_Plain = Callable[[Any], Any]


class _Unwritable(Exception):
    """A value without a form in JSON."""


def encode_rows(rows: pl.DataFrame, declared: Schema) -> list[bytes | None]:
    """A JSON object for each row, with its columns in order.

    Args:
        rows: any columns that tables can hold.
        declared: of a column of bytes it says whether they are a uuid.

    Raises:
        DataError: an infinite number, a year that four digits cannot say, or a type that JSON has no form for.
    """
    if not rows.width:
        return [b"{}"] * rows.height
    uuids = {column.name for column in declared if column.type == UUID}
    _check(rows)
    # Written short, the largest floats lie beyond the type: 3.4028235e38.
    floats = [name for name, dtype in rows.schema.items() if dtype == pl.Float32]
    large = [name for name in floats if _any(pl.col(name).abs() > 3.4e38, rows)]
    rows = rows.with_columns(pl.col(large).cast(pl.Float64))
    exprs = [_written(name, dtype) for name, dtype in rows.schema.items() if name not in uuids or dtype != pl.Binary]
    if len(exprs) == rows.width and all(expr is not None for expr in exprs):
        text = rows.select(pl.struct([expr for expr in exprs if expr is not None]).struct.json_encode()).to_series()
        made: list[bytes | None] = text.cast(pl.Binary).to_list()
        return made
    return _encode_each(rows, uuids)


def _check(rows: pl.DataFrame) -> None:
    """Raise DataError for the first value that JSON has no form for; of all columns by one query."""
    bad: dict[str, tuple[pl.Expr, str]] = {}
    for name, dtype in rows.schema.items():
        if dtype.is_float():
            bad[name] = pl.col(name).is_infinite(), "is infinite, which JSON cannot say"
        elif isinstance(dtype, pl.Datetime | pl.Date):
            year = pl.col(name).dt.year()
            bad[name] = (year < 1) | (year > 9999), "lies beyond the years 1 to 9999"
    if not bad or not any(rows.select(wrong.any().alias(name) for name, (wrong, _) in bad.items()).row(0)):
        return
    for name, (wrong, why) in bad.items():
        places = rows.select(wrong.arg_true()).to_series()
        if len(places):
            row = int(places[0])
            raise DataError(f'Column "{name}", row {row}: {rows[name][row : row + 1].cast(pl.String)[0]} {why}.')


def _any(what: pl.Expr, rows: pl.DataFrame) -> bool:
    return bool(rows.select(what.any()).item())


def _written(name: str, dtype: pl.DataType) -> pl.Expr | None:
    """The column as Polars shall write it; None where it cannot."""
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            return column.dt.cast_time_unit("us").dt.to_string("%Y-%m-%dT%H:%M:%S%.f")
        return column.dt.cast_time_unit("us").dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")
    if isinstance(dtype, pl.Time):
        return (column.cast(pl.Int64) // 1000 * 1000).cast(pl.Time).dt.to_string("%H:%M:%S%.f")
    if isinstance(dtype, pl.Binary):
        return column.bin.encode("base64")
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    return column if dtype.is_float() or _same(dtype) else None


def _same(dtype: Any) -> bool:
    if isinstance(dtype, pl.List):
        return _same(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return len(dtype.fields) > 0 and all(_same(field.dtype) for field in dtype.fields)
    return isinstance(dtype, _SAME)


def _encode_each(rows: pl.DataFrame, uuids: set[str]) -> list[bytes | None]:
    columns = []
    for name, dtype in rows.schema.items():
        plain = _uuid_text if name in uuids else _plain(dtype, name)
        column = []
        for i, value in enumerate(_python_values(rows[name], dtype)):
            try:
                column.append(None if value is None else plain(value))
            except _Unwritable as error:
                raise DataError(f'Column "{name}", row {i}: {error}.') from None
        columns.append(column)
    return [_JSON.encode(dict(zip(rows.columns, row, strict=True))) for row in zip(*columns, strict=True)]


def _python_values(values: pl.Series, dtype: pl.DataType) -> list[Any]:
    """The values by Arrow, whose maps are pairs; times without their nanoseconds, which Python's have not."""
    if isinstance(dtype, pl.Datetime):
        values = values.dt.cast_time_unit("us")
    made: list[Any] = values.to_list() if not dtype.is_nested() else values.to_arrow().to_pylist()
    return made


def _plain(dtype: Any, name: str) -> _Plain:
    """What makes values of a type writable.

    Raises:
        DataError: there is no such thing.
    """
    if isinstance(dtype, pl.List | pl.Array):
        inner = _nullable(_plain(dtype.inner, name))
        return lambda values: [inner(value) for value in values]
    if isinstance(dtype, pl.Struct):
        fields = {field.name: _nullable(_plain(field.dtype, name)) for field in dtype.fields}
        return lambda value: {key: make(value[key]) for key, make in fields.items()}
    if isinstance(dtype, pl.Map):
        make = _nullable(_plain(dtype.value, name))
        return lambda pairs: {str(key): make(value) for key, value in pairs}
    if dtype.is_float():
        return _number
    if isinstance(dtype, pl.Datetime):
        return _moment
    if isinstance(dtype, pl.Date | pl.Time):
        return lambda value: value.isoformat()
    if isinstance(dtype, pl.Decimal):
        return lambda value: format(value, "f")
    if isinstance(dtype, pl.Binary):
        return lambda value: base64.b64encode(value).decode()
    if dtype.is_integer() or isinstance(dtype, pl.Boolean | pl.String | pl.Categorical | pl.Enum | pl.Null):
        return lambda value: value
    raise DataError(f'Column "{name}" is of type {dtype}, which has no form in JSON.', hint="cast it to string")


def _nullable(make: _Plain) -> _Plain:
    return lambda value: None if value is None else make(value)


def _number(value: float) -> float | None:
    if math.isinf(value):
        raise _Unwritable(f"{value} is infinite, which JSON cannot say")
    return value


def _moment(value: dt.datetime) -> str:
    return value.isoformat() if value.tzinfo is None else value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _uuid_text(value: bytes) -> str:
    if len(value) != 16:
        raise _Unwritable(f"{len(value)} bytes are no uuid, which has 16")
    return str(uuid.UUID(bytes=value))
