"""Decoding equals a simple reading in Python, wherever the input is cut: every row once, exact, in order."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.decoding import Decodes, decode
from harness.examples import few
from tidemill.adapters.arrow.text import text_type
from tidemill.model.table import Contract, OnMisfit, Schema
from tidemill.model.types import (
    BOOLEAN,
    DATE,
    DOUBLE,
    LONG,
    STRING,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    List,
    Struct,
    Type,
)
from tidemill.plan.evolve import BIG, SMALL, join, settled

MANY = settings(max_examples=few(150), deadline=None)
BLOCKS = st.sampled_from([1, 20, 60, 150, 400])

# -- JSON Lines

_TEXTS = st.sampled_from(
    ['""', '"x"', '"é\\n"', '"2024-02-29"', '"2024-02-30"', '"2024-02-29 10:00"', '"2024-02-29T10:00:00.5+02:00"',
     '"NaN"', '"5"', '"\\u0041\\u0000"', '"[{"', '"a\\"b"']
)  # fmt: skip
_NUMBERS = st.sampled_from(
    ["0", "-0", "7", "2.5", "1.0", "1e2", "-1.5E-3", "9007199254740992", "9007199254740993", "-9223372036854775808",
     "9223372036854775808", "123456789012345678901234567890", "9" * 39, "1e400", "NaN", "-Infinity", "1e20"]
)  # fmt: skip
_SCALARS = st.one_of(st.just("null"), st.just("true"), _TEXTS, _NUMBERS)


def _objects(keys: st.SearchStrategy[str], values: st.SearchStrategy[str], size: int) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(keys, values), max_size=size)
    return pairs.map(lambda found: "{" + ",".join(f'"{key}":{value}' for key, value in found) + "}")


_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: "[" + ",".join(found) + "]"),
        _objects(st.sampled_from(["x", "y", "X"]), inner, 2),
    ),
    max_leaves=4,
)
#: Columns of one sort, so that types other than string come about, and columns of any.
_SORTS = [st.just("null") | _NUMBERS, st.just("null") | _TEXTS, _VALUES, st.sampled_from(["1", "2.5", "null", "[]"])]
_NOISE = st.sampled_from(
    [b"", b"  ", b"broken", b"5", b"null", b"[1]", b'{"a":1', b'"a":1}', b'{"a":', b"3}", b'{"a":1}{"b":2}',
     b'{"a":1} ', b'\t{"b":2}\r', b'{"a":"\0"}', b'{"a":"\xff"}', b'{"\xc3":1}', b'{"a":"\\ud800"}',
     b'{"a":1,}', b'{"a":Inf}', b'{"a":01}', b"{}",
     b'{"s":' * 70 + b"1" + b"}" * 70, b'{"l":' + b"[" * 250 + b"]" * 250 + b"}"]
)  # fmt: skip


@st.composite
def _feeds(draw: st.DrawFn) -> bytes:
    columns = {name: draw(st.sampled_from(_SORTS)) for name in ("a", "b", "c")}
    made = [b"{}"]  # a file that begins with a bracket would be one array
    for i in range(draw(st.integers(1, 10))):
        if draw(st.integers(0, 5)) == 0:
            made.append(draw(_NOISE))
            continue
        names = draw(st.lists(st.sampled_from(["a", "b", "c", "A", "a"]), max_size=3))
        pairs = [f'"{name}":{draw(columns[name.lower()])}' for name in names]
        made.append(("{" + ",".join([f'"i":{i}', *pairs]) + "}").encode())
    return b"\n".join(made) + draw(st.sampled_from([b"", b"\n"]))


class Number(str):
    pass


class Pairs(list[Any]):
    pass


class Misfit(Exception):
    pass


def read_line(line: bytes) -> Pairs:
    text = line.decode()
    record = json.JSONDecoder(
        object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=Number
    ).decode(text)
    if not isinstance(record, Pairs) or "\0" in text:
        raise Misfit
    write(record).encode()
    if depth(record) > 64:
        raise Misfit
    check_keys(record)
    for _, value in record:
        check_fields(type_of(value, UNKNOWN))
    return record


def depth(value: Any) -> int:
    if not isinstance(value, list):
        return 0
    return 1 + max((depth(part[1] if isinstance(value, Pairs) else part) for part in value), default=0)


def check_keys(value: Any) -> None:
    if isinstance(value, Pairs) and len({key.lower() for key, _ in value}) < len(value):
        raise Misfit
    for part in value if isinstance(value, list) else ():
        check_keys(part[1] if isinstance(value, Pairs) else part)


def check_fields(kind: Type) -> None:
    if isinstance(kind, Struct) and len({name.lower() for name, _ in kind.fields}) < len(kind.fields):
        raise Misfit
    for part in [part for _, part in kind.fields] if isinstance(kind, Struct) else [getattr(kind, "element", None)]:
        if part is not None:
            check_fields(part)


def write(value: Any) -> str:
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(k, ensure_ascii=False)}:{write(v)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return str(value) if isinstance(value, Number) else json.dumps(value, ensure_ascii=False)


def type_of(value: Any, known: Type) -> Type:
    if value is None:
        return UNKNOWN
    if known == STRING:
        return STRING
    if isinstance(value, Pairs):
        fields = dict(known.fields) if isinstance(known, Struct) else {}
        return Struct(tuple((key, type_of(part, fields.get(key, UNKNOWN))) for key, part in value))
    if isinstance(value, list):
        kind: Type = UNKNOWN
        for part in value:
            kind = join(kind, type_of(part, known.element if isinstance(known, List) else UNKNOWN))
        return List(kind)
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, Number):
        return DOUBLE if value in ("NaN", "Infinity", "-Infinity") else text_type(value, numbers=True)
    return text_type(value, numbers=False)


def as_type(value: Any, kind: Type) -> Any:
    if value is None:
        return None
    if isinstance(kind, Struct):
        given = dict(value)
        return {name: as_type(given.get(name), part) for name, part in kind.fields}
    if isinstance(kind, List):
        return [as_type(part, kind.element) for part in value]
    if kind == STRING:
        return value if isinstance(value, str) and not isinstance(value, Number) else write(value)
    convert: dict[Any, Any] = {LONG: int, BIG: Decimal, DOUBLE: float, BOOLEAN: bool, DATE: date.fromisoformat}
    if kind in (TIMESTAMP, TIMESTAMPTZ):
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if kind == TIMESTAMPTZ else moment
    return convert[kind](value)


def simply_read(data: bytes) -> tuple[dict[str, Type], list[dict[str, Any]], list[int]]:
    """Types, rows and rejected lines, by going over all lines until nothing more is learned."""
    types: dict[str, Type] = {}
    while True:
        before = dict(types)
        kept, rejected = [], []
        for number, line in enumerate(data.split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                record = read_line(line)
                for key, _ in record:
                    if key not in types and key.lower() in {name.lower() for name in types}:
                        raise Misfit
                seen = {key: type_of(value, types.get(key, UNKNOWN)) for key, value in record}
                for key, kind in seen.items():
                    check_fields(join(types.get(key, UNKNOWN), kind))
            except (Misfit, ValueError, RecursionError):
                rejected.append(number)
                continue
            types |= {key: join(types.get(key, UNKNOWN), kind) for key, kind in seen.items()}
            kept.append(dict(record))
        if types == before:
            break
    final = {name: part for name, kind in types.items() if (part := settled(kind)) is not None}
    return final, [{name: as_type(row.get(name), kind) for name, kind in final.items()} for row in kept], rejected


def comparable(value: Any) -> Any:
    """A form in which NaN equals itself and structs their fields in any order."""
    if isinstance(value, dict):
        return {name: comparable(part) for name, part in sorted(value.items())}
    if isinstance(value, list):
        return [comparable(part) for part in value]
    return repr(value) if isinstance(value, float) else value


def same_type(kind: Type) -> Any:
    if isinstance(kind, Struct):
        return {name: same_type(part) for name, part in kind.fields}
    return [same_type(kind.element)] if isinstance(kind, List) else str(kind)


def types_of(made: Decodes) -> dict[str, Any]:
    return {column.name: same_type(column.type) for column in made.schema}


@MANY
@given(_feeds(), BLOCKS)
def test_json_lines_equal_a_simple_reading(data: bytes, block: int) -> None:
    types, rows, rejected = simply_read(data)
    whole, cut = decode(data), decode(data, block=block)
    for made in (whole, cut):
        assert types_of(made) == {name: same_type(kind) for name, kind in types.items()}
        assert comparable(made.rows) == comparable(rows)
        assert [line for line, _, _ in made.rejected] == rejected
    assert cut.rejected == whole.rejected
    if not rejected:
        assert list(whole.types) == list(cut.types) == list(types)


_TABLE = Schema.of({"i": "long", "a": "int", "b": "date", "s": "struct<x:double>"})


@MANY
@given(_feeds(), BLOCKS, st.sampled_from([m for m in OnMisfit if m != OnMisfit.FREEZE]), st.booleans())
def test_contracts_judge_each_row_alike_wherever_it_is_cut(
    data: bytes, block: int, on_misfit: OnMisfit, declared: bool
) -> None:
    data = data.replace(b'"c":', b'"s":')
    tables = {"": _TABLE}
    contract = Contract(on_misfit, Schema.of({"a": "int", "s": "struct<x:double>"}) if declared else Schema())
    whole = decode(data, contract=contract, tables=tables)
    cut = decode(data, contract=contract, tables=tables, block=block)
    assert whole.rejected == cut.rejected
    assert comparable(whole.rows) == comparable(cut.rows)
    assert types_of(whole) == types_of(cut)
    count = sum(1 for line in data.split(b"\n") if line.strip())
    assert len(whole.rows) + len(whole.rejected) == count
    if whole.rows and on_misfit != OnMisfit.EVOLVE:
        assert whole.schema == _TABLE
    places = [row["i"] for row in whole.rows if row["i"] is not None]
    assert places == sorted(places)


# -- CSV

_FIELDS = st.one_of(
    st.sampled_from(["", '""', "1", "-2", "2.5", "007", " 5", "true", "2024-02-29", "2024-02-29 10:00", "NaN"]),
    st.sampled_from(['"a,b"', '"c\nd"', '"e""f"', '"g\r\nh"', '"i"j', 'k"l', '"""', '"1"', "9007199254740993", "é"]),
    st.text(alphabet='ab"', max_size=4).filter(lambda t: not t.startswith('"')),
)


@st.composite
def _tables(draw: st.DrawFn) -> str:
    width = draw(st.integers(1, 3))
    sorts = [st.sampled_from(["1", "22", "", "3.5"]), st.sampled_from(["2024-02-29", "", "x"]), _FIELDS]
    columns = [draw(st.sampled_from(sorts)) for _ in range(width)]
    records = [",".join(f"n{i}" for i in range(width))]
    for _ in range(draw(st.integers(0, 8))):
        fields = [draw(column) for column in columns]
        odd = draw(st.integers(0, 9))
        fields += ["extra"] if odd == 0 else []
        records.append(",".join(fields[1:] if odd == 1 else fields))
    return draw(st.sampled_from(["\n", "\r\n"])).join(records) + draw(st.sampled_from(["", "\n"]))


def simply_read_csv(text: str) -> tuple[dict[str, Type], list[list[Any]], int] | None:
    """Types, rows and the number of rejected records; None where a quote is never closed."""
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
        lenient = False
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None
        lenient = True
    if lenient and list(csv.reader(io.StringIO(text + "\nEND", newline="")))[-1:] != [["END"]]:
        return None
    header, *records = (record for record in csv.reader(io.StringIO(text, newline="")) if record)
    rows = [record for record in records if len(record) == len(header)]
    types: dict[str, Type] = {}
    for i, name in enumerate(header):
        kind: Type = UNKNOWN
        for row in rows:
            kind = join(kind, text_type(row[i], numbers=True))
        types[name] = kind
    return types, rows, len(records) - len(rows)


def as_field(text: str, kind: Type) -> Any:
    if not text:
        return None
    if kind == BOOLEAN:
        return text.lower() == "true"
    return as_type(text, LONG if kind == SMALL else kind)


@MANY
@given(_tables(), BLOCKS)
def test_csv_equals_a_simple_reading(text: str, block: int) -> None:
    expected = simply_read_csv(text)
    if expected is None:
        return
    types, rows, rejected = expected
    whole, cut = decode(text, "f.csv"), decode(text, "f.csv", block=block)
    assert cut.rejected == whole.rejected
    assert len(whole.rejected) == rejected
    for made in (whole, cut):
        assert made.types == {n: str(part) for n, kind in types.items() if (part := settled(kind)) is not None}
        for got, row in zip(made.rows, rows, strict=True):
            for (name, kind), text_ in zip(types.items(), row, strict=True):
                if settled(kind) is None:
                    continue
                if text_ or kind != STRING:  # Python's csv module does not tell "" from nothing
                    assert comparable(got[name]) == comparable(as_field(text_, kind))
                else:
                    assert got[name] in (None, "")
