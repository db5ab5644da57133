"""CSV: texts typed over the whole batch, quotes and line ends as written, and broken records told apart."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from harness.decoding import decode, feed
from tidemill.model.errors import DecodeError, LimitError, SettingsError, UnknownName
from tidemill.model.table import Contract, Schema


@pytest.fixture(params=[1, 4 << 20], ids=["a block a record", "one block"])
def block(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize(
    ("texts", "kind", "expected"),
    [
        (["1", "-2", ""], "long", [1, -2, None]),
        (["1", "2.5"], "double", [1.0, 2.5]),
        (["00123", "7"], "string", ["00123", "7"]),
        (["1", "+5"], "string", ["1", "+5"]),
        (["1", " 5"], "string", ["1", " 5"]),
        (["0x1F"], "string", ["0x1F"]),
        (["9007199254740993", "0.5"], "string", ["9007199254740993", "0.5"]),
        (["0.5", "9007199254740993"], "string", ["0.5", "9007199254740993"]),
        (["9223372036854775808", "1"], "decimal(38,0)", [Decimal(2**63), Decimal(1)]),
        (["9223372036854775808", "1.0"], "string", ["9223372036854775808", "1.0"]),
        (["1e400", "1"], "string", ["1e400", "1"]),
        (["1.5", "inf"], "double", [1.5, float("inf")]),
        (["true", "FALSE", ""], "boolean", [True, False, None]),
        (["true", "1"], "string", ["true", "1"]),
        (["2024-02-29", "2024-03-01"], "date", [dt.date(2024, 2, 29), dt.date(2024, 3, 1)]),
        (["2024-02-29", "2024-03-01 10:00"], "timestamp", [dt.datetime(2024, 2, 29), dt.datetime(2024, 3, 1, 10)]),
        (["2024-02-29T10:00:00+02:00"], "timestamptz", [dt.datetime(2024, 2, 29, 8, tzinfo=dt.UTC)]),
        (["2024-02-29", "n/a"], "string", ["2024-02-29", "n/a"]),
        (["x", ""], "string", ["x", None]),
        (["x", '""'], "string", ["x", ""]),
        (["1", '""'], "long", [1, None]),
        (['"1"', '"2"'], "long", [1, 2]),
        (['"a,b"', '"c\nd"', '"e""f"', '"g\r\nh"'], "string", ["a,b", "c\nd", 'e"f', "g\r\nh"]),
        (['5" pipe', '"ab"cd', '"x"y"z"', ' "q"'], "string", ['5" pipe', "abcd", 'xy"z"', ' "q"']),
        (["a\\", "é", "😀"], "string", ["a\\", "é", "😀"]),
    ],
)
def test_types_hold_every_value_without_loss(texts: list[str], kind: str, expected: list[Any], block: int) -> None:
    made = decode("k,v\n" + "".join(f"{i},{text}\n" for i, text in enumerate(texts)), "f.csv", block=block)
    assert made.types == {"k": "long", "v": kind}
    assert [row["v"] for row in made.rows] == expected
    assert made.rejected == []


@pytest.mark.parametrize(
    ("texts", "kind", "expected"),
    [
        (["1,5", "-2", "1,25e3"], "double", [1.5, -2.0, 1250.0]),
        (["7", "-2"], "long", [7, -2]),
        (["1.5", "2"], "string", ["1.5", "2"]),
        (["1,5", "2.5"], "string", ["1,5", "2.5"]),
        (["1.234,5", "1,5"], "string", ["1.234,5", "1,5"]),
        (["1,5", "x,y"], "string", ["1,5", "x,y"]),
        (["1,2,3"], "string", ["1,2,3"]),
        (["2024-02-29 10:00:00.5", "2024-03-01"], "timestamp", [dt.datetime(2024, 2, 29, 10, 0, 0, 500_000),
                                                              dt.datetime(2024, 3, 1)]),
    ],
)  # fmt: skip
def test_numbers_may_have_a_decimal_comma(texts: list[str], kind: str, expected: list[Any], block: int) -> None:
    given = "k;v\n" + "".join(f"{i};{text}\n" for i, text in enumerate(texts))
    made = decode(given, "f.csv", block=block, csv={"decimal": ","})
    assert (made.types["v"], [row["v"] for row in made.rows]) == (kind, expected)


def test_a_declared_number_with_the_other_mark_is_rejected(block: int) -> None:
    columns = Schema.of({"v": "decimal(9,2)", "w": "double"})
    contract = Contract(columns=columns)
    made = decode('v,w\n"1,50","+,5"\n1.50,2\n"1.000,5",2\n', "f.csv", block=block, csv={"decimal": ","},
                  contract=contract)  # fmt: skip
    assert made.rows == [{"v": Decimal("1.50"), "w": 0.5}]
    assert [error for _, _, error in made.rejected] == [
        'v: "1.50" does not fit decimal(9,2)', 'v: "1.000,5" does not fit decimal(9,2)'
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False], ids=["ends with a line end", "ends without"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_and_marks(end: str, last: bool, bom: str, block: int) -> None:
    text = bom + end.join(["", "a,b", "1,x", "", '2,"y"', "3,"]) + (end if last else "")
    made = decode(text, "f.csv", block=block)
    assert made.rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": None}]


def test_a_wrong_number_of_fields_is_rejected(block: int) -> None:
    made = decode('a,b\n1,"x\ny"\n2\n3,z,"w\nv"\n\n4,q\n', "f.csv", block=block)
    assert made.rows == [{"a": 1, "b": "x\ny"}, {"a": 4, "b": "q"}]
    assert made.rejected == [(4, "2", "1 field, 2 expected"), (5, '3,z,"w\nv"', "3 fields, 2 expected")]


def test_bytes_that_are_no_text_are_rejected(block: int) -> None:
    made = decode(b'a,b\n1,\xff\n2,"\xc3\xa9\n"\n3,x\0y\n4,\xed\xa0\x80\n5,z\n', "f.csv", block=block)
    assert made.rows == [{"a": 2, "b": "é\n"}, {"a": 5, "b": "z"}]
    assert made.rejected == [
        (2, "1,\\xff", "not UTF-8: byte 0xff at position 3"),
        (5, "3,x\\x00y", "a NUL byte"),
        (6, "4,\\xed\\xa0\\x80", "not UTF-8: byte 0xed at position 3"),
    ]


def test_a_quote_that_is_never_closed_is_an_error(block: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode('a,b\n1,x\n"2\n",y\n3,"z\n4,q\n', "f.csv", block=block)
    assert str(caught.value) == (
        "A quote is opened and never closed.\n  at: f.csv line 5\n  try: check the quote in the csv options"
    )
    with pytest.raises(LimitError) as limit:
        decode(b'a,b\n1,"' + b"x,y\n" * (17 << 20), "f.csv")
    assert str(limit.value) == (
        "f.csv holds a record that is longer than 67,108,864 bytes.\n  at: f.csv\n"
        "  try: check the format, or raise max_field"
    )


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("a,b,a", 'f.csv has two columns "a" (number 1 and 3); case is ignored.'),
        ("id,b,ID", 'f.csv has columns "id" and "ID" (number 1 and 3); case is ignored.'),
        ("a,column_1,", None),
        (",column_1", 'f.csv has two columns "column_1" (number 1 and 2); case is ignored.'),
        ("a,_batch_id", 'The input has a column "_batch_id", which Tidemill adds to every table itself.'),
        ("a,_LOADED_AT", 'The input has a column "_LOADED_AT", which Tidemill adds to every table itself.'),
    ],
)
def test_columns_that_collide(header: str, error: str | None) -> None:
    if error is None:
        assert list(decode(f"{header}\n1,2,3\n", "f.csv").types) == ["a", "column_1", "column_3"]
        return
    with pytest.raises(DecodeError) as caught:
        decode(f"{header}\n1,2,3\n", "f.csv")
    assert caught.value.what == error
    assert caught.value.where == "f.csv line 1"


def test_columns_that_collide_with_another_file() -> None:
    with pytest.raises(DecodeError) as caught:
        decode([feed("id\n1\n", "a.csv"), feed("ID\n1\n", "b.csv")])
    assert caught.value.what == 'The file has a column "ID", but "id" is known; they differ only in case.'
    assert caught.value.where == "b.csv line 1"


def test_odd_names_are_kept_as_they_are(block: int) -> None:
    made = decode('" a b ","say ""hi""",select,é,a.b,"x\ny",123\n1,2,3,4,5,6,7\n', "f.csv", block=block)
    assert list(made.types) == [" a b ", 'say "hi"', "select", "é", "a.b", "x\ny", "123"]


@pytest.mark.parametrize("data", ["", "\n\n", "a,b\n", "a,b", "\ufeffa,b\r\n"])
def test_files_without_rows(data: str) -> None:
    assert decode(data, "f.csv").rows == []


def test_files_with_other_columns_meet_by_name() -> None:
    made = decode([feed("a,b\n1,2\n", "1.csv"), feed("b,c\nx,4\n", "2.csv"), feed('{"c":5.5,"d":[1]}', "3.json")])
    assert made.types == {"a": "long", "b": "string", "c": "double", "d": "list<long>"}
    assert made.rows == [
        {"a": 1, "b": "2", "c": None, "d": None},
        {"a": None, "b": "x", "c": 4.0, "d": None},
        {"a": None, "b": None, "c": 5.5, "d": [1]},
    ]


@pytest.mark.parametrize(
    ("data", "name", "options", "rows"),
    [
        ("a;b\n1;2,5\n", "f.csv", {"delimiter": ";"}, [{"a": 1, "b": "2,5"}]),
        ("a\tb\n1\tx\n", "f.tsv", {}, [{"a": 1, "b": "x"}]),
        ("a|b\n1|'x|y'\n", "f.csv", {"delimiter": "|", "quote": "'"}, [{"a": 1, "b": "x|y"}]),
        ('a,b\n1,"x\n2,y"\n', "f.csv", {"quote": None}, [{"a": 1, "b": '"x'}, {"a": 2, "b": 'y"'}]),
        ("1,x\n,y\n", "f.csv", {"header": 0}, [{"column_1": 1, "column_2": "x"}, {"column_1": None, "column_2": "y"}]),
        ("a;b\n1;2,5\n", "f.csv", {}, [{"a": 1, "b": "2,5"}]),
        ('"a|b"\t"c,d"\n1\t2\n', "f.csv", {}, [{"a|b": 1, "c,d": 2}]),
        ("a;b,c\n1,2\n", "f.csv", {}, [{"a;b": 1, "c": 2}]),
        ("a;b\n1\n", "f.csv", {"delimiter": ","}, [{"a;b": 1}]),
        ("a|b\r\n1|x\r\n".encode("utf-16"), "f.csv", {}, [{"a": 1, "b": "x"}]),
        ("1,x\n", "f.csv", {"header": False, "column_names": ["k", "v"]}, [{"k": 1, "v": "x"}]),
        ("q,r\n1,x\n", "f.csv", {"column_names": ["k", "v"]}, [{"k": 1, "v": "x"}]),
        ("a,b\nNA,-\n1,x\n", "f.csv", {"null_values": ["NA", "-"]}, [{"a": None, "b": None}, {"a": 1, "b": "x"}]),
        ('a\n"NA"\n', "f.csv", {"null_values": ["NA"]}, [{"a": "NA"}]),
        ("a\nü\n".encode("cp1252"), "f.csv", {"encoding": "cp1252"}, [{"a": "ü"}]),
        ("a\nü\n".encode("utf-16"), "f.csv", {}, [{"a": "ü"}]),
        ("a\nü\n".encode("utf-16-le"), "f.csv", {"encoding": "utf-16-le"}, [{"a": "ü"}]),
    ],
)  # fmt: skip
def test_options(data: Any, name: str, options: dict[str, Any], rows: list[dict[str, Any]], block: int) -> None:
    assert decode(data, name, csv=options, block=block).rows == rows


def test_options_that_cannot_be() -> None:
    with pytest.raises(UnknownName) as unknown:
        decode("a\n1\n", "f.csv", csv={"delimeter": ";"})
    assert str(unknown.value) == 'There is no csv option "delimeter".\n  try: did you mean "delimiter"?'
    with pytest.raises(SettingsError, match=r"The csv option delimiter must be one ASCII character, not ';;'\."):
        decode("a\n1\n", "f.csv", csv={"delimiter": ";;"})
    with pytest.raises(SettingsError, match=r"The csv options delimiter and quote must differ\."):
        decode("a\n1\n", "f.csv", csv={"delimiter": '"'})
    with pytest.raises(SettingsError, match=r'There is no encoding "utf-9"\.'):
        decode("a\n1\n", "f.csv", csv={"encoding": "utf-9"})
    with pytest.raises(DecodeError, match=r"f.csv has 1 columns, but column_names has 2\."):
        decode("a\n1\n", "f.csv", csv={"column_names": ["x", "y"]})
    with pytest.raises(DecodeError) as wrong:
        decode(b"a\n\x81\n", "f.csv", csv={"encoding": "cp1252"})
    assert str(wrong.value) == (
        "f.csv is not cp1252: character maps to <undefined>.\n  at: f.csv, byte 2\n  try: declare its encoding"
    )


def test_declared_columns_are_read_leniently_and_kept(block: int) -> None:
    contract = Contract(columns=Schema.of({"zip": "string", "n": "int", "x": "decimal(6,2)", "on": "boolean not null"}))
    made = decode("n,zip,x,on\n007,00123,1.5,1\n 8 ,9,+2,true\n9,,1.555,0\n3000000000,,,0\n5,,,\n", "f.csv",
                  contract=contract, block=block)  # fmt: skip
    assert made.types == {"zip": "string", "n": "int", "x": "decimal(6,2)", "on": "boolean"}
    assert made.rows == [
        {"zip": "00123", "n": 7, "x": Decimal("1.50"), "on": True},
        {"zip": "9", "n": 8, "x": Decimal("2.00"), "on": True},
    ]
    assert made.rejected == [
        (4, "9,,1.555,0", 'x: "1.555" does not fit decimal(6,2)'),
        (5, "3000000000,,,0", 'n: "3000000000" does not fit int'),
        (6, "5,,,", "on: null, but the column is declared not null"),
    ]


def test_fields_of_a_megabyte_are_read_and_longer_ones_rejected(block: int) -> None:
    long = "x" * (1 << 20)
    made = decode(f'a,b\n"{long}",1\n{long}!,2\ny,3\n', "f.csv", block=block, max_field=1 << 20)
    assert [row["b"] for row in made.rows] == [1, 3]
    ((line, raw, error),) = made.rejected
    assert (line, error) == (3, "a: 1,048,577 bytes, at most 1,048,576 are read (max_field)")
    assert raw.endswith("... (1,048,579 bytes in all)")


def test_ten_thousand_columns_are_read_and_more_refused() -> None:
    names = [f"c{i}" for i in range(10_000)]
    made = decode(",".join(names) + "\n" + ",".join(map(str, range(10_000))) + "\n", "f.csv")
    assert made.rows[0]["c9999"] == 9999
    with pytest.raises(LimitError) as caught:
        decode(",".join([*names, "one more"]) + "\n", "f.csv")
    assert str(caught.value) == (
        "f.csv has 10,001 columns, at most 10,000 are read.\n  at: f.csv line 1\n"
        "  try: check the delimiter, or raise max_columns"
    )
