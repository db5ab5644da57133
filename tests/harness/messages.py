"""JSON messages for tests of codecs: generated ones, what a table load makes of them, and what a codec does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

from harness.decoding import decode
from tidemill.model.table import Contract, OnMisfit, Schema
from tidemill.ports.codec import Decoded

TEXTS = st.sampled_from(
    ['""', '"x"', '"é\\n"', '"2024-02-29"', '"2024-02-30"', '"2024-02-29 10:00"', '"2024-02-29T10:00:00.5+02:00"',
     '"2024-02-29T10:00:00.1234567Z"', '"NaN"', '"5"', '"-1.50"', '"1e3"', '"\\u0041\\u0000"', '"[{"', '"a\\"b"',
     '"true"', '"10:11:12.5"', '"0001-01-01T00:00:00+01:00"', '"AAE="',
     '"00000000-0000-0000-0000-00000000000A"', '"\\/"']
)  # fmt: skip
NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "7", "2.5", "1.0", "1e2", "-1.5E-3", "2147483648", "9007199254740992", "9007199254740993",
     "-9223372036854775808", "9223372036854775808", "123456789012345678901234567890", "9" * 39, "1e400", "NaN",
     "-Infinity", "1e20", "3.5e38", "123.45", "123.456"]
)  # fmt: skip
SCALARS = st.one_of(st.just("null"), st.just("true"), TEXTS, NUMBERS)


def objects(keys: st.SearchStrategy[str], values: st.SearchStrategy[str], size: int) -> st.SearchStrategy[str]:
    """The texts of JSON objects, keys repeated too."""
    pairs = st.lists(st.tuples(keys, values), max_size=size)
    return pairs.map(lambda found: "{" + ",".join(f'"{key}":{value}' for key, value in found) + "}")


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: "[" + ",".join(found) + "]"),
        objects(st.sampled_from(["x", "y", "X"]), inner, 2),
    ),
    max_leaves=4,
)
NOISE = st.sampled_from(
    [b"broken", b"5", b"null", b"[1]", b'{"a":1', b'"a":1}', b'{"a":1}{"b":2}', b'{"a":1} ', b'\t{"b":2}\r',
     b'{"a":"\0"}', b'{"a":"\xff"}', b'{"z":"\xff"}', b'{"\xc3":1}', b'{"a":"\\ud800"}', b'{"z":"\\ud800"}',
     b'{"a":1,}', b'{"a":Inf}', b'{"a":01}', b"{}", b'{"z":{"a":1},"a":2}', b'{"z":"a","a":2}', b'{"\\u0061":1}',
     b'{"a":1,"\\u0061":2}', b'{"z":1,"z":2}', b'{"z":1e999,"a":1}', b'{"A":1}', b'{"a":1,"A":2}', b'{ "a" : 1 }',
     b'{"s":' * 70 + b"1" + b"}" * 70, b'{"z":' + b"[" * 100 + b"]" * 100 + b"}",
     b'{"l":' + b"[" * 250 + b"]" * 250 + b"}"]
)  # fmt: skip

#: Types of columns, as declared.
KINDS = st.sampled_from(
    ["long", "int", "double", "float", "boolean", "string", "date", "time", "timestamp", "timestamptz", "uuid",
     "binary", "decimal(5,2)", "decimal(38,0)", "list<long>", "list<string>", "struct<x:long,y:string>",
     "map<string,long>", "list<struct<x:double>>", "long not null", "string not null"]
)  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> tuple[dict[str, str], list[bytes]]:
    """Declared columns, and messages of which many fit them."""
    columns = {name: draw(KINDS) for name in draw(st.lists(st.sampled_from(["a", "b", "s"]), min_size=1, unique=True))}
    sorts = {name: draw(st.sampled_from([NUMBERS, TEXTS, VALUES, SCALARS])) for name in ("a", "b", "s", "z", "A")}
    made = []
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.integers(0, 4)) == 0:
            made.append(draw(NOISE))
            continue
        names = draw(st.lists(st.sampled_from(["a", "b", "s", "z", "A", "a"]), max_size=4))
        made.append(("{" + ",".join(f'"{name}":{draw(sorts[name])}' for name in names) + "}").encode())
    return columns, made


def as_loaded(
    columns: Mapping[str, str], messages: Sequence[bytes], *, closed: bool
) -> tuple[list[Any], dict[int, str]]:
    """What a table load makes of the messages as lines: rows, and errors by the message's number."""
    rule = OnMisfit.DISCARD_ROWS if closed else OnMisfit.DISCARD_COLUMNS
    # A first line of its own: a file that begins with a bracket is one array.
    start = b"#" if not columns else b"{"
    made = decode(start + b"\n" + b"\n".join(messages), contract=Contract(rule, Schema.of(columns)))
    return [list(row.values()) for row in made.rows], {line - 2: error for line, _, error in made.rejected if line > 1}


def comparable(value: Any) -> Any:
    """A form in which NaN equals itself, -0.0 differs from 0.0, and maps are their pairs."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    if isinstance(value, dict):
        return [(key, comparable(part)) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [comparable(part) for part in value]
    return getattr(value, "bytes", value)


def rows_of(frame: pl.DataFrame) -> list[Any]:
    """The rows of a frame as Arrow sees them."""
    columns = [[_value(one) for one in column] for column in frame.to_arrow().columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _value(one: pa.Scalar[Any]) -> Any:
    try:
        return comparable(one.as_py())
    except OverflowError:  # a time before year 1 or after 9999, which Python has no value for
        return one.value  # of times


def told(made: Decoded) -> dict[int, str]:
    """What a codec could not read, and why."""
    return {each.index: each.error for each in made.bad}
