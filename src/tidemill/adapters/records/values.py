"""The values of a record, as a source yields them, made into the plain ones that JSON Lines and Avro can hold.

What other libraries mean by "no value" (NaN, pandas' NaT and NA) is None: data frames fill gaps with it, in columns
of text too. Their scalars and arrays become Python's. Nothing is rounded.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

#: Types whose every value stays as it is; a float does where it is finite.
_PLAIN = frozenset({str, int, bool, type(None), bytes, dt.date, dt.timedelta, UUID})
_BUILTINS: tuple[type[Any], ...] = (int, float, Decimal, str, bytes)
_MISSING = ("NaTType", "NAType")
_MINUTE = dt.timedelta(minutes=1)


def plain_row(row: Any, *, infinity: type[float] | type[Decimal] = float) -> Mapping[Any, Any]:
    """A record with plain values, itself where it has them already; its keys are untouched, in their order.

    Args:
        row: the mapping.
        infinity: the type that infinite floats get.

    Raises:
        TypeError: it is no mapping, or holds a set that cannot be ordered.
    """
    if type(row) is dict:
        if _is_plain(row):
            return row
    elif not isinstance(row, Mapping):
        raise TypeError(f"it is a {type(row).__name__}, not a mapping")
    return {key: plain(value, infinity) for key, value in row.items()}


def _is_plain(row: dict[Any, Any]) -> bool:
    """True where no value needs a change: found in as long as msgspec takes to encode the record (0.4 us)."""
    for value in row.values():
        kind = type(value)
        if kind in _PLAIN or (kind is dt.datetime and value.tzinfo is None):
            continue
        # 0 for a finite float, NaN for the others.
        if kind is not float or value - value != 0.0:
            return False
    return True


def plain(value: Any, infinity: type[float] | type[Decimal] = float) -> Any:
    """One value: None, bool, int, float, Decimal, str, bytes, a date, time, timedelta, UUID, list or dict.

    A value of any other type is returned as it is: whoever writes it refuses it by name.
    """
    # The exact types of Python first: `isinstance` of a Mapping alone takes as long as msgspec does for a record.
    kind = type(value)
    if kind in _PLAIN or (kind is dt.datetime and (value.tzinfo is None or value.tzinfo is dt.UTC)):
        return value
    if kind is float:
        return value if value - value == 0.0 else None if value != value else infinity(value)
    if kind is Decimal:
        return None if value.is_nan() else value
    if kind is list or kind is tuple:
        return [plain(each, infinity) for each in value]
    if kind is dt.datetime or kind is dt.time:
        return _of_time(value)
    if kind is dict or isinstance(value, Mapping):
        return {key: plain(each, infinity) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(each, infinity) for each in _ordered(value)]
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Enum):
        return plain(value.value, infinity)
    if kind.__name__ in _MISSING:
        return None
    if hasattr(value, "tolist"):
        return _of_numpy(value, infinity)
    if isinstance(value, dt.date | dt.time):
        return _of_time(value)
    for builtin in _BUILTINS:
        if isinstance(value, builtin):
            return plain(builtin(value), infinity)
    return value


def _ordered(values: set[Any] | frozenset[Any]) -> list[Any]:
    """A set in an order that does not change from run to run, so that the same records give the same bytes."""
    return sorted(values, key=lambda each: (type(each).__name__, each))


def _of_numpy(value: Any, infinity: type[float] | type[Decimal]) -> Any:
    """A NumPy scalar or array; nanoseconds that Python's times lack become text."""
    found = value.tolist()
    if getattr(getattr(value, "dtype", None), "kind", "") not in ("M", "m"):
        return plain(found, infinity)
    if isinstance(found, list):
        return [_of_numpy(each, infinity) for each in value]
    if not isinstance(found, int):
        return found
    exact = value.astype(value.dtype.str[1:2] + "8[us]")
    return exact.tolist() if exact == value and not isinstance(exact.tolist(), int) else str(value)


def _of_time(value: dt.date | dt.time) -> Any:
    """A date, time or datetime of Python's own type, or text where that cannot hold it."""
    if isinstance(value, dt.time):
        return value.isoformat() if type(value) is not dt.time or _has_seconds(value.utcoffset()) else value
    if not isinstance(value, dt.datetime):
        return dt.date(value.year, value.month, value.day)
    if getattr(value, "nanosecond", 0):
        return value.isoformat()  # pandas; Python's times end at microseconds
    if type(value) is not dt.datetime:
        value = dt.datetime.combine(value.date(), value.timetz())
    # Offsets of before 1900 have seconds, which RFC 3339 cannot say; the instant is kept.
    return value.astimezone(dt.UTC) if _has_seconds(value.utcoffset()) else value


def _has_seconds(offset: dt.timedelta | None) -> bool:
    return offset is not None and bool(offset % _MINUTE)
