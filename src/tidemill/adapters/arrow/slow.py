"""The exact path: one JSON record at a time, in Python, for the few lines that Arrow refuses or may have misread.

It decides, and it rewrites: a line that the contract takes in comes back as one that Arrow reads rightly (a number in
a text column quoted, a map as pairs), so that values are converted in one place only. Some 20 us a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from tidemill.adapters.arrow.decoded import check_system_names
from tidemill.adapters.arrow.shape import colliding
from tidemill.adapters.arrow.text import decimal_type, fits, number_type, text_type
from tidemill.model.table import OnMisfit
from tidemill.model.types import BOOLEAN, DOUBLE, FLOAT, INT, STRING, UNKNOWN, Decimal, List, Map, Struct, Type
from tidemill.plan.evolve import BIG, SMALL, join, misplaced, settled
from tidemill.plan.known import Known
from tidemill.ports.decoder import DecodeOptions

#: Deeper lines are not even read: Python's own limit is near 1,000 calls, and several are made for a level.
HARD_DEPTH = 200
#: Values shown in messages are cut at so many characters.
_SHOWN = 60
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]')
#: Decimals are exact only as strings in many feeds; this is what Arrow takes for one.
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CONSTANTS = ("NaN", "Infinity", "-Infinity")
_FLOAT32_MAX = 3.4028234663852886e38


class Number(str):
    """A number as it is written, so that no digit is lost on the way."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object as it is written: keys in order, repeated ones too."""

    __slots__ = ()


#: None, bool, str, Number, list, Pairs.
Value: TypeAlias = Any

_DECODER = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=Number, strict=True
)


class Misfit(Exception):
    """A record that cannot be taken in; the message is what the quarantine shows."""


@dataclass(frozen=True, slots=True)
class Exam:
    """A line that was looked at: what is known now, and the line as Arrow shall read it, or why it is rejected."""

    known: Known
    line: bytes = b""
    error: str | None = None


def examine(line: bytes, known: Known, options: DecodeOptions) -> Exam:
    """Read one line exactly, and decide about it by what is known and the contract.

    Args:
        line: the record's bytes, without its line end.
        known: the columns so far.
        options: the limits.

    Raises:
        SystemColumn: the record has a column that only Tidemill writes.
        Differs: the record does not fit, under `freeze`.
    """
    try:
        record = read_record(line, options)
        check_system_names(key for key, _ in record)
        after, record = _fit(record, known, options)
    except Misfit as misfit:
        return Exam(known, error=str(misfit))
    return Exam(after, to_json(record).encode())


def depth_of(line: bytes) -> int:
    """How deep a line of JSON nests, brackets within strings apart."""
    depth = deepest = 0
    for token in _BRACKET.findall(line):
        if token in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"}", b"]"):
            depth -= 1
    return deepest


def read_record(line: bytes, options: DecodeOptions) -> Pairs:
    """The record of a line, exactly as it is written.

    Raises:
        Misfit: the line is not one JSON object in UTF-8, or beyond the limits.
    """
    if b"\0" in line:
        raise Misfit(f"not JSON: a NUL byte at position {line.index(0) + 1}")
    if line.count(b"{") + line.count(b"[") > HARD_DEPTH and (depth := depth_of(line)) > HARD_DEPTH:
        raise Misfit(_too_deep(depth, min(HARD_DEPTH, options.max_depth)))
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise Misfit(f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}") from None
    try:
        record = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Misfit(f"not JSON: {_lowered(error.msg)} at position {error.pos + 1}") from None
    if not isinstance(record, Pairs):
        raise Misfit(f"not a JSON object: {_shown(record)}")
    if len(line) > options.max_field:
        _check_sizes(record, options.max_field, "")
    if b"\\u" in line:
        _check_surrogates(record)
    return record


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _check_sizes(value: Value, limit: int, path: str) -> None:
    for key, part in _parts(value):
        if isinstance(part, str) and len(part) > limit // 4 and (size := len(part.encode())) > limit:
            raise Misfit(f"{path}{key}: {size:,} bytes, at most {limit:,} are read (max_field)")
        _check_sizes(part, limit, f"{path}{key}.")


def _check_surrogates(record: Pairs) -> None:
    try:
        to_json(record).encode()
    except UnicodeEncodeError:
        raise Misfit("not Unicode: half of a surrogate pair stands alone") from None


def _parts(value: Value) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Pairs):
        yield from value
    elif isinstance(value, list):
        yield from (("[]", part) for part in value)


def _too_deep(depth: int, limit: int) -> str:
    return f"nested {depth} levels deep, at most {limit} are read"


def _depth(value: Value) -> int:
    """How deep a value nests: 0 for a scalar."""
    if not isinstance(value, list):
        return 0
    parts = (part for _, part in value) if isinstance(value, Pairs) else value
    return 1 + max(map(_depth, parts), default=0)


def _fit(record: Pairs, known: Known, options: DecodeOptions) -> tuple[Known, Pairs]:
    """What is known after the record, and the record with every value as its column takes it.

    Raises:
        Misfit: a value that the contract refuses; nothing of the record counts then.
    """
    if known.closed and known.on_misfit == OnMisfit.DISCARD_COLUMNS:
        record = _only(record, Struct(tuple((column.name, column.type) for column in known.columns)))
    if (depth := _depth(record)) > options.max_depth:
        raise Misfit(_too_deep(depth, options.max_depth))
    _check_keys(record, "")
    for key, _ in record:
        if (other := known.by_folded.get(key.lower(), key)) != key:
            raise _case("", key, other)
    for key, value in record:
        # Judged by the record alone, also where its column is text: which one that is may turn out only later.
        if isinstance(value, list) and (pair := colliding(_type_of(value, UNKNOWN), f"{key}.")):
            raise _case(*pair)
    types = [(key, _type_of(value, known.get(key), ranked=known.ranked)) for key, value in record]
    for key, kind in types:
        if isinstance(kind, Struct | List | Map) and (pair := colliding(join(known.get(key), kind), f"{key}.")):
            raise _case(*pair)
    after, refused = known.offer(types)
    for key, value in record:
        if key in refused:
            column = known.by_name.get(key)
            raise Misfit(f'unknown column "{key}"' if column is None else _complaint(value, column.type, key))
    given = dict(record)
    for column in after.columns:
        if not column.nullable and given.get(column.name) is None:
            raise Misfit(f"{column.name}: null, but the column is declared not null")
    return after, Pairs([(key, _rewritten(value, after.get(key))) for key, value in record if key in after.by_name])


def _only(value: Value, kind: Type) -> Value:
    """A value without the keys that its type has not."""
    if isinstance(value, Pairs) and isinstance(kind, Struct):
        fields = dict(kind.fields)
        return Pairs([(key, _only(part, fields[key])) for key, part in value if key in fields])
    if isinstance(value, list) and not isinstance(value, Pairs) and isinstance(kind, List):
        return [_only(part, kind.element) for part in value]
    return value


def _check_keys(value: Value, path: str) -> None:
    """Raise `Misfit` where an object, on any level, has a key twice, also when case is ignored."""
    if isinstance(value, Pairs):
        own: dict[str, str] = {}
        for key, part in value:
            other = own.get(key.lower())
            if other is not None:
                raise Misfit(f'the key "{path}{key}" appears twice') if other == key else _case(path, key, other)
            own[key.lower()] = key
            _check_keys(part, f"{path}{key}.")
    elif isinstance(value, list):
        for part in value:
            _check_keys(part, path)


def _case(path: str, key: str, other: str) -> Misfit:
    return Misfit(f'the key "{path}{key}" differs from "{path}{other}" only in case')


def _type_of(value: Value, kind: Type, *, ranked: bool = False) -> Type:
    """The type of a value for a column of type `kind`: `kind` itself, or less, if it fits; else its own.

    `ranked`: what nests does not become text, see `Known.ranked`.
    """
    if value is None:
        return UNKNOWN
    if kind == STRING and not (ranked and isinstance(value, list)):
        return STRING
    if isinstance(value, Pairs):
        if isinstance(kind, Map):
            return Map(STRING, _join_all((_type_of(part, kind.value, ranked=ranked) for _, part in value), ranked))
        fields = dict(kind.fields) if isinstance(kind, Struct) else {}
        return Struct(tuple((k, _type_of(part, fields.get(k, UNKNOWN), ranked=ranked)) for k, part in value))
    if isinstance(value, list):
        element = kind.element if isinstance(kind, List) else UNKNOWN
        return List(_join_all((_type_of(part, element, ranked=ranked) for part in value), ranked))
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, Number):
        return _number_type(value, kind)
    if isinstance(kind, Decimal) and kind != BIG and _DECIMAL.fullmatch(value):
        return decimal_type(value, kind)
    return kind if fits(value, kind) else text_type(value, numbers=False)


def _join_all(kinds: Iterable[Type], ranked: bool) -> Type:
    joined: Type = UNKNOWN
    for kind in kinds:
        if ranked and (misplaced(joined, kind) or misplaced(kind, joined)):
            raise Misfit("a list mixes plain values, objects and lists, so that it cannot become one table")
        joined = join(joined, kind)
    return joined


def _number_type(literal: str, kind: Type) -> Type:
    own = DOUBLE if literal in _CONSTANTS else number_type(literal)
    if isinstance(kind, Decimal) and kind != BIG and literal not in _CONSTANTS:
        return decimal_type(literal, kind)
    if kind == INT and own == SMALL and -(2**31) <= int(literal) < 2**31:
        return INT
    if kind == FLOAT and own in (SMALL, DOUBLE) and not _FLOAT32_MAX < abs(float(literal)) < float("inf"):
        return FLOAT
    return own


def _complaint(value: Value, kind: Type, path: str) -> str:
    """Which part of a value does not fit its column."""
    if isinstance(value, Pairs) and isinstance(kind, Struct):
        fields = dict(kind.fields)
        for key, part in value:
            if key not in fields:
                if _type_of(part, UNKNOWN) != UNKNOWN:
                    return f'unknown field "{path}.{key}"'
            elif join(fields[key], _type_of(part, fields[key])) != fields[key]:
                return _complaint(part, fields[key], f"{path}.{key}")
    if isinstance(value, Pairs) and isinstance(kind, Map):
        parts, inner = [part for _, part in value], kind.value
    elif isinstance(value, list) and not isinstance(value, Pairs) and isinstance(kind, List):
        parts, inner = value, kind.element
    else:
        return f"{path}: {_shown(value)} does not fit {settled(kind) or kind}"
    return next(_complaint(part, inner, path) for part in parts if join(inner, _type_of(part, inner)) != inner)


def _rewritten(value: Value, kind: Type) -> Value:
    """A value as Arrow reads it into a column of type `kind`."""
    if value is None:
        return None
    if kind == STRING:
        return value if isinstance(value, str) and not isinstance(value, Number) else to_json(value)
    if isinstance(value, Pairs):
        if isinstance(kind, Map):
            return [Pairs([("key", key), ("value", _rewritten(part, kind.value))]) for key, part in value]
        fields = dict(kind.fields) if isinstance(kind, Struct) else {}
        return Pairs([(key, _rewritten(part, fields[key])) for key, part in value if key in fields])
    if isinstance(value, list):
        element = kind.element if isinstance(kind, List) else UNKNOWN
        return [_rewritten(part, element) for part in value]
    return value


def to_json(value: Value) -> str:
    """Compact JSON text; numbers as they were written."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{_string(key)}:{to_json(part)}" for key, part in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_json, value)) + "]"
    if isinstance(value, str):
        return _string(value)
    return {None: "null", True: "true", False: "false"}[value]


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shown(value: Value) -> str:
    text = to_json(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
