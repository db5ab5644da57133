"""Values as PostgreSQL writes them become columns: the types, and the values, that a read by COPY gives.

The session that gives the texts has UTC, ISO dates, intervals in ISO 8601 and bytes in hexadecimal: `SESSION`.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.databases.database import told
from tidemill.model.errors import DataError

#: How a session must be set.
SESSION = (
    "SET TimeZone = 'UTC'",
    "SET DateStyle = 'ISO, MDY'",
    "SET IntervalStyle = 'iso_8601'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 1",
    "SET client_encoding = 'UTF8'",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
)
#: A time that Arrow does not read: of a year of more than four digits, or before our era.
_YEAR = re.compile(r"(\d{4,})(-\d\d-\d\d)(?: (\d\d:\d\d:\d\d(?:\.\d+)?))?( BC)?")
_ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)')
_HEX = np.full(256, 0, np.uint8)
for _digit in "0123456789abcdef":
    _HEX[ord(_digit)] = int(_digit, 16)


def typed(texts: pa.Array, kind: pa.DataType, column: str, declared: str) -> pa.Array:
    """Texts as values of a type.

    Args:
        texts: strings; null for null.
        kind: what `postgres.py` reads such a column as.
        column: its name, for errors.
        declared: the type that it has in PostgreSQL.

    Raises:
        DataError: a value that the type cannot hold: `infinity`, `NaN` in a numeric, an array of two dimensions.
    """
    try:
        return _typed(texts, kind)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(
            f'Column "{column}" ({declared}) has a value that a table cannot hold: {told(error)}.',
            hint=f'publish the table without "{column}", and begin with a new snapshot: another slot=',
        ) from None


def _typed(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return texts
    if pa.types.is_boolean(kind):
        return pc.equal(texts, "t")
    if pa.types.is_binary(kind):
        return _bytes(texts)
    if isinstance(kind, pa.UuidType):
        hexes = pc.replace_substring(texts, "-", "")
        binary = _unhexed(hexes, 0)
        return pa.ExtensionArray.from_storage(kind, binary.cast(pa.binary(16)))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _times(texts, kind)
    if pa.types.is_time(kind):
        moments = pc.binary_join_element_wise("1970-01-01", texts, " ").cast(pa.timestamp("us"))
        return moments.cast(pa.int64()).cast(kind)
    if pa.types.is_list(kind):
        return _lists(texts, kind)
    return texts.cast(kind)


def _bytes(texts: pa.Array) -> pa.Array:
    r"""`\x00ff` as bytes."""
    return _unhexed(texts, 2)


def _unhexed(texts: pa.Array, skipped: int) -> pa.Array:
    """Hexadecimal digits as bytes; each text begins with `skipped` characters of another meaning."""
    length = np.where(texts.is_null().to_numpy(zero_copy_only=False), 0, _lengths(texts))
    _, offsets, data = texts.buffers()
    begin = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts)]
    size = np.maximum(length - skipped, 0) // 2
    ends = np.zeros(len(texts) + 1, np.int32)
    np.cumsum(size, out=ends[1:])
    at = np.arange(ends[-1], dtype=np.int64) * 2
    at += np.repeat(begin + skipped - 2 * ends[:-1], size)
    digits = _HEX[np.frombuffer(data, np.uint8)] if data is not None else np.zeros(0, np.uint8)
    found = digits[at] << 4 | digits[at + 1]
    buffers = [pa.py_buffer(ends), pa.py_buffer(found)]
    mask = texts.is_null().to_numpy(zero_copy_only=False)
    bits = None if not mask.any() else pa.py_buffer(np.packbits(~mask, bitorder="little"))
    return pa.BinaryArray.from_buffers(pa.binary(), len(texts), [bits, *buffers])


def _lengths(texts: pa.Array) -> Any:
    _, offsets, _ = texts.buffers()
    return np.diff(np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1])


def _times(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Dates and times. What has a year of four digits Arrow reads; the rest is read one by one."""
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        pass
    plain = pa.timestamp("us") if pa.types.is_timestamp(kind) else kind
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        texts = pc.replace_substring(texts, "+00", "")
    unusual = pc.and_(pc.invert(pc.match_substring_regex(texts, r"^\d{4}-[^B]*$")), texts.is_valid())
    found = pc.if_else(unusual, pa.scalar(None, pa.string()), texts).cast(plain)
    others = pa.array([_moment(text, plain) for text in texts.filter(unusual).to_pylist()], pa.int64())
    whole = pa.int32() if pa.types.is_date(plain) else pa.int64()
    return _shown(pc.replace_with_mask(found.cast(whole), unusual, others.cast(whole)).cast(plain), kind)


def _shown(times: pa.Array, kind: pa.DataType) -> pa.Array:
    """Times without a zone, which are in UTC, in the type that says so."""
    return times if times.type == kind else times.cast(pa.int64()).cast(kind)


def _moment(text: str, kind: pa.DataType) -> int:
    """Days, or microseconds, since 1970. Raises ValueError: `infinity`."""
    found = _YEAR.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year = 1 - int(found[1]) if found[4] else int(found[1])
    unit = "D" if pa.types.is_date(kind) else "us"
    moment = f"{year:05d}" if year < 0 else f"{year:04d}"
    days = int(np.datetime64(f"{moment}{found[2]}", "D").astype(np.int64))
    if unit == "D":
        return days
    hours, minutes, seconds = (found[3] or "00:00:00").split(":")
    micros = round(float(seconds) * 1_000_000)
    total = ((days * 24 + int(hours)) * 60 + int(minutes)) * 60_000_000 + micros
    if not -(1 << 63) <= total < 1 << 63:
        raise ValueError("a year beyond 294,246")
    return total


def _lists(texts: pa.Array, kind: pa.ListType) -> pa.Array:
    """Arrays of one dimension."""
    elements: list[str | None] = []
    offsets: list[int | None] = []
    for text in texts.to_pylist():
        offsets.append(None if text is None else len(elements))
        if text is not None:
            elements += _elements(text)
    offsets.append(len(elements))
    values = _typed(pa.array(elements, pa.string()), kind.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=kind)


def _elements(text: str) -> list[str | None]:
    r"""The elements of `{1,NULL,"a \\"b\\""}`. Raises ValueError: it has more than one dimension."""
    inner = text[text.index("{") + 1 : -1]
    if inner.startswith("{"):
        raise ValueError("an array of more than one dimension; a list has one")
    found: list[str | None] = []
    for quoted, plain in _ELEMENT.findall(inner):
        if plain:
            found.append(None if plain == "NULL" else re.sub(r"\\(.)", r"\1", plain))
        else:
            found.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
    return found
