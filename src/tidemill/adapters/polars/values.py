"""Which type a column of Python values has, and whether values are of a type. Nothing is converted silently.

Polars' own conversion from Python rounds decimals, drops fields of structs and takes 1.5 into an integer field of a
struct, so values are judged here and Polars only stores them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import polars as pl

_INT64 = range(-(2**63), 2**63)
_INT128 = range(-(2**127), 2**127)

#: Plain kinds: what a value must be an instance of, and the type of a column of them.
_PLAIN: tuple[tuple[type, pl.DataType], ...] = (
    (bool, pl.Boolean()),
    (float, pl.Float64()),
    (str, pl.String()),
    (bytes, pl.Binary()),
    (time, pl.Time()),
    (timedelta, pl.Duration("us")),
)


class NoType(Exception):
    """Values that no type holds; says which kinds there are."""


def plain(values: list[Any]) -> tuple[list[Any], set[type]]:
    """The values with numpy's scalars and arrays as Python's, and their kinds."""
    kinds = kinds_of(values)
    if any(kind.__module__ == "numpy" for kind in kinds):
        values = [v.tolist() if type(v).__module__ == "numpy" else v for v in values]
        kinds = kinds_of(values)
    return values, kinds


def infer(values: Sequence[Any], kinds: set[type] | None = None) -> pl.DataType:
    """The type of a column of these values; Null where all of them are None.

    Args:
        values: as `plain` gives them.
        kinds: those of the values, where they are known.

    Raises:
        NoType: they are of several types, or of one that no column holds.
    """
    kinds = kinds_of(values) if kinds is None else kinds
    if not kinds:
        return pl.Null()
    for plain_kind, dtype in _PLAIN:
        if _all(kinds, plain_kind):
            return dtype
    if _all(kinds, int):
        return _integer(values)
    if _all(kinds, int, float):
        if not _are_floats(kinds, values):
            raise NoType("float, and int that no float equals")
        return pl.Float64()
    if _all(kinds, int, Decimal):
        return pl.Decimal(38, max((_scale(v) for v in values if isinstance(v, Decimal)), default=0))
    if _all(kinds, datetime):
        return _timestamp(values)
    if _all(kinds, date) and not any(issubclass(kind, datetime) for kind in kinds):
        return pl.Date()
    if _all(kinds, list, tuple):
        return pl.List(infer(list(chain.from_iterable(v for v in values if v is not None))))
    if _all(kinds, Mapping):
        names = dict.fromkeys(name for v in values if v is not None for name in v)
        return pl.Struct({name: infer([None if v is None else v.get(name) for v in values]) for name in names})
    raise NoType(", ".join(sorted(kind.__name__ for kind in kinds)))


def fits(values: Sequence[Any], dtype: Any, kinds: set[type] | None = None) -> bool:
    """True where every value is of `dtype` as it is, an integer where a float or decimal is asked for included.

    Args:
        values: as `plain` gives them.
        dtype: the type.
        kinds: those of the values, where they are known.
    """
    kinds = kinds_of(values) if kinds is None else kinds
    if not kinds:
        return True
    for plain_kind, plain_type in _PLAIN:
        if type(dtype) is type(plain_type) and not dtype.is_float():
            return _all(kinds, plain_kind)
    if dtype.is_float():
        return _all(kinds, int, float) and _are_floats(kinds, values)
    if dtype.is_integer():
        return _all(kinds, int)  # the range is for Polars to refuse
    match dtype:
        case pl.Decimal():
            return _all(kinds, int, Decimal) and all(_scale(v) <= dtype.scale for v in values if isinstance(v, Decimal))
        case pl.Datetime():
            return _all(kinds, datetime) and all((v.tzinfo is None) == (dtype.time_zone is None) for v in values if v)
        case pl.Date():
            return _all(kinds, date) and not any(issubclass(kind, datetime) for kind in kinds)
        case pl.Categorical() | pl.Enum():
            return _all(kinds, str)
        case pl.List() | pl.Array():
            return _all(kinds, list, tuple) and fits(_inside(values, iter), dtype.inner)
        case pl.Map():
            return (
                _all(kinds, Mapping)
                and fits(_inside(values, lambda v: v.keys()), dtype.key)
                and fits(_inside(values, lambda v: v.values()), dtype.value)
            )
        case pl.Struct():
            members = {f.name: f.dtype for f in dtype.fields}
            return (
                _all(kinds, Mapping)
                and all(v.keys() <= members.keys() for v in values if v is not None)
                and all(fits([None if v is None else v.get(n) for v in values], t) for n, t in members.items())
            )
        case _:
            return False


def kinds_of(values: Sequence[Any]) -> set[type]:
    """The types of values other than None; it takes longer than all else that is asked of a column."""
    return set(map(type, values)) - {type(None)}


def _all(kinds: set[type], *wanted: type) -> bool:
    """True where all kinds are among `wanted`. A bool is an int to Python and none here."""
    allowed = bool in wanted
    return all(issubclass(kind, wanted) and (allowed or kind is not bool) for kind in kinds)


def _are_floats(kinds: set[type], values: Sequence[Any]) -> bool:
    return _all(kinds, float) or all(map(_is_float, values))


def _is_float(value: object) -> bool:
    """True unless `value` is an integer that a float cannot hold exactly."""
    if not isinstance(value, int) or -(2**53) <= value <= 2**53:
        return True
    try:
        return float(value) == value
    except OverflowError:
        return False


def _integer(values: Sequence[Any]) -> pl.DataType:
    numbers = [v for v in values if v is not None]
    least, greatest = min(numbers), max(numbers)
    if least in _INT64 and greatest in _INT64:
        return pl.Int64()
    if least in _INT128 and greatest in _INT128:
        return pl.Int128()
    raise NoType("int beyond 128 bits")


def _timestamp(values: Sequence[Any]) -> pl.DataType:
    aware = {v.tzinfo is not None for v in values if v is not None}
    if len(aware) > 1:
        raise NoType("datetime with a zone, datetime without")
    return pl.Datetime("us", "UTC" if aware.pop() else None)


def _scale(value: Decimal) -> int:
    """Digits after the point; NaN and infinity have more than any type allows."""
    exponent = value.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 99


def _inside(values: Sequence[Any], parts: Callable[[Any], Any]) -> list[Any]:
    return [part for v in values if v is not None for part in parts(v)]
