"""Typed values from text, as `text` has them, where numbers have a decimal comma.

`1,5` is a number and `1.5` is none: it may be one and a half, or fifteen hundred without its end. Points that part
thousands are not read either. Times keep their points: 10:00:00.5.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow import text
from tidemill.model.types import DOUBLE, FLOAT, STRING, TIMESTAMP, TIMESTAMPTZ, Decimal, Type

#: Stands for a point, so that what has one is no number. No text of a file holds it.
_NO_POINT = "\0"


def parse(texts: pa.Array, kind: Type, *, lenient: bool = False) -> tuple[pa.Array, pa.Array | None]:
    """The values that texts stand for, and where one stands for none."""
    has_fractions = kind in (FLOAT, DOUBLE) or isinstance(kind, Decimal)
    return text.parse(_with_points(texts) if has_fractions else texts, kind, lenient=lenient)


def column_type(texts: pa.Array, *, numbers: bool) -> Type:
    """The narrowest type that holds all texts."""
    found = text.column_type(_with_points(texts), numbers=numbers)
    return _time_or(found, lambda: text.column_type(texts, numbers=numbers))


def type_beside(value: str, kind: Type) -> Type:
    """The type of a text that stands in a column of type `kind`."""
    found = text.type_beside(value.replace(".", _NO_POINT).replace(",", "."), kind)
    return _time_or(found, lambda: text.type_beside(value, kind))


def _time_or(found: Type, as_written: Callable[[], Type]) -> Type:
    """What was found, unless it is text only because of the points of times."""
    if found != STRING:
        return found
    written = as_written()
    return written if written in (TIMESTAMP, TIMESTAMPTZ) else STRING


def _with_points(texts: pa.Array) -> pa.Array:
    return pc.replace_substring(pc.replace_substring(texts, ".", _NO_POINT), ",", ".")
