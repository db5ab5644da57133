"""Conformance of the port `records`: what a value says comes back from the archive, or its record is refused."""

from __future__ import annotations

import base64
import collections
import datetime as dt
import enum
import gzip
import io
import json
import math
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from zoneinfo import ZoneInfo

import fastavro
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.avro import read
from harness.encoded import WriteOnly, encoded
from harness.examples import few
from tidemill.adapters.records import encoder
from tidemill.adapters.records.encoder import ArchiveRecordEncoder
from tidemill.ports.records import RecordEncoder

ADAPTERS: dict[str, Callable[[], RecordEncoder]] = {"archive": ArchiveRecordEncoder}
FORMATS = [("jsonl", "zstd"), ("jsonl", "gzip"), ("jsonl", "none"), ("avro", "zstd"), ("avro", "none")]


@pytest.fixture(params=ADAPTERS)
def records(request: pytest.FixtureRequest) -> RecordEncoder:
    return ADAPTERS[request.param]()


def lines_of(data: bytes, compression: str = "none") -> list[str]:
    if compression == "zstd":
        data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    elif compression == "gzip":
        data = gzip.decompress(data)
    assert data == b"" or data.endswith(b"\n")
    return data.decode().split("\n")[:-1]  # `splitlines` would also split at characters within strings


class Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


def parsed(line: str) -> Any:
    return json.loads(line, parse_int=Number, parse_float=Number, parse_constant=Number)


def missing(value: Any) -> bool:
    """True for None and NaN, a decimal's signalling one too."""
    return value is None or (
        value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and value != value
    )


def says(found: Any, value: Any) -> bool:
    """True where what was read from JSON says the same as the value that was written."""
    if missing(value):
        return found is None
    if isinstance(value, bool | str):
        return type(found) is type(value) and found == value
    if isinstance(value, int):
        return isinstance(found, Number) and int(found) == value
    if isinstance(value, float):
        return (
            isinstance(found, Number)
            and math.copysign(1, float(found)) == math.copysign(1, value)
            and float(found) == value
        )
    if isinstance(value, Decimal):
        return isinstance(found, Number) and Decimal(found).as_tuple() == value.as_tuple()
    if isinstance(value, bytes):
        return base64.b64decode(found, validate=True) == value
    if isinstance(value, dt.datetime):
        again = dt.datetime.fromisoformat(found)
        return again == value and again.utcoffset() == value.utcoffset()
    if isinstance(value, dt.time):
        again_time = dt.time.fromisoformat(found)
        return again_time == value and again_time.utcoffset() == value.utcoffset()
    if isinstance(value, dt.date):
        return dt.date.fromisoformat(found) == value
    if isinstance(value, uuid.UUID):
        return uuid.UUID(found) == value
    if isinstance(value, dict):
        return list(found) == list(value) and all(says(found[key], each) for key, each in value.items())
    return len(found) == len(value) and all(map(says, found, value))


OFFSETS = st.none() | st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "bytes": st.binary(),
    "decimal": st.decimals(allow_infinity=False),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": st.datetimes(),
    "timestamptz": st.datetimes(timezones=st.just(dt.UTC)),
    "uuid": st.uuids(),
}
ANYTHING = st.recursive(
    st.none()
    | st.one_of(list(SCALARS.values()))
    | st.integers()
    | st.times(timezones=OFFSETS)
    | st.datetimes(timezones=OFFSETS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(rows=st.lists(st.dictionaries(st.text('abä "\\\n'), ANYTHING, max_size=4), max_size=6))
@settings(max_examples=few(80), deadline=None)
def test_json_lines_say_what_the_values_said(rows: list[dict[str, Any]]) -> None:
    """Any record comes back line by line: keys in order, digits, offsets, bytes."""
    found = [parsed(line) for line in lines_of(encoded(rows))]
    assert len(found) == len(rows)
    for line, row in zip(found, rows, strict=True):
        assert says(line, row)


@st.composite
def typed_columns(draw: st.DrawFn, depth: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """Records whose columns have one type each, as Avro needs them; a key may be missing."""
    columns: dict[str, st.SearchStrategy[Any]] = {}
    for name in draw(st.lists(st.sampled_from(["a", "b", "a_b", "_c"]), unique=True, max_size=3)):
        shape = draw(st.sampled_from(["scalar", "scalar", "list", "record"])) if depth else "scalar"
        if shape == "record":
            inner = draw(typed_columns(depth - 1))
        else:
            inner = SCALARS[draw(st.sampled_from(sorted(SCALARS)))] | st.none()
        columns[name] = st.none() | (st.lists(inner, max_size=3) if shape == "list" else inner)
    return st.fixed_dictionaries({}, optional=columns)


def same(found: Any, value: Any) -> bool:
    """True where what was read from Avro says the same as the value; a column's records have all its keys."""
    if missing(value):
        return found is None
    if isinstance(value, dict):
        found = found or {}  # a record in which no value was ever seen has no columns
        return set(value) <= set(found) | {key for key, each in value.items() if each is None} and all(
            same(each, value.get(key)) for key, each in found.items()
        )
    if isinstance(value, list):
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, uuid.UUID):
        return str(found) == str(value)
    if isinstance(value, Decimal):
        return Decimal(found) == value
    return bool(found == value)


@given(data=st.data(), columns=typed_columns(), compression=st.sampled_from(["none", "zstd"]))
@settings(max_examples=few(80), deadline=None)
def test_avro_says_what_the_values_said(
    data: st.DataObject, columns: st.SearchStrategy[dict[str, Any]], compression: str
) -> None:
    """Read by fastavro, and by the reader that loads the archive."""
    rows = data.draw(st.lists(columns, max_size=6))
    archived = encoded(rows, "avro", compression)
    by_fastavro = list(fastavro.reader(io.BytesIO(archived)))
    assert len(by_fastavro) == len(rows)
    assert all(map(same, by_fastavro, rows))
    table = read(archived)
    assert table.num_rows == len(rows) or not table.num_columns
    if table.num_columns:
        assert all(map(same, table.to_pylist(), rows))
    order = dict.fromkeys(key for row in rows for key in row)
    assert table.column_names == list(order)


@pytest.mark.parametrize(("form", "compression"), FORMATS)
def test_the_file_is_what_its_extension_says(records: RecordEncoder, form: str, compression: str) -> None:
    """Lines of JSON, packed as named; Avro packs inside its container."""
    rows = [{"id": number, "name": "ä" * 50} for number in range(5000)]
    data = encoded(rows, form, compression, records)
    extension = records.extension(form, compression)
    if form == "avro":
        assert extension == ".avro"
        assert list(fastavro.reader(io.BytesIO(data))) == rows
        assert (len(data) < 100_000) is (compression != "none")
    else:
        assert extension == {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}[compression]
        assert [json.loads(line) for line in lines_of(data, compression)] == rows


@pytest.mark.parametrize(("form", "compression"), FORMATS)
def test_the_same_records_give_the_same_bytes(records: RecordEncoder, form: str, compression: str) -> None:
    """No time and no random mark inside, and sets in one order: a replayed extraction can be compared by hash."""
    rows = [{"id": number, "tags": {"x", "y", "zz", str(number)}} for number in range(100)]
    assert encoded(rows, form, compression, records) == encoded(rows, form, compression, records)
    other = [{"id": number, "tags": frozenset([str(number), "zz", "y", "x"])} for number in range(100)]
    assert encoded(rows, form, compression, records) == encoded(other, form, compression, records)


@pytest.mark.parametrize(("form", "compression"), FORMATS)
def test_no_records_give_a_file_without_records(records: RecordEncoder, form: str, compression: str) -> None:
    """It can be read."""
    data = encoded([], form, compression, records)
    assert (list(fastavro.reader(io.BytesIO(data))) if form == "avro" else lines_of(data, compression)) == []


def test_records_without_columns_are_counted(records: RecordEncoder) -> None:
    """Empty mappings are records."""
    assert lines_of(encoded([{}, {}], adapter=records)) == ["{}", "{}"]
    assert list(fastavro.reader(io.BytesIO(encoded([{}, {}], "avro", adapter=records)))) == [{}, {}]


def test_the_order_of_records_and_keys_stays(records: RecordEncoder) -> None:
    """Also where records have them in different orders; Avro has the order in which they came."""
    rows = [{"b": 1, "a": 2}, {"a": 3, "b": 4, "c": 5}]
    assert lines_of(encoded(rows, adapter=records)) == ['{"b":1,"a":2}', '{"a":3,"b":4,"c":5}']
    assert read(encoded(rows, "avro", adapter=records)).column_names == ["b", "a", "c"]


@pytest.mark.parametrize("form", ["jsonl", "avro"])
def test_a_source_may_yield_one_mapping_again_and_again(records: RecordEncoder, form: str) -> None:
    """Each record is what it was when it was yielded, nested parts too."""

    def rows() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"l": []}
        for number in range(3):
            row["id"] = number
            row["l"].append(number)
            yield row

    out = io.BytesIO()
    assert records.encode(out, rows(), form, "none") == 3
    found = (
        read(out.getvalue()).to_pylist() if form == "avro" else [json.loads(line) for line in lines_of(out.getvalue())]
    )
    assert found == [{"l": list(range(number + 1)), "id": number} for number in range(3)]


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


LIBRARY_VALUES = [
    (math.nan, "null"),
    (Decimal("NaN"), "null"),
    (np.float64("nan"), "null"),
    (pd.NaT, "null"),
    (pd.NA, "null"),
    (np.datetime64("NaT"), "null"),
    (math.inf, "Infinity"),
    (-math.inf, "-Infinity"),
    (-0.0, "-0.0"),
    (np.int64(5), "5"),
    (np.bool_(True), "true"),
    (np.float32(0.1), "0.10000000149011612"),
    (np.str_("x"), '"x"'),
    (np.array([[1, 2], [3, 4]]), "[[1,2],[3,4]]"),
    (np.array([1.5, math.nan]), "[1.5,null]"),
    (np.datetime64("2026-01-02"), '"2026-01-02"'),
    (np.datetime64("2026-01-02T03:04:05.000006000", "ns"), '"2026-01-02T03:04:05.000006"'),
    (np.datetime64("2026-01-02T03:04:05.000006007", "ns"), '"2026-01-02T03:04:05.000006007"'),
    (np.array(["2026-01-02", "NaT"], "datetime64[D]"), '["2026-01-02",null]'),
    (pd.Timestamp("2026-01-02 03:04:05", tz="Asia/Kolkata"), '"2026-01-02T03:04:05+05:30"'),
    (pd.Timestamp("2026-01-02 03:04:05.000006007"), '"2026-01-02T03:04:05.000006007"'),
    (pd.Timestamp("2026-01-02 03:04:05.000006007", tz="UTC"), '"2026-01-02T03:04:05.000006007+00:00"'),
    (dt.datetime(1850, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=1050))), '"1849-12-31T23:42:30Z"'),
    (dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")), '"2026-10-25T02:30:00+01:00"'),
    (dt.timedelta(days=1, microseconds=5), '"P1DT0.000005S"'),
    (2**70, str(2**70)),
    (Decimal("1.50"), "1.50"),
    (Decimal("1" * 40 + "." + "2" * 40), "1" * 40 + "." + "2" * 40),
    (bytearray(b"\x00\xff"), '"AP8="'),
    (memoryview(b"\x00\xff"), '"AP8="'),
    ({3, 1, 2}, "[1,2,3]"),
    ({1, "a"}, '[1,"a"]'),
    ((1, None), "[1,null]"),
    (Colour.RED, '"red"'),
    (Level.HIGH, "3"),
    (collections.OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (MappingProxyType({"a": math.nan}), '{"a":null}'),
    ({1: 2}, '{"1":2}'),
    ("a\0b\u2028", '"a\\u0000b\u2028"'),
]


@pytest.mark.parametrize(
    ("value", "text"), LIBRARY_VALUES, ids=[f"{type(v).__name__} {t[:30]}" for v, t in LIBRARY_VALUES]
)
def test_values_of_other_libraries_as_json(records: RecordEncoder, value: Any, text: str) -> None:
    """What pandas, NumPy and the standard library hand out."""
    data = encoded([{"k": value}, {"k": [value]}], adapter=records)
    assert data.decode() == f'{{"k":{text}}}\n{{"k":[{text}]}}\n'


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (math.nan, None),
        (pd.NaT, None),
        (math.inf, math.inf),
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (pd.Timestamp("2026-01-02 03:04:05", tz="Asia/Kolkata"), dt.datetime(2026, 1, 1, 21, 34, 5, tzinfo=dt.UTC)),
        (np.datetime64("2026-01-02T03:04:05"), dt.datetime(2026, 1, 2, 3, 4, 5)),
        (pd.Timestamp("2026-01-02 03:04:05.000006007"), "2026-01-02T03:04:05.000006007"),
        (np.array([1, 2]), [1, 2]),
        ((1, None), [1, None]),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (bytearray(b"x"), b"x"),
        (Colour.RED, "red"),
        ([], []),
        ([None], [None]),
        ([{}], [None]),
        (Decimal("1E+5"), Decimal(100000)),
        (Decimal("-0.001"), Decimal("-0.001")),
    ],
)
def test_values_of_other_libraries_as_avro(records: RecordEncoder, value: Any, found: Any) -> None:
    """As the reader gives them; a time with an offset is the instant in UTC."""
    assert read(encoded([{"k": value}], "avro", adapter=records)).to_pylist() == [{"k": found}]


def test_data_frames_and_tables_come_through(records: RecordEncoder) -> None:
    """As their own rows: gaps are null, also in columns of text."""
    frame = pd.DataFrame({"n": [1.5, None], "s": ["a", None], "t": pd.to_datetime(["2026-01-02", None])})
    expected = [{"n": 1.5, "s": "a", "t": "2026-01-02T00:00:00"}, {"n": None, "s": None, "t": None}]
    rows = frame.to_dict(orient="records")
    assert [json.loads(line) for line in lines_of(encoded(rows, adapter=records))] == expected
    assert read(encoded(rows, "avro", adapter=records)).column("s").to_pylist() == ["a", None]
    table = pa.table({"d": [Decimal("1.50"), None], "m": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64()))})
    found = lines_of(encoded(table.to_pylist(maps_as_pydicts="strict"), adapter=records))
    assert found == ['{"d":1.50,"m":{"k":1}}', '{"d":null,"m":{}}']


def test_numbers_of_a_column_are_one_type_in_avro_where_nothing_is_lost(records: RecordEncoder) -> None:
    """Integers beside doubles become doubles; decimals get the digits that all of them need."""
    rows = [{"n": 1, "d": Decimal("10")}, {"n": 0.5, "d": Decimal("0.001")}, {"n": 2, "d": None}]
    table = read(encoded(rows, "avro", adapter=records))
    assert table.schema == pa.schema([("n", pa.float64()), ("d", pa.decimal128(5, 3))])
    assert table.column("n").to_pylist() == [1.0, 0.5, 2.0]


@pytest.mark.parametrize(("form", "compression"), FORMATS)
def test_errors_of_the_source_pass_through(records: RecordEncoder, form: str, compression: str) -> None:
    """A ValueError of the user's own generator is not taken for a value that cannot be written."""

    def broken() -> Iterator[dict[str, Any]]:
        yield {"k": 1}
        raise ValueError("the user's own")

    with pytest.raises(ValueError, match="the user's own"):
        records.encode(io.BytesIO(), broken(), form, compression)


@pytest.mark.parametrize(("form", "compression"), [("jsonl", "none"), ("avro", "none")])
def test_records_are_written_as_they_come(
    records: RecordEncoder, form: str, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, few are held; the output stays open."""
    monkeypatch.setattr(encoder, "_AVRO_SAMPLE", 1000)
    monkeypatch.setattr(encoder, "_AVRO_BLOCK", 10_000)
    pulled = 0
    held: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal pulled
        for number in range(20_000):
            pulled += 1
            yield {"id": number, "s": "x" * 20}

    out = WriteOnly()
    out.written = lambda: held.append(pulled)
    assert records.encode(cast(BinaryIO, out), rows(), form, compression) == 20_000
    assert held[0] <= 10_000
    assert len(held) >= 3
    buffer = io.BytesIO()
    records.encode(buffer, iter([{"k": 1}]), form, compression)
    assert not buffer.closed
