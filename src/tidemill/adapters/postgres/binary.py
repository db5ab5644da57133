"""Rows in the binary format of PostgreSQL's COPY: half of the server's work of reading CSV is not there to be done.

A row is a count of fields, then for each field its length (-1: null) and its bytes, most significant first. Fields of
one width that follow each other are laid out for all rows at once as a numpy record; what varies in length stays as
Arrow has it. Joining the pieces row by row then is one call of Arrow, and its buffer is the stream.

The layouts of values are those of the `*_recv` functions in PostgreSQL's source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.postgres.text import as_json, postgres_type
from tidemill.model import types as t
from tidemill.model.errors import DataError
from tidemill.model.table import Schema

#: The signature, no flags, no extension; and what follows the last row.
HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"

#: PostgreSQL counts from 2000-01-01, Arrow from 1970-01-01.
_DAYS = 10_957
_MICROSECONDS = _DAYS * 86_400_000_000
#: `numeric` has digits to the base of ten thousand.
_BASE = 10_000
_TEXTS = re.compile(r"text|character varying(\(\d+\))?|character\(\d+\)")
_NUMERIC = re.compile(r"numeric(\(\d+,\d+\))?")
#: What is cast before it is sent: our type, the column's -> the type that is sent.
_WIDENED: dict[tuple[t.Type, str], t.Type] = {
    (t.INT, "bigint"): t.LONG, (t.INT, "double precision"): t.DOUBLE, (t.FLOAT, "double precision"): t.DOUBLE,
}  # fmt: skip
_ARROW = {t.LONG: pa.int64(), t.DOUBLE: pa.float64()}
#: How values of one width are laid out.
_WIDTHS: dict[t.Type, str] = {
    t.BOOLEAN: "?", t.INT: ">i4", t.LONG: ">i8", t.FLOAT: ">f4", t.DOUBLE: ">f8",
    t.DATE: ">i4", t.TIME: ">i8", t.TIMESTAMP: ">i8", t.TIMESTAMPTZ: ">i8", t.UUID: "V16",
}  # fmt: skip


def sent_as(columns: Schema, kinds: Mapping[str, str]) -> dict[str, t.Type] | None:
    """The type in which each column is sent, or None where one of them has to be sent as text.

    Args:
        columns: of the rows.
        kinds: of the same columns, as `format_type` names them in the table; by the rows' names.
    """
    found: dict[str, t.Type] = {}
    for column in columns:
        sent = _sent(column.type, kinds[column.name])
        if sent is None:
            return None
        found[column.name] = sent
    return found


def _sent(kind: t.Type, there: str) -> t.Type | None:
    if isinstance(kind, t.Decimal):
        return kind if _NUMERIC.fullmatch(there) else None
    if kind in (t.STRING, t.UNKNOWN):
        return t.STRING if _TEXTS.fullmatch(there) else None
    return kind if postgres_type(kind) == there else _WIDENED.get((kind, there))


def as_binary(batch: Any, sent: Mapping[str, t.Type]) -> memoryview:
    """An Arrow record batch with these columns as rows of the format, without header and trailer."""
    rows = _Rows(batch.num_rows)
    rows.add(">i2", len(sent))
    for name, kind in sent.items():
        _field(rows, batch.column(name), kind)
    return rows.joined()


class _Rows:
    """Pieces of rows, side by side."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._layout: list[tuple[str, str]] = []
        self._values: list[Any] = []
        self._pieces: list[Any] = []

    def add(self, layout: str, values: Any) -> None:
        """What has one width in all rows: a numpy type, and an array, or one value for all."""
        self._layout.append((f"f{len(self._layout)}", layout))
        self._values.append(values)

    def append(self, values: Any) -> None:
        """What varies in width: an Arrow array of large binaries without nulls."""
        self._close()
        self._pieces.append(values)

    def joined(self) -> memoryview:
        """All of it, row by row."""
        self._close()
        made = self._pieces[0]
        if len(self._pieces) > 1:
            made = pc.binary_join_element_wise(*self._pieces, pa.scalar(b"", pa.large_binary()))
        return memoryview(made.buffers()[2] or b"")

    def _close(self) -> None:
        if not self._layout:
            return
        laid = np.empty(self._count, dtype=self._layout)
        for (name, _), values in zip(self._layout, self._values, strict=True):
            laid[name] = values
        self._pieces.append(_binaries(laid, np.arange(self._count + 1, dtype=np.int64) * laid.dtype.itemsize))
        self._layout, self._values = [], []


def _binaries(data: Any, offsets: Any) -> Any:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data).view(np.uint8))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _field(rows: _Rows, array: Any, kind: t.Type) -> None:
    """One column."""
    texts = _texts(array, kind)
    if texts is not None:
        lengths = pc.fill_null(pc.binary_length(texts), -1)
        rows.add(">i4", lengths.to_numpy(zero_copy_only=False))
        rows.append(pc.fill_null(texts, b"") if texts.null_count else texts)
        return
    layout, values = _fixed(array, kind)
    width = np.dtype(layout).itemsize
    if not array.null_count:
        rows.add(">i4", width)
        rows.add(layout, values)
        return
    there = pc.is_valid(array).to_numpy(zero_copy_only=False)
    rows.add(">i4", np.where(there, width, -1))
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(there, dtype=np.int64) * width])
    rows.append(_binaries(values.astype(layout, copy=False)[there], ends))


def _texts(array: Any, kind: t.Type) -> Any | None:
    """A column whose values vary in length, as large binaries; None: they do not."""
    if kind in (t.STRING, t.BINARY):
        return (array.cast(pa.large_string()) if kind == t.STRING else array).cast(pa.large_binary())
    if isinstance(kind, t.List | t.Map | t.Struct):
        written = as_json(array).to_arrow().cast(pa.large_binary())
        # The number of the format of `jsonb`; null stays null.
        return pc.binary_join_element_wise(pa.scalar(b"\x01", written.type), written, pa.scalar(b"", written.type))
    return None


def _fixed(array: Any, kind: t.Type) -> tuple[str, Any]:
    """The layout of a column whose values have one width, and its values; any where it is null."""
    if isinstance(kind, t.Decimal):
        return _numeric(array, kind)
    layout = _WIDTHS[kind]
    if kind == t.UUID:
        stored = array.storage if hasattr(array, "storage") else array
        return layout, np.frombuffer(stored.buffers()[1], layout, len(stored), stored.offset * 16)
    if kind in (t.DATE, t.TIME, t.TIMESTAMP, t.TIMESTAMPTZ):
        since = {t.DATE: _DAYS, t.TIME: 0}.get(kind, _MICROSECONDS)
        whole = _in_microseconds(array, kind).view(pa.int32() if kind == t.DATE else pa.int64())
        return layout, _since(pc.fill_null(whole, 0), since, kind)
    filled = pc.fill_null(array, False if kind == t.BOOLEAN else 0) if array.null_count else array
    filled = filled.cast(_ARROW[kind]) if kind in _ARROW else filled
    return layout, filled.to_numpy(zero_copy_only=False)


def _since(values: Any, start: int, kind: t.Type) -> Any:
    """Values counted from another start. The server refuses what it does not hold, but the least is its infinity."""
    try:
        moved = pc.subtract_checked(values, pa.scalar(start, values.type)).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        moved = None
    if moved is None or (len(moved) and moved.min() == np.iinfo(moved.dtype).min):
        raise DataError(f"A {kind} is so far back that PostgreSQL has no value for it.", hint="replace it by null")
    return moved


def _in_microseconds(array: Any, kind: t.Type) -> Any:
    if kind == t.DATE:
        return array.cast(pa.date32())
    if kind == t.TIME:
        return array.cast(pa.time64("us"))
    return array.cast(pa.timestamp("us", array.type.tz))


def _numeric(array: Any, kind: t.Decimal) -> tuple[str, Any]:
    """Digits to the base of 10,000, of all values as many; PostgreSQL drops zeros at both ends."""
    array = array.cast(pa.decimal128(kind.precision, kind.scale))
    before, after = -(-(kind.precision - kind.scale) // 4), -(-kind.scale // 4)
    halves = np.frombuffer(array.buffers()[1], "<i8", 2 * len(array), array.offset * 16).reshape(-1, 2)
    negative = halves[:, 1] < 0
    limbs = _magnitude(halves, negative, 2 if kind.precision <= 18 else 4)
    laid = np.zeros(len(array), dtype=[("head", ">i2", 4), ("digits", ">i2", before + after)])
    laid["head"][:, 0] = before + after
    laid["head"][:, 1] = before - 1
    laid["head"][:, 2] = np.where(negative, 0x4000, 0)
    laid["head"][:, 3] = kind.scale
    short = kind.scale % 4
    for place in reversed(range(before + after)):
        if short and place == before + after - 1:
            laid["digits"][:, place] = _taken(limbs, 10**short) * 10 ** (4 - short)
        else:
            laid["digits"][:, place] = _taken(limbs, _BASE)
    return f"V{laid.dtype.itemsize}", laid.view(f"V{laid.dtype.itemsize}")


def _magnitude(halves: Any, negative: Any, count: int) -> list[Any]:
    """Absolute values in pieces of 32 bits, the most significant first."""
    low, high = halves[:, 0].view("<u8").copy(), halves[:, 1].view("<u8").copy()
    low[negative] = ~low[negative] + 1
    high[negative] = ~high[negative] + (low[negative] == 0)
    mask = np.uint64(0xFFFF_FFFF)
    return [high >> 32, high & mask, low >> 32, low & mask][-count:]


def _taken(limbs: list[Any], divisor: int) -> Any:
    """Divide in place; gives what is left over."""
    left = np.zeros_like(limbs[0])
    for place, limb in enumerate(limbs):
        whole = (left << np.uint64(32)) | limb
        limbs[place] = whole // np.uint64(divisor)
        left = whole - limbs[place] * np.uint64(divisor)
    return left.astype(np.int64)
