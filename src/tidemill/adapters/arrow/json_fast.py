"""JSON messages with flat columns by msgspec: some three times as fast as Arrow's reader, and for few messages ten.

msgspec is not as strict as loads are, so its result counts only where it is certain to be theirs, which a few counts
over the bytes show; where it is not, `read` gives None and the messages are decoded the exact way. It parses by the
same grammar as the exact path, but for four things: it takes the last of equal keys, it does not look at the encoding
of what it skips, it rounds long integers into doubles, and -0 becomes 0 there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.decoded import as_value, batch_of, is_utf8
from tidemill.adapters.arrow.shape import carrier, convert
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
    UUID,
    Type,
)

#: Keys that JSON text can spell in two ways only: as they are, or with `\\u`, which sends a batch the exact way.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.: -]*")
#: Nesting is bounded where no message can have more brackets; Python's stack and the options allow more.
_BRACKETS = 60
#: Longer messages are rare, and the limits of fields are not for here; nor are so many bytes in all.
_LONGEST, _MOST = 1 << 20, 64 << 20
#: To begin with a pattern takes Polars some 80 us.
_MUCH = 1 << 18

_CARRIED: dict[Type, type] = {BOOLEAN: bool, INT: int, LONG: int, FLOAT: float, DOUBLE: float}
_AS_TEXT = (STRING, DATE, TIME, TIMESTAMP, TIMESTAMPTZ, UUID, BINARY)


class FastReader:
    """Reads messages into the columns of a schema.

    Args:
        schema: flat columns, see `suits`.
        closed: fields beyond the columns are not for here.
    """

    def __init__(self, schema: Schema, *, closed: bool) -> None:
        self._schema = schema
        fields: list[Any] = []
        for i, column in enumerate(schema):
            python = _CARRIED.get(column.type, str)
            fields.append((f"f{i}", python | None | msgspec.UnsetType, msgspec.UNSET))
        row = msgspec.defstruct(
            "Row",
            fields,
            gc=False,
            forbid_unknown_fields=closed,
            rename={f"f{i}": column.name for i, column in enumerate(schema)},
        )
        self._decode = msgspec.json.Decoder(row).decode
        self._columns = [(column, attrgetter(f"f{i}")) for i, column in enumerate(schema)]

    @staticmethod
    def suits(schema: Schema) -> bool:
        """Whether the columns can be read so: neither decimals nor nested, and with plain names."""
        return len(schema) > 0 and all(
            (column.type in _CARRIED or column.type in _AS_TEXT) and _PLAIN_KEY.fullmatch(column.name)
            for column in schema
        )

    def read(self, values: Sequence[bytes]) -> pa.RecordBatch | None:
        """A row for each message; None where that is not certain.

        Raises:
            TypeError: a message is None.
        """
        longest = len(max(values, key=len, default=b""))
        if longest > _LONGEST or longest * len(values) > _MOST:
            return None
        data = b"\n".join(values)
        if not _harmless(values, data, longest):
            return None
        try:
            rows = list(map(self._decode, values))
            columns = [
                self._column(column, _count(data, column.name), list(map(get, rows))) for column, get in self._columns
            ]
        except (msgspec.MsgspecError, RecursionError, pa.ArrowException, OverflowError, _Doubt):
            return None
        if any(map(_has_zero, columns)) and b"-0" in data:
            return None
        return batch_of(self._schema, columns, len(values))

    def _column(self, column: Column, found: int, values: list[Any]) -> Any:
        """The column; `found` is how often its key stands in the bytes, strings and nested objects included.

        Raises:
            _Doubt: a key may be there twice in a message, or a value does not fit.
        """
        try:
            array = pa.array(values, carrier(column.type))
            given = len(values)
        except (ValueError, TypeError):  # UNSET is nothing that Arrow knows
            present = [value for value in values if value is not msgspec.UNSET]
            given = len(present)
            array = pa.array([None if value is msgspec.UNSET else value for value in values], carrier(column.type))
        if found != given or (array.null_count and not column.nullable):
            raise _Doubt
        made = convert(array, column.type, fixed=True)
        if made.doubts:
            raise _Doubt
        return made.array


class _Doubt(Exception):
    """What was read may not be what the exact path reads."""


def _harmless(values: Sequence[bytes], data: bytes, longest: int) -> bool:
    """Whether messages are of an encoding and a depth with which nothing can go wrong."""
    if (b"\\" in data and b"\\u" in data) or not is_utf8(data):
        return False
    if longest <= 2 * _BRACKETS:
        return True
    if data.count(b"{") + data.count(b"[") <= len(values) + _BRACKETS - 1:
        return True
    return all(value.count(b"{") + value.count(b"[") <= _BRACKETS for value in values)


def _count(data: bytes, name: str) -> int:
    """How often a name stands in quotes: where it pays by Polars, which takes two thirds of the time."""
    if len(data) < _MUCH:
        return data.count(f'"{name}"'.encode())
    text = pl.from_arrow(as_value(data, pa.string()))
    assert isinstance(text, pl.Series), "an array is a series"
    return int(text.str.count_matches(re.escape(f'"{name}"'))[0])


def _has_zero(array: Any) -> bool:
    return bool(pa.types.is_floating(array.type) and pc.any(pc.equal(array, 0.0)).as_py())
