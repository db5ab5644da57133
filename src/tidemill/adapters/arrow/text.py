"""Typed values from text: which type some texts have, and the column that they make. One grammar for all formats.

The patterns are strict on purpose: what is no number in JSON ("007", "+5", " 5", "1.") stays text, or a postal code
would lose its zeros. A declared column may be read leniently. Two forms of each rule, one for a whole column (Arrow,
some 30 ns a value) and one for a single text, must agree; a property test holds them together.
"""

from __future__ import annotations

import base64
import decimal
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.types import to_arrow_type
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
    Type,
)
from tidemill.plan.evolve import BIG, EXACT_IN_DOUBLE, SMALL, join

_INTEGER = r"-?(?:0|[1-9][0-9]*)"
_NUMBER = _INTEGER + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
_SPECIAL = r"NaN|nan|-?(?:Infinity|infinity|Inf|inf)"
_DAY = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,6})?)?"
_ZONE = r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_HEX = "[0-9a-fA-F]"

#: What a text of each type looks like. Further than the pattern go only the length of months and the ranges.
PATTERNS: dict[Type, str] = {
    INT: _INTEGER,
    SMALL: _INTEGER,
    LONG: _INTEGER,
    BIG: _INTEGER,
    FLOAT: f"{_NUMBER}|{_SPECIAL}",
    DOUBLE: f"{_NUMBER}|{_SPECIAL}",
    BOOLEAN: "true|false|True|False|TRUE|FALSE",
    DATE: _DAY,
    TIME: _CLOCK,
    TIMESTAMP: f"{_DAY}(?:[T ]{_CLOCK})?",
    TIMESTAMPTZ: f"{_DAY}[T ]{_CLOCK}{_ZONE}",
    UUID: f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
    BINARY: "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
}
#: The same where a column is declared, and the user knows better.
_LENIENT: dict[Type, str] = {
    INT: "[+-]?[0-9]+",
    LONG: "[+-]?[0-9]+",
    FLOAT: rf"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|{_SPECIAL}",
    DOUBLE: rf"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|{_SPECIAL}",
    BOOLEAN: "(?i:true|false)|0|1",
}
#: Arrow types whose texts, as Arrow writes them, all fit the pattern. Times with fractions of seconds are left to it.
_PLAIN: dict[Type, pa.DataType] = {
    INT: pa.int32(),
    SMALL: pa.int64(),
    LONG: pa.int64(),
    BOOLEAN: pa.bool_(),
    DATE: pa.date32(),
    TIMESTAMP: pa.timestamp("s"),
}
#: Texts that tell most often whether a column is written as Arrow would.
_FEW = 16
_LENIENT_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"

_PY_INTEGER, _PY_NUMBER = re.compile(_INTEGER), re.compile(_NUMBER)
_PY = {kind: re.compile(pattern) for kind, pattern in PATTERNS.items()}
_PY_SPECIAL = re.compile(_SPECIAL)
_WRITTEN_AS_TEXT = frozenset((DATE, TIME, TIMESTAMP, TIMESTAMPTZ, UUID, BINARY))

#: Years 1 to 9999, which is what every reader of a table can show.
_DAYS = tuple((day - date(1970, 1, 1)).days for day in (date.min, date.max))
_MICROS = (_DAYS[0] * 86_400_000_000, (_DAYS[1] + 1) * 86_400_000_000 - 1)
#: The largest double of which it is certain that no integer was rounded to it.
_ALMOST = float(EXACT_IN_DOUBLE - 1)


def integer_type(digits: str) -> Type:
    """The type of an integer as it is written: small, long, decimal(38,0), or string beyond 38 digits."""
    if len(digits) > BIG.precision + 1:
        return STRING
    value = int(digits)
    if -EXACT_IN_DOUBLE <= value <= EXACT_IN_DOUBLE:
        return SMALL
    if -(2**63) <= value < 2**63:
        return LONG
    return BIG if abs(value) < 10**BIG.precision else STRING


def number_type(literal: str) -> Type:
    """The type of a number as it is written; string where no double comes near it ("1e400")."""
    if _PY_INTEGER.fullmatch(literal):
        return integer_type(literal)
    return STRING if abs(float(literal)) == float("inf") else DOUBLE


def text_type(text: str, *, numbers: bool) -> Type:
    """The narrowest type that holds a text.

    Args:
        text: the text; an empty one says nothing about its column where `numbers` is set.
        numbers: the format has no types of its own (CSV), so that numbers and booleans are texts too.
    """
    if numbers:
        if not text:
            return UNKNOWN
        if _PY_NUMBER.fullmatch(text):
            return number_type(text)
        if _PY_SPECIAL.fullmatch(text):
            return DOUBLE
        if _PY[BOOLEAN].fullmatch(text):
            return BOOLEAN
    if len(text) >= 10 and text[4] == "-":
        return next((kind for kind in (DATE, TIMESTAMP, TIMESTAMPTZ) if fits(text, kind)), STRING)
    return STRING


def type_beside(text: str, kind: Type) -> Type:
    """The type of a text that stands in a column of type `kind`, for formats without types: as `text_type`, but a
    number among decimals is one.
    """
    own = text_type(text, numbers=True)
    if isinstance(kind, Decimal) and kind != BIG and _PY_NUMBER.fullmatch(text):
        return decimal_type(text, kind)
    return own


def decimal_type(literal: str, kind: Decimal) -> Type:
    """`kind` if it holds the number exactly, else the decimal that does, else string."""
    _, digits, exponent = decimal.Decimal(literal).as_tuple()
    if not isinstance(exponent, int) or abs(exponent) > 2 * BIG.precision:
        return STRING
    trimmed = "".join(map(str, digits)).rstrip("0")
    exponent = exponent + len(digits) - len(trimmed) if trimmed else 0
    scale = max(0, -exponent)
    whole = max(0, len(trimmed) + exponent)
    if scale <= kind.scale and whole <= kind.precision - kind.scale:
        return kind
    return Decimal(max(1, whole + scale), scale) if whole + scale <= BIG.precision else STRING


def fits(text: str, kind: Type) -> bool:
    """Whether a text is a value of a type that is written as text in every format (times, uuid, binary, string)."""
    if kind == STRING:
        return True
    if kind not in _WRITTEN_AS_TEXT or not _PY[kind].fullmatch(text):
        return False
    try:
        if kind == DATE:
            date.fromisoformat(text)
        elif kind == TIMESTAMP:
            datetime.fromisoformat(text)
        elif kind == TIMESTAMPTZ:
            datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):  # February 30, the year 0, an offset that leads out of year 1 or 9999
        return False
    return True


def column_type(texts: pa.Array, *, numbers: bool) -> Type:
    """The join of `text_type` over a column of strings, without looking at each in Python."""
    texts = texts.drop_null()
    if numbers:
        texts = texts.filter(pc.binary_length(texts).cast(pa.bool_()))  # `!= ""` would load pandas: 0.2 s
    kind: Type = UNKNOWN
    while len(texts):
        kind = join(kind, text_type(texts[0].as_py(), numbers=numbers))
        if kind == STRING:
            return kind
        _, bad = parse(texts, kind)
        if bad is None:
            return kind
        texts = texts.filter(bad)
    return kind


def parse(texts: pa.Array, kind: Type, *, lenient: bool = False) -> tuple[pa.Array, pa.Array | None]:
    """The values that texts stand for.

    Args:
        texts: a string array.
        kind: any type without parts.
        lenient: accept what a person would ("007", "+5", " 5 ", "TRUE"), not only what the type's own form is.

    Returns:
        The typed array, null where a text does not fit, and where that is (None: nowhere).
    """
    if kind == STRING:
        return texts, None
    pattern = PATTERNS.get(kind, _NUMBER)
    if lenient:
        texts = pc.utf8_trim_whitespace(texts)
        pattern = _LENIENT.get(kind, _LENIENT_DECIMAL if isinstance(kind, Decimal) else pattern)
    if (plain := _plain(texts, kind)) is not None:
        typed = _checked(plain, texts, kind)
        return typed, _unfit(texts, typed)
    like = pc.match_substring_regex(texts, rf"\A(?:{pattern})\z")
    good = texts
    if like.true_count + like.null_count < len(like):
        good = pc.if_else(like, texts, pa.scalar(None, pa.string()))
    if lenient and kind in (INT, LONG):
        good = pc.replace_substring_regex(good, r"\A\+", "")
    typed = _checked(_typed(good, kind), good, kind)
    return typed, _unfit(texts, typed)


def _unfit(texts: pa.Array, typed: pa.Array) -> pa.Array | None:
    return None if typed.null_count == texts.null_count else pc.and_(pc.is_valid(texts), pc.is_null(typed))


def _plain(texts: pa.Array, kind: Type) -> pa.Array | None:
    """The values, if each text is what Arrow writes for its value; then it has the type's own form, and the pattern,
    which takes longer than all else, need not be asked. Most columns are written so; a few rows tell which are not.
    """
    target = _PLAIN.get(kind)
    if target is None:
        return None
    for part in (texts[:_FEW], texts):
        try:
            values = part.cast(target)
        except pa.ArrowInvalid:
            return None
        if not values.cast(pa.string()).equals(part):
            return None
    return values.cast(_target(kind))


def _target(kind: Type) -> pa.DataType:
    return pa.int64() if kind == SMALL else to_arrow_type(kind)


def _typed(texts: pa.Array, kind: Type) -> pa.Array:
    if kind == TIME:  # Arrow casts text to times only with a date in front
        full = pc.binary_join_element_wise(pa.scalar("1970-01-01"), texts, "T")
        return cast_or_null(full, pa.timestamp("us")).cast(pa.time64("us"))
    if kind == UUID:
        return pa.ExtensionArray.from_storage(
            pa.uuid(), _each(texts, lambda text: uuid.UUID(text).bytes, pa.binary(16))
        )
    if kind == BINARY:
        return _each(texts, lambda text: base64.b64decode(text, validate=True), pa.binary())
    return cast_or_null(texts, _target(kind))


def _each(texts: pa.Array, make: Callable[[str], bytes], kind: pa.DataType) -> pa.Array:
    """Value by value, for what Arrow cannot parse. The patterns let nothing through that `make` refuses."""
    return pa.array([None if text is None else make(text) for text in texts.to_pylist()], kind)


def cast_or_null(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Cast, with null where it cannot be done. Failures are rare, so halving finds each in a few casts."""
    try:
        return array.cast(target)
    except pa.ArrowInvalid:
        if len(array) == 1:
            return pa.nulls(1, target)
        half = len(array) // 2
        return pa.concat_arrays([cast_or_null(array[:half], target), cast_or_null(array[half:], target)])


def _checked(typed: pa.Array, texts: pa.Array, kind: Type) -> pa.Array:
    """`typed` with null where the value lies beyond what the type holds without loss."""
    if kind == SMALL:
        return _null_where(typed, _not_between(typed, -EXACT_IN_DOUBLE, EXACT_IN_DOUBLE))
    if kind in (FLOAT, DOUBLE):
        large = beyond_double(typed)
        return typed if large is None else _null_where(typed, _lost(texts, large, typed))
    if isinstance(kind, Decimal):
        return _null_where(typed, _wrapped(texts, typed, kind))
    if kind == DATE:
        return _null_where(typed, _not_between(typed.view(pa.int32()), *_DAYS))
    if kind in (TIMESTAMP, TIMESTAMPTZ):
        return _null_where(typed, _not_between(typed.view(pa.int64()), *_MICROS))
    return typed


def _wrapped(texts: pa.Array, typed: pa.Array, kind: Decimal) -> pa.Array | None:
    """Where a number lies beyond 128 bits: Arrow's cast wraps around, 39 nines became -2.08e37. None: nowhere."""
    suspect = pc.fill_null(pc.greater(pc.binary_length(texts), BIG.precision), False)
    places = pc.indices_nonzero(suspect)
    if not len(places):
        return None
    pairs = zip(texts.take(places).to_pylist(), typed.take(places).to_pylist(), strict=True)
    top = decimal.Decimal(10) ** (kind.precision - kind.scale)
    wrong = [value is not None and (decimal.Decimal(text) != value or value.copy_abs() >= top) for text, value in pairs]
    nowhere = pa.array([False] * len(texts))
    return pc.replace_with_mask(nowhere, suspect, pa.array(wrong, pa.bool_()))


def beyond_double(numbers: pa.Array) -> pa.Array | None:
    """Where a floating-point number is so large (or infinite) that it may be a rounded integer; None: nowhere."""
    if _not_between(numbers, -_ALMOST, _ALMOST) is None:
        return None
    return pc.greater_equal(pc.abs(numbers), pa.scalar(float(EXACT_IN_DOUBLE), numbers.type))


def _lost(texts: pa.Array, large: pa.Array, typed: pa.Array) -> pa.Array:
    """Where a text is an integer that a double may round, or a number beyond the type. Few are looked at."""
    places = pc.indices_nonzero(large)
    pairs = zip(texts.take(places).to_pylist(), typed.take(places).to_pylist(), strict=True)
    lost = [not _PY_SPECIAL.fullmatch(text) and not _holds(value, text.strip().lstrip("+")) for text, value in pairs]
    nowhere = pa.array([False] * len(texts))
    return pc.replace_with_mask(nowhere, pc.fill_null(large, False), pa.array(lost, pa.bool_()))


def _holds(value: float, text: str) -> bool:
    return abs(value) != float("inf") and number_type(text) in (SMALL, DOUBLE)


def _not_between(values: pa.Array, low: float, high: float) -> pa.Array | None:
    """Where a value lies outside; None: nowhere."""
    span = pc.min_max(values).as_py()
    if span["min"] is None or low <= span["min"] <= span["max"] <= high:
        return None
    return pc.or_(pc.less(values, low), pc.greater(values, high))


def _null_where(values: pa.Array, mask: pa.Array | None) -> pa.Array:
    return values if mask is None else pc.if_else(mask, pa.scalar(None, values.type), values)
