"""Avro feeds: every record of every type, in bounded memory; truncated and corrupt files say where."""

from __future__ import annotations

import base64
import gzip
import io
import itertools
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.avro import container, feed_of, long, read, record, snappy, streamed, written
from harness.examples import few
from tidemill.adapters.arrow import avro
from tidemill.adapters.arrow.avro import read_avro
from tidemill.adapters.arrow.detect import open_feed, unpacked_feed
from tidemill.model.errors import DecodeError
from tidemill.ports.decoder import DecodeOptions, Feed

HINT = "fetch the file again (--refetch)"


def column(kind: Any, values: list[Any]) -> tuple[pa.DataType, list[Any]]:
    """What a column of that Avro type becomes, when fastavro wrote it."""
    table = read(written(record(c=kind), [{"c": value} for value in values]))
    return table.schema.field("c").type, table.column("c").to_pylist()


# Every type, against fastavro's writer.

LEAVES: list[tuple[Any, st.SearchStrategy[Any], Callable[[Any], Any]]] = [
    ("null", st.none(), lambda v: v),
    ("boolean", st.booleans(), lambda v: v),
    ("int", st.integers(-(2**31), 2**31 - 1), lambda v: v),
    ("long", st.integers(-(2**63), 2**63 - 1), lambda v: v),
    ("float", st.floats(width=32, allow_nan=False), lambda v: v),
    ("double", st.floats(allow_nan=False), lambda v: v),
    ("bytes", st.binary(max_size=5), lambda v: v),
    ("string", st.text(max_size=5), lambda v: v),
    ({"type": "string", "avro.java.string": "String"}, st.text(max_size=5), lambda v: v),
    ({"type": "enum", "symbols": ["A", "B", "C"]}, st.sampled_from("ABC"), lambda v: v),
    ({"type": "fixed", "size": 3}, st.binary(min_size=3, max_size=3), lambda v: v),
    (
        {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 5},
        st.decimals(-(10**33) + 1, 10**33 - 1, places=5),
        lambda v: v,
    ),
    (
        {"type": "fixed", "size": 6, "logicalType": "decimal", "precision": 12, "scale": 2},
        st.decimals(-(10**10) + 1, 10**10 - 1, places=2),
        lambda v: v,
    ),
    ({"type": "int", "logicalType": "date"}, st.dates(), lambda v: v),
    (
        {"type": "int", "logicalType": "time-millis"},
        st.times(),
        lambda v: v.replace(microsecond=v.microsecond // 1000 * 1000),
    ),
    ({"type": "long", "logicalType": "time-micros"}, st.times(), lambda v: v),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        st.datetimes(timezones=st.just(UTC)).map(lambda v: v.replace(microsecond=v.microsecond // 1000 * 1000)),
        lambda v: v,
    ),
    ({"type": "long", "logicalType": "timestamp-micros"}, st.datetimes(timezones=st.just(UTC)), lambda v: v),
    ({"type": "long", "logicalType": "local-timestamp-micros"}, st.datetimes(), lambda v: v),
    ({"type": "string", "logicalType": "uuid"}, st.uuids(), str),
]


NUMBERS = itertools.count()


@st.composite
def typed(draw: st.DrawFn, depth: int = 3) -> tuple[Any, st.SearchStrategy[Any], Callable[[Any], Any]]:
    """An Avro type, values that it holds, and what the column shows for a value."""
    shape = draw(st.sampled_from(["leaf", "leaf", "nullable", "array", "map", "record"])) if depth else "leaf"
    if shape == "leaf":
        kind, values, shown = draw(st.sampled_from(LEAVES))
        if isinstance(kind, dict) and kind["type"] in ("enum", "fixed"):
            kind = {**kind, "name": f"n{next(NUMBERS)}"}
        return kind, values, shown
    if shape == "record":
        parts = draw(st.lists(typed(depth - 1), min_size=1, max_size=3))
        kind = {"type": "record", "name": f"n{next(NUMBERS)}", "fields": []}
        kind["fields"] = [{"name": f"f{i}", "type": part[0]} for i, part in enumerate(parts)]
        values = st.fixed_dictionaries({f"f{i}": part[1] for i, part in enumerate(parts)})
        return kind, values, lambda v: {f"f{i}": part[2](v[f"f{i}"]) for i, part in enumerate(parts)}
    inner, values, shown = draw(typed(depth - 1))
    if shape == "map":
        entries = st.dictionaries(st.text(max_size=3), values, max_size=3)
        return {"type": "map", "values": inner}, entries, lambda v: [(key, shown(each)) for key, each in v.items()]
    nothing = inner == "null" or (isinstance(inner, dict) and inner["type"] == "record")
    if shape == "array" and not nothing:
        return {"type": "array", "items": inner}, st.lists(values, max_size=3), lambda v: [shown(each) for each in v]
    if inner == "null" or isinstance(inner, list):
        return inner, values, shown
    branches = draw(st.permutations(["null", inner]))
    return branches, st.none() | values, lambda v: None if v is None else shown(v)


@given(data=st.data(), case=typed(), codec=st.sampled_from(["null", "deflate", "bzip2", "xz"]))
@settings(max_examples=few(80), deadline=None)
def test_what_fastavro_writes_is_read(data: st.DataObject, case: tuple[Any, Any, Any], codec: str) -> None:
    """Any type, any nesting, several blocks: the same values, and a type that does not depend on them."""
    kind, values, shown = case
    rows = data.draw(st.lists(values, max_size=8))
    records = [{"id": number, "c": value} for number, value in enumerate(rows)]
    table = read(written(record(id="long", c=kind), records, codec=codec, sync_interval=40))
    assert table.column("id").to_pylist() == list(range(len(rows)))
    assert table.column("c").to_pylist() == [shown(value) for value in rows]
    assert read(written(record(id="long", c=kind), [])).schema == table.schema


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("null", pa.null()),
        ("int", pa.int32()),
        ("long", pa.int64()),
        ("float", pa.float32()),
        ("double", pa.float64()),
        ("bytes", pa.binary()),
        ({"type": "fixed", "name": "f", "size": 2}, pa.binary()),
        ({"type": "enum", "name": "e", "symbols": ["A"]}, pa.string()),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, pa.decimal128(9, 2)),
        ({"type": "bytes", "logicalType": "decimal", "precision": 39, "scale": 2}, pa.string()),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 9}, pa.binary()),
        ({"type": "int", "logicalType": "date"}, pa.date32()),
        ({"type": "int", "logicalType": "time-millis"}, pa.time64("us")),
        ({"type": "long", "logicalType": "timestamp-millis"}, pa.timestamp("us", "UTC")),
        ({"type": "long", "logicalType": "timestamp-nanos"}, pa.timestamp("us", "UTC")),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, pa.timestamp("us")),
        ({"type": "long", "logicalType": "of the future"}, pa.int64()),
        ({"type": "string", "logicalType": "uuid"}, pa.string()),
        ({"type": "array", "items": "int"}, pa.list_(pa.int32())),
        ({"type": "map", "values": "int"}, pa.map_(pa.string(), pa.int32())),
        (["null", "int"], pa.int32()),
        (["int"], pa.int32()),
        (["null"], pa.null()),
        (["null", "int", "long"], pa.int64()),
        (["int", "double"], pa.float64()),
        (["long", "double"], pa.string()),
        (["null", "string", "long"], pa.string()),
        ({"type": "record", "name": "n", "fields": []}, pa.null()),
    ],
)
def test_a_file_without_records_knows_its_columns(kind: Any, expected: pa.DataType) -> None:
    """One batch of no rows, first record 1."""
    ((batch, first),) = read_avro(feed_of(container(record(a=kind, b="string"), [])), DecodeOptions())
    assert (batch.num_rows, first) == (0, 1)
    assert batch.schema == pa.schema([("a", expected), ("b", pa.string())])


def test_nanoseconds_are_rounded_down_to_microseconds() -> None:
    """Before 1970 too; with and without zone."""
    values = [1999, -1, -1001]
    moments = [datetime(1970, 1, 1) + timedelta(microseconds=value // 1000) for value in values]
    assert column({"type": "long", "logicalType": "local-timestamp-nanos"}, values)[1] == moments
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    assert column({"type": "long", "logicalType": "timestamp-nanos"}, values)[1] == aware


def test_moments_beyond_pythons_years_are_read() -> None:
    """A `datetime` ends with the year 9999, a column does not."""
    data = container(record(c={"type": "long", "logicalType": "timestamp-micros"}), [(1, long(2**62))])
    assert read(data).column("c").cast(pa.int64()).to_pylist() == [2**62]


def test_long_decimals_become_text() -> None:
    """Kafka Connect's default precision is 64; the digits stay exact."""
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 64, "scale": 3}
    unscaled = [0, 5, -5, 10**50, -(10**50) - 1]
    data = container(
        record(c=kind),
        [(1, long(22) + value.to_bytes(22, "big", signed=True)) for value in unscaled],
    )
    texts = ["0.000", "0.005", "-0.005", f"1{'0' * 47}.000", f"-1{'0' * 47}.001"]
    assert read(data).column("c").to_pylist() == texts


def test_fixed_logical_types() -> None:
    """A uuid of 16 bytes is its text; a duration is three numbers."""
    one = uuid.UUID(int=7)
    data = container(
        record(
            u={"type": "fixed", "name": "u", "size": 16, "logicalType": "uuid"},
            d=["null", {"type": "fixed", "name": "d", "size": 12, "logicalType": "duration"}],
        ),
        [
            (1, one.bytes + long(1) + b"\x01\0\0\0\x02\0\0\0\xff\xff\xff\xff"),
            (1, one.bytes + long(0)),
        ],
    )
    duration = {"months": 1, "days": 2, "millis": 2**32 - 1}
    assert read(data).to_pylist() == [{"u": str(one), "d": duration}, {"u": str(one), "d": None}]


def test_a_union_of_several_types_is_json_text() -> None:
    """Each branch as JSON, logical types as their text; null stays null."""
    inner = {
        "type": "record",
        "name": "inner",
        "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}},
            {"name": "any", "type": ["null", "long", "string"]},
            {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["A", "B"]}},
            {"name": "map", "type": {"type": "map", "values": ["null", "int"]}},
        ],
    }
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    nested = {"at": moment, "price": Decimal("1.50"), "any": "x", "kind": "B", "map": {"k": 1, "n": None}}
    values = [None, 7, "a", True, b"\x00\xff", [1, 2], nested, {**nested, "any": None}]
    kind, texts = column(
        ["null", "long", "string", "boolean", "bytes", {"type": "array", "items": "int"}, inner], values
    )
    assert kind == pa.string()
    expected = '{"at":"2026-01-02T00:00:00Z","price":1.50,"any":%s,"kind":"B","map":{"k":1,"n":null}}'
    encoded = base64.b64encode(b"\x00\xff").decode()
    assert texts == [None, "7", '"a"', "true", f'"{encoded}"', "[1,2]", expected % '"x"', expected % "null"]


def test_branches_of_one_python_type_are_told_apart() -> None:
    """Two records, and two fixed types, in one union: the encoded branch decides."""
    day = {"type": "int", "logicalType": "date"}
    union = [day, {"type": "enum", "name": "e", "symbols": ["X"]}, {"type": "fixed", "name": "f", "size": 1}, "string"]
    blocks = [(1, long(0) + long(1)), (1, long(1) + long(0)), (1, long(2) + b"a"), (1, long(3) + long(1) + b"X")]
    assert read(container(record(c=union), blocks)).column("c").to_pylist() == ['"1970-01-02"', '"X"', '"YQ=="', '"X"']


def test_unions_of_numbers_are_numbers_where_nothing_is_lost() -> None:
    """An int and a long; an int and a double. A long beside a double stays text."""
    assert column(["int", "long"], [1, 2**40])[1] == [1, 2**40]
    assert column(["null", "int", "double"], [1, 1.5, None])[1] == [1.0, 1.5, None]
    assert column(["long", "double"], [2**60 + 1, 1.5])[1] == [str(2**60 + 1), "1.5"]


def test_named_types_are_found_in_their_namespace() -> None:
    """Defined once, used again by full name, by short name, and within another namespace."""
    schema = {
        "type": "record",
        "name": "root",
        "namespace": "a.b",
        "fields": [
            {"name": "x", "type": {"type": "record", "name": "p", "fields": [{"name": "v", "type": "int"}]}},
            {"name": "y", "type": ["null", "p"]},
            {"name": "z", "type": {"type": "array", "items": "a.b.p"}},
            {
                "name": "w",
                "type": {
                    "type": "record",
                    "name": "c.d.q",
                    "fields": [
                        {"name": "o", "type": {"type": "fixed", "name": "p", "size": 1}},
                        {"name": "s", "type": "p"},
                    ],
                },
            },
            {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A", "B"]}},
            {"name": "f", "type": {"type": "map", "values": "e"}},
        ],
    }
    row = {"x": {"v": 1}, "y": {"v": 2}, "z": [{"v": 3}], "w": {"o": b"k", "s": b"l"}, "e": "B", "f": {"m": "A"}}
    assert read(written(schema, [row, {**row, "y": None}])).to_pylist() == [
        {**row, "f": [("m", "A")]},
        {**row, "y": None, "f": [("m", "A")]},
    ]


@pytest.mark.parametrize("schema", ["long", ["null", "string"], {"type": "array", "items": "int"}])
def test_files_of_other_things_than_records_have_one_column(schema: Any) -> None:
    """Named `value`."""
    rows: list[Any] = {"long": [1, 2], "null": [None, "a"], "array": [[1], []]}[
        schema if isinstance(schema, str) else schema[0] if isinstance(schema, list) else schema["type"]
    ]
    assert read(written(schema, rows)).to_pylist() == [{"value": value} for value in rows]


def test_field_names_are_free() -> None:
    """Other tools write names that Avro forbids."""
    data = container({"type": "record", "name": "a-b", "fields": [{"name": "odd name", "type": "int"}]}, [(1, long(5))])
    assert read(data).to_pylist() == [{"odd name": 5}]


def test_blocks_of_arrays_with_their_size_are_read() -> None:
    """Avro lets a writer give an array in pieces, each with a negative count and its bytes."""
    data = long(-2) + long(2) + long(1) + long(2) + long(1) + long(3) + long(0)
    assert read(container(record(c={"type": "array", "items": "int"}), [(1, data)])).column("c").to_pylist() == [
        [1, 2, 3]
    ]


def test_an_empty_block_ends_nothing() -> None:
    """Writers that flush make blocks without records."""
    data = container(record(c="int"), [(0, b""), (1, long(1)), (0, b""), (2, long(2) + long(3))])
    assert read(data).column("c").to_pylist() == [1, 2, 3]


def test_records_without_fields_are_counted() -> None:
    """They have no columns, and there are so many."""
    batches = list(read_avro(feed_of(container(record(), [(3, b"")])), DecodeOptions()))
    assert [(batch.num_rows, first) for batch, first in batches] == [(3, 1)]


@pytest.mark.parametrize(
    ("codec", "pack"),
    [("snappy", snappy), ("zstandard", zstandard.ZstdCompressor().compress), ("zstandard", streamed)],
    ids=["snappy", "zstandard", "zstandard without size"],
)
def test_codecs_that_fastavro_lacks(codec: str, pack: Callable[[bytes], bytes]) -> None:
    """Read, checked, and told when damaged."""
    blocks = [(1000, b"".join(long(i) for i in range(1000))), (1, long(1000))]
    data = container(record(c="long"), [(count, pack(raw)) for count, raw in blocks], codec)
    assert read(data).column("c").to_pylist() == list(range(1001))
    packed = bytearray(pack(blocks[1][1]))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(DecodeError) as caught:
        read(container(record(c="long"), [(1000, pack(blocks[0][1])), (1, bytes(packed))], codec))
    assert caught.value.where in ("a.avro after record 1000", "a.avro record 1001")


def test_batches_follow_the_width_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks are joined, large ones are cut; first numbers go on."""
    monkeypatch.setattr(avro, "BATCH_BYTES", 10_000)
    rows = [{"id": number, "s": "x" * 90} for number in range(1000)]
    for interval in (500, 1_000_000):
        data = written(record(id="long", s="string"), rows, sync_interval=interval)
        sizes = [(batch.num_rows, first) for batch, first in read_avro(feed_of(data), DecodeOptions())]
        assert sum(size for size, _ in sizes) == 1000
        assert all(60 <= size <= 130 for size, _ in sizes[:-1])
    assert read(data).to_pylist() == rows


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_packed_file_is_read_through_the_decoders_own_unpacking(pack: Callable[[bytes], bytes]) -> None:
    """As the decoder opens it: found by content, unpacked as a stream."""
    rows = [{"c": number} for number in range(1000)]
    opened = open_feed(feed_of(pack(written(record(c="int"), rows))), DecodeOptions())
    assert opened.format == "avro"
    ((batch, _),) = read_avro(unpacked_feed(opened, seekable=False), DecodeOptions())
    assert batch.to_pylist() == rows


def test_the_stream_is_closed_when_the_reader_is_left_early() -> None:
    """No file stays open."""
    stream = io.BytesIO(written(record(c="int"), [{"c": 1}]))
    batches = read_avro(Feed("a", lambda: stream, 100), DecodeOptions())
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # the generator's own method, which Iterator lacks
    assert stream.closed


def test_dates_are_dates() -> None:
    """A plain look at common logical types."""
    assert column({"type": "int", "logicalType": "date"}, [date(2026, 1, 2), date(1, 1, 1)])[1] == [
        date(2026, 1, 2),
        date(1, 1, 1),
    ]
