"""JSON Lines: types over the whole batch, exact values, and each silent habit of Arrow's reader kept out."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from harness.decoding import decode, feed
from tidemill.model.errors import DecodeError, LimitError
from tidemill.model.table import Contract, OnMisfit, Schema


def lines(*records: str) -> str:
    return "\n".join(records) + "\n"


@pytest.fixture(params=[1, 4 << 20], ids=["a block a line", "one block"])
def block(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_rows_come_out_as_they_went_in(block: int) -> None:
    made = decode(lines('{"a":1,"b":"x"}', '{"b":null,"c":[1,2]}', '{"a":-3,"c":[]}'), block=block)
    assert made.types == {"a": "long", "b": "string", "c": "list<long>"}
    assert made.rows == [
        {"a": 1, "b": "x", "c": None},
        {"a": None, "b": None, "c": [1, 2]},
        {"a": -3, "b": None, "c": []},
    ]
    assert made.rejected == []


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "2.5"], "double", [1.0, 2.5]),
        (["9007199254740992", "0.5"], "double", [2.0**53, 0.5]),
        (["9007199254740993", "0.5"], "string", ["9007199254740993", "0.5"]),
        (["0.5", "9007199254740993"], "string", ["0.5", "9007199254740993"]),
        (["9223372036854775807"], "long", [2**63 - 1]),
        (["9223372036854775808", "1"], "decimal(38,0)", [Decimal(2**63), Decimal(1)]),
        (["1", "1234567890123456789012"], "decimal(38,0)", [Decimal(1), Decimal("1234567890123456789012")]),
        (["1234567890123456789012", "1.0"], "string", ["1234567890123456789012", "1.0"]),
        (["9" * 39, "1"], "string", ["9" * 39, "1"]),
        (["1e20", "5"], "double", [1e20, 5.0]),
        (["1e400", "5"], "string", ["1e400", "5"]),
        (["NaN", "1"], "double", ["nan", 1.0]),
        (["Infinity", "-Infinity", "1"], "double", [float("inf"), float("-inf"), 1.0]),
        (['"NaN"', "1.5"], "string", ["NaN", "1.5"]),
        (["true", "false"], "boolean", [True, False]),
        (["true", "1"], "string", ["true", "1"]),
        (["1", '"x"', "1.50", "null", "true"], "string", ["1", "x", "1.50", None, "true"]),
        (["1", '{"b": 1.50}'], "string", ["1", '{"b":1.50}']),
        (['"x"', '[1, {"y":null}]'], "string", ["x", '[1,{"y":null}]']),
        (["[1]", "[2.5]", "[]"], "list<double>", [[1.0], [2.5], []]),
        (["[1]", '["x"]'], "list<string>", [["1"], ["x"]]),
        (["[[1],[]]", "[null]"], "list<list<long>>", [[[1], []], [None]]),
        (['{"x":1}', '{"y":"z"}'], "struct<x:long,y:string>", [{"x": 1, "y": None}, {"x": None, "y": "z"}]),
        (['{"x":1}', '{"x":"a"}'], "struct<x:string>", [{"x": "1"}, {"x": "a"}]),
        (['{"x":1}', "[1]"], "string", ['{"x":1}', "[1]"]),
        (['"2024-02-29"', "null"], "date", [dt.date(2024, 2, 29), None]),
        (['"2024-02-29"', '"2024-03-01 10:00:00.5"'], "timestamp",
         [dt.datetime(2024, 2, 29), dt.datetime(2024, 3, 1, 10, 0, 0, 500000)]),
        (['"2024-02-29T10:00:00Z"', '"2024-02-29T10:00:00.25+02:00"'], "timestamptz",
         [dt.datetime(2024, 2, 29, 10, tzinfo=dt.UTC), dt.datetime(2024, 2, 29, 8, 0, 0, 250000, tzinfo=dt.UTC)]),
        (['"2024-02-29T10:00Z"', '"2024-02-29T10:00"'], "string", ["2024-02-29T10:00Z", "2024-02-29T10:00"]),
        (['"2024-02-29"', '"2024-02-30"'], "string", ["2024-02-29", "2024-02-30"]),
        (['"2024-02-29"', '""'], "string", ["2024-02-29", ""]),
        (['"2024-02-29T10:00:00.1234567"'], "string", ["2024-02-29T10:00:00.1234567"]),
        (['"12"', '"007"'], "string", ["12", "007"]),
        ([r'"a\u0000b"', r'"\ud83d\ude00"', '"é"'], "string", ["a\0b", "😀", "é"]),
        (["-0", "0"], "long", [0, 0]),
    ],
)  # fmt: skip
def test_types_hold_every_value_without_loss(values: list[str], kind: str, expected: list[Any], block: int) -> None:
    made = decode(lines(*(f'{{"v":{value}}}' for value in values)), block=block)
    assert made.types == {"v": kind}
    assert [str(row["v"]) if e == "nan" else row["v"] for row, e in zip(made.rows, expected, strict=True)] == expected
    assert made.rejected == []


def test_what_has_only_held_nulls_is_no_column_yet(block: int) -> None:
    made = decode(lines('{"a":null,"b":[],"c":{},"d":[{}],"e":{"x":null},"f":1}'), block=block)
    assert made.types == {"f": "long"}
    assert decode(lines('{"a":null}', "{}"), block=block).rows == [{}, {}]


def test_a_late_type_does_not_lose_what_came_before_it(block: int) -> None:
    made = decode(lines('{"a":[],"b":null,"s":{}}', '{"a":["x"],"b":2,"s":{"t":1}}'), block=block)
    assert made.rows == [{"a": [], "b": None, "s": {"t": None}}, {"a": ["x"], "b": 2, "s": {"t": 1}}]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("broken", "not JSON: expecting value at position 1"),
        ('{"a":1', "not JSON: expecting ',' delimiter at position 7"),
        ('{"a":01}', "not JSON: expecting ',' delimiter at position 7"),
        ('{"a":+1}', "not JSON: expecting value at position 6"),
        ('{"a":"x\ty"}', "not JSON: invalid control character at at position 8"),
        (r'{"a":"\x"}', r"not JSON: invalid \escape at position 7"),
        (r'{"a":"\ud800"}', "not Unicode: half of a surrogate pair stands alone"),
        (r'{"a":"\udc00"}', "not Unicode: half of a surrogate pair stands alone"),
        ('{"a":1} x', "not JSON: extra data at position 9"),
        ('{"a":1}{"a":2}', "not JSON: extra data at position 8"),
        ("5", "not a JSON object: 5"),
        ("null", "not a JSON object: null"),
        ('[{"a":1}]', 'not a JSON object: [{"a":1}]'),
        ('{"a":1,"a":2}', 'the key "a" appears twice'),
        (r'{"a":1,"\u0061":2}', 'the key "a" appears twice'),
        ('{"s":{"b":1,"b":2}}', 'the key "s.b" appears twice'),
        ('{"b":1,"B":2}', 'the key "B" differs from "b" only in case'),
        ('{"A":2}', 'the key "A" differs from "a" only in case'),
        ('{"s":{"b":1,"B":2}}', 'the key "s.B" differs from "s.b" only in case'),
    ],
)
def test_broken_lines_are_rejected_alone(line: str, error: str, block: int) -> None:
    made = decode(lines('{"a":0}', line, '{"a":9}'), block=block)
    assert made.rejected == [(2, line, error)]
    assert made.rows == [{"a": 0}, {"a": 9}]


def test_a_record_over_two_lines_is_two_broken_lines(block: int) -> None:
    made = decode('{"a":1}{"a":2}\n{"a":\n3}\n{"a":4}\n', block=block)
    assert [line for line, _, _ in made.rejected] == [1, 2, 3]
    assert made.rows == [{"a": 4}]


@pytest.mark.parametrize("raw", [b'{"a":"x\0y"}', b'{"a":1}\0', b'\0\0\0{"a":1}', b"\0"])
def test_nul_bytes_are_rejected(raw: bytes, block: int) -> None:
    made = decode(b'{"a":0}\n' + raw + b'\n{"a":1}\n', block=block)
    place = raw.index(0) + 1
    assert made.rejected == [(2, raw.decode().replace("\0", "\\x00"), f"not JSON: a NUL byte at position {place}")]
    assert [row["a"] for row in made.rows] == [0, 1]


def test_bytes_that_are_no_utf8_are_rejected(block: int) -> None:
    made = decode(b'{"a":"\xc3\xa9"}\n{"a":"\xff\xfe"}\n{"a\xff":1}\n{"a":"z"}\n', block=block)
    assert made.rejected == [
        (2, '{"a":"\\xff\\xfe"}', "not UTF-8: byte 0xff at position 7"),
        (3, '{"a\\xff":1}', "not UTF-8: byte 0xff at position 4"),
    ]
    assert made.rows == [{"a": "é"}, {"a": "z"}]


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"a":1}\n{"a":2}\n',
        b'{"a":1}\r\n{"a":2}\r\n',
        b'\n  {"a":1}  \n\n\t\n{"a":2}',
        '{"a":1}\n{"a":2}'.encode("utf-16"),
        b'[{"a":1},{"a":2}]',
        b'\xef\xbb\xbf [\n {"a":1}\n,\n {"a"\n:2}\n]\n',
        b'[{"a":1},\n{"a":2}]\n',
    ],
)
def test_marks_line_ends_and_arrays(data: bytes, block: int) -> None:
    made = decode(data, block=block)
    assert made.rows == [{"a": 1}, {"a": 2}]
    assert made.rejected == []


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]", b" [ ] ", b"\xef\xbb\xbf"])
def test_empty_files_have_no_rows(data: bytes) -> None:
    assert decode(data, "feed.json").rows == []


def test_elements_of_an_array_are_counted_and_rejected_alone(block: int) -> None:
    made = decode('[{"a":1}, 5, {"a":"x\\ny","b":[1,2]}, {"a":1,"a":2}, {"a":NaN}]', block=block)
    assert made.rejected == [(2, "5", "not a JSON object: 5"), (4, '{"a":1,"a":2}', 'the key "a" appears twice')]
    assert [row["a"] for row in made.rows] == ["1", "x\ny", "NaN"]


@pytest.mark.parametrize(
    ("data", "why", "element"),
    [
        ('[{"a":1},{"a":2}', "it ends in the middle", 3),
        ('[{"a":1},{"a":', "expecting value", 2),
        ('[{"a":1}{"a":2}]', "a comma or the closing bracket is missing", 2),
        ('[{"a":1},{"a":x}]', "expecting value", 2),
        ('[{"a":1},]', "expecting value", 2),
        ('[{"a":1}] {"a":2}', "something follows the closing bracket", 2),
    ],
)
def test_a_broken_array_is_one_error(data: str, why: str, element: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data, "feed.json")
    assert str(caught.value) == f"The JSON array in feed.json is broken: {why}.\n  at: feed.json, element {element}"


@pytest.mark.parametrize("name", ["_batch_id", "_loaded_at", "_Batch_Id"])
@pytest.mark.parametrize("on_misfit", list(OnMisfit))
def test_system_columns_are_an_error(name: str, on_misfit: OnMisfit, block: int) -> None:
    contract = Contract(on_misfit, Schema.of({"a": "long"}))
    with pytest.raises(DecodeError) as caught:
        decode(lines('{"a":1}', f'{{"a":1,"{name}":2}}'), block=block, contract=contract)
    assert str(caught.value) == (
        f'The input has a column "{name}", which Tidemill adds to every table itself.\n'
        "  at: feed.jsonl line 2\n  try: rename it in the source"
    )


def test_odd_names_are_kept_as_they_are(block: int) -> None:
    names = ["", " a b ", 'say "hi"', "select", "é", "a.b", "x\n", "123", "a\0b", "-"]
    record = "{" + ",".join(f"{json.dumps(name)}:{i}" for i, name in enumerate(names)) + "}"
    made = decode(lines(record, '{"-":7,"bad"'), block=block)
    assert made.rows == [{name: i for i, name in enumerate(names)}]
    assert list(made.types) == names


def test_ten_thousand_columns_are_read_and_more_refused() -> None:
    record = "{" + ",".join(f'"c{i}":{i}' for i in range(10_000)) + "}"
    made = decode(lines(record, record))
    assert len(made.types) == 10_000
    assert made.rows[1]["c9999"] == 9999
    with pytest.raises(LimitError) as caught:
        decode(lines(record, '{"one more":1}'))
    assert str(caught.value) == (
        "feed.jsonl has more than 10,000 columns, fields of structs included.\n  at: feed.jsonl\n"
        "  try: declare a column whose keys are data map<string,...> or string, or raise max_columns"
    )


def test_ids_for_keys_do_not_take_the_memory_of_a_cell_for_each() -> None:
    data = lines(*(f'{{"users":{{"id{i}":{{"n":{i}}}}}}}' for i in range(30_000)))
    with pytest.raises(LimitError, match=r"more than 10,000 columns, fields of structs included"):
        decode(data)
    declared = Contract(columns=Schema.of({"users": "map<string,struct<n:long>>"}))
    made = decode(data[:4000].rpartition("\n")[0], contract=declared)
    assert made.rows[7] == {"users": [("id7", {"n": 7})]}
    text = decode(data[:400].rpartition("\n")[0], contract=Contract(columns=Schema.of({"users": "string"})))
    assert text.rows[7] == {"users": '{"id7":{"n":7}}'}


def test_fields_of_a_megabyte_are_read_and_longer_ones_rejected(block: int) -> None:
    long = "x" * (1 << 20)
    made = decode(lines(f'{{"a":"{long}"}}', '{"a":"y"}'), block=block)
    assert made.rows == [{"a": long}, {"a": "y"}]
    made = decode(lines(f'{{"a":"{long}"}}', f'{{"a":"{long}!"}}', '{"a":"y"}'), block=block, max_field=1 << 20)
    assert [row["a"][:3] for row in made.rows] == ["xxx", "y"]
    ((line, raw, error),) = made.rejected
    assert (line, error) == (2, "a: 1,048,577 bytes, at most 1,048,576 are read (max_field)")
    assert raw.endswith("... (1,048,585 bytes in all)")


def test_a_record_without_end_is_refused() -> None:
    with pytest.raises(LimitError) as caught:
        decode(b'{"a":1}\n{"a":"' + b"x" * (65 << 20))
    assert str(caught.value) == (
        "feed.jsonl holds a record that is longer than 67,108,864 bytes.\n  at: feed.jsonl\n"
        "  try: check the format, or raise max_field"
    )


@pytest.mark.parametrize("depth", [64, 65, 100, 150, 1500, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"b":', "}")])
def test_nesting_is_bounded(depth: int, opening: str, closing: str, block: int) -> None:
    deep = '{"a":' + opening * (depth - 1) + "1" + closing * (depth - 1) + "}"
    made = decode(lines('{"z":1}', deep, '{"z":2}'), block=block)
    if depth <= 64:
        assert len(made.rows) == 3
    else:
        assert made.rows == [{"z": 1}, {"z": 2}]
        assert [(line, error) for line, _, error in made.rejected] == [
            (2, f"nested {depth} levels deep, at most 64 are read")
        ]


def test_brackets_in_text_are_not_nesting(block: int) -> None:
    text = "[{" * 2000
    assert decode(lines(f'{{"a":"{text}"}}'), block=block).rows == [{"a": text}]


def test_names_that_collide_across_files_are_rejected_by_row() -> None:
    made = decode([feed('{"id":1}\n', "a.jsonl"), feed('{"ID":2}\n{"id":3}\n', "b.jsonl")])
    assert made.rows == [{"id": 1}, {"id": 3}]
    assert made.files == ["b.jsonl"]
    assert made.rejected == [(1, '{"ID":2}', 'the key "ID" differs from "id" only in case')]


def test_a_feed_of_mixed_types_restarts_once() -> None:
    records = [f'{{"a":{i},"b":{i}}}' for i in range(50)] + ['{"a":"x"}'] + ['{"b":0.5}'] + ['{"a":[1]}']
    made = decode(lines(*records), block=64)
    assert made.types == {"a": "string", "b": "double"}
    assert made.restarts == 1
