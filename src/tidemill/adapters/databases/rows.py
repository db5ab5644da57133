"""Python rows as Arrow batches, for databases whose drivers give rows: by the columns' types, or by the values'."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa

from tidemill.adapters.databases.database import Column, told
from tidemill.model.errors import DataError

#: Rows of a batch.
ROWS = 20_000
_DAY = timedelta(days=1)


def batch_of(rows: Sequence[Sequence[Any]], columns: Sequence[Column]) -> pa.RecordBatch:
    """Rows as a batch.

    Raises:
        DataError: a value is none of its column's type; the message names both.
    """
    arrays = [array_of(values, column) for values, column in zip(zip(*rows, strict=True), columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def array_of(values: Sequence[Any], column: Column) -> Any:
    """One column's values."""
    kind = column.kind or kind_of(values)
    try:
        return pa.array(_plain(values, kind), kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError) as error:
        odd = next((value for value in values if not _fits(value, kind)), None)
        shown = repr(odd)[:60] if odd is not None else told(error)
        raise DataError(
            f'Column "{column.name}" is declared as {column.declared or kind}, and a row has {shown} in it.',
            hint=f'read it as text by a query: query="select cast({column.name} as ...) as {column.name} ..."',
        ) from None


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        pa.array(_plain([value], kind), kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
        return False
    return True


def _plain(values: Sequence[Any], kind: pa.DataType) -> Iterable[Any]:
    """Values that Arrow takes for the type, where those of drivers differ."""
    types = pa.types
    if types.is_string(kind):
        return [value if value is None or isinstance(value, str) else _text(value) for value in values]
    if types.is_decimal(kind):
        return [value if value is None else _decimal(value, kind.scale) for value in values]
    if types.is_boolean(kind):
        return [value if value is None or isinstance(value, bool) else _boolean(value) for value in values]
    if types.is_time(kind):
        return [_time(value) for value in values]
    if types.is_timestamp(kind) and kind.tz is not None:
        return [value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC) for value in values]
    if isinstance(kind, pa.UuidType):
        return [value if value is None else _uuid(value) for value in values]
    return values


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes, and no text")
    if isinstance(value, set | frozenset):
        return ",".join(sorted(map(str, value)))
    return str(value)


def _decimal(value: Any, scale: int) -> Decimal:
    """Exactly this number: what has more digits behind the point than the type is refused by Arrow."""
    found = value if isinstance(value, Decimal) else Decimal(repr(value) if isinstance(value, float) else value)
    # Arrow refuses 1.50 for a scale of 1, though nothing would be lost.
    exponent = found.as_tuple().exponent
    return found.normalize() if isinstance(exponent, int) and -exponent > scale else found


def _boolean(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError(f"{value!r} is neither true nor false")


def _time(value: Any) -> Any:
    """MySQL's times are spans, of which those within a day are times."""
    if not isinstance(value, timedelta):
        return value
    if not timedelta() <= value < _DAY:
        raise ValueError(f"{value} is no time of a day")
    return (datetime.min + value).time()


def _uuid(value: Any) -> bytes:
    return (value if isinstance(value, UUID) else UUID(str(value))).bytes


def kind_of(values: Sequence[Any]) -> pa.DataType:
    """The narrowest of our types that holds values, where nothing says which it is; text for what is mixed."""
    found = [value for value in values if value is not None]
    if not found:
        return pa.null()
    kinds = {type(value) for value in found}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        fits = min(found) >= -(2**63) and max(found) < 2**63
        return pa.int64() if fits else pa.decimal128(38, 0)
    if kinds <= {int, float}:
        return pa.float64()
    if kinds <= {int, Decimal}:
        return _decimals([Decimal(value) for value in found])
    if kinds == {datetime}:
        return pa.timestamp("us", None if found[0].tzinfo is None else "UTC")
    if kinds == {date}:
        return pa.date32()
    if kinds <= {time, timedelta}:
        return pa.time64("us")
    if kinds <= {bytes, bytearray, memoryview}:
        return pa.binary()
    return pa.uuid() if kinds == {UUID} else pa.string()


def _decimals(found: Sequence[Decimal]) -> pa.DataType:
    before = scale = 0
    for value in found:
        sign_digits_exponent = value.as_tuple()
        exponent = sign_digits_exponent.exponent
        if not isinstance(exponent, int):
            return pa.string()
        scale = max(scale, -exponent)
        before = max(before, len(sign_digits_exponent.digits) + exponent)
    digits = max(before + scale, 1)
    return pa.decimal128(digits, scale) if digits <= 38 else pa.string()


def batches(cursor: Any, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
    """What a cursor of Python's DB-API still has."""
    while rows := cursor.fetchmany(ROWS):
        yield batch_of(rows, columns)
