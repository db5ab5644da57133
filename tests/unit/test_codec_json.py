"""JSON messages: what a load takes from lines, a codec takes from messages, each for itself; and rows come back."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.messages import as_loaded, batches, comparable, rows_of, told
from tidemill.adapters.arrow.json_codec import JsonCodec, found_columns
from tidemill.adapters.arrow.json_fast import FastReader
from tidemill.model.codec import Json
from tidemill.model.errors import DataError, DefinitionError, UnknownName
from tidemill.model.table import Schema

MANY = settings(max_examples=few(300), deadline=None)


def codec(columns: dict[str, str], **more: Any) -> JsonCodec:
    return JsonCodec(Json(columns, **more))


@MANY
@given(batches(), st.booleans())
@example(({"a": "double"}, [b'{"a":-0}', b'{"a":1.5}']), False)
@example(({"a": "long"}, [b'{"a":1,"a":2}', b"{}"]), False)
@example(({"a": "list<long>"}, [b'{"a":{"x":null}}']), False)
@example(({"a": "long"}, [b'{"z":"a"}', b'{"a":1,"a":2}']), False)
@example(({"a": "long"}, [b'{"a":null,"a":null}']), False)
@example(({"a": "long"}, [b'{"a":null,"a":null}', b"{}"]), False)
@example(({"a": "long"}, [b'{"a":1,"a":null}', b'{"a":null}']), False)
@example(({"a": "long", "b": "long"}, [b'{"a":null,"a":null}']), False)
@example(({"a": "long"}, [b'{"a":"x"}', b'{"a":1}']), False)
def test_messages_are_read_as_a_load_reads_lines(batch: tuple[dict[str, str], list[bytes]], closed: bool) -> None:
    """Rows, types and complaints are those of a table with the same columns, whichever path reads them."""
    columns, messages = batch
    rows, errors = as_loaded(columns, messages, closed=closed)
    made = codec(columns, extra="error" if closed else "ignore").decode(messages)
    assert told(made) == errors
    assert rows_of(made.rows) == [comparable(row) for row in rows]
    taken = range(len(messages)) if made.taken is None else made.taken
    assert list(taken) == [i for i in range(len(messages)) if i not in errors]


@MANY
@given(batches(), st.sampled_from(["null", "error"]), st.data())
def test_a_message_gives_the_same_row_whatever_it_is_read_with(
    batch: tuple[dict[str, str], list[bytes]], absent: Any, data: st.DataObject
) -> None:
    columns, messages = batch
    reader = codec(columns, absent=absent)
    whole = reader.decode(messages)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(messages)))) | {0, len(messages)})
    rows: list[Any] = []
    errors: dict[int, str] = {}
    for first, end in pairwise(cuts):
        part = reader.decode(messages[first:end])
        rows += rows_of(part.rows)
        errors |= {first + index: error for index, error in told(part).items()}
        assert part.rows.schema == whole.rows.schema == reader.columns
    assert rows == rows_of(whole.rows)
    assert errors == told(whole)


@MANY
@given(batches())
def test_a_projection_reads_what_the_whole_reads(batch: tuple[dict[str, str], list[bytes]]) -> None:
    """A message that can be read as a whole gives the same values in part."""
    columns, messages = batch
    whole = codec(columns).decode(messages)
    for name in columns:
        part = codec(columns).only([name]).decode(messages)
        taken = range(len(messages)) if part.taken is None else part.taken
        by_message = dict(zip(taken, rows_of(part.rows), strict=True))
        for index, row in zip(
            range(len(messages)) if whole.taken is None else whole.taken, rows_of(whole.rows.select(name)), strict=True
        ):
            assert by_message[index] == row


_WHOLE = [
    b'{"a":1,"s":"x","z":"y\\n\\u00e9\\ud83d\\ude00","c":[1,-2.5e3,null,true,false,{"d":""}],"e":{}}',
    '{"z":"é😀","a":null,"n":-0,"f":0.1,"o":1E+5,"s":"\\t\\"\\\\\\/"}'.encode(),
    b'{ "f" : -0 , "a" : -0 , "s" : "2024-01-01" }',
]
_PARTS = st.sampled_from(
    [b'"', b"\\", b"\\u", b"d8", b"0", b"-", b"+", b".", b"e", b",", b":", b"{", b"}", b"[", b"]", b"\n", b"\t",
     b" ", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"NaN", b"null", b"Infinity", b"\\ud800", b"\x7f",
     b'"a":1', b'"a"', b"1e999", b"9" * 20, b""]
)  # fmt: skip


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    message = draw(st.sampled_from(_WHOLE))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(message)))
        message = message[:at] + draw(_PARTS) + message[at + draw(st.integers(0, 3)) :]
    return message


@settings(max_examples=few(1000), deadline=None)
@given(st.lists(_broken(), min_size=1, max_size=2))
def test_the_quick_way_reads_what_the_exact_way_reads(messages: list[bytes]) -> None:
    """A column that is not for the quick way, and which no message has, sends the same messages the exact way."""
    columns = {"a": "long", "f": "double", "s": "string"}
    quick, exact = codec(columns), codec(columns | {"other": "list<long>"})
    for names in (["a", "f", "s"], ["f"]):
        made, expected = quick.only(names).decode(messages), exact.only([*names, "other"]).decode(messages)
        assert told(made) == told(expected)
        assert rows_of(made.rows) == rows_of(expected.rows.drop("other"))


def test_a_field_that_nobody_asks_for_decides_nothing() -> None:
    """Where all declared fields are there once keys need not be counted; here one is missing, twice, or no number."""
    columns = {"a": "long", "b": "long"}
    whole = [b'{"a":1,"b":2}'] * 3
    for odd in (b'{"a":1}', b'{"a":1,"b":2,"b":3}', b'{"a":1,"b":"x"}', b'{"a":1,"b":{"a":7}}', b'{"a":1,"z":2,"b":2}'):
        made = codec(columns).only(["a"]).decode([*whole, odd, *whole])
        assert made.rows["a"].to_list() == [1] * 7
    twice = codec(columns).only(["a"]).decode([*whole, b'{"a":1,"a":2}', *whole])
    assert told(twice) == {3: 'the key "a" appears twice'}


def test_a_message_that_lacks_a_column_sends_no_more_than_some_batches_a_slower_way() -> None:
    """A text that is spelt like a key is known to be none where all columns are looked at: so the ways differ."""
    quick = FastReader(Schema.of({"v": "long"}), closed=False, further=Schema.of({"note": "string"}).columns)
    plain = b'{"v": 1, "note": "v"}'
    assert quick.read([plain]) is not None
    assert quick.read([b'{"v": 1}']) is not None
    rests = [quick.read([plain]) is None for _ in range(100)]
    assert 0 < sum(rests) < 99
    assert rests == sorted(rests, reverse=True), "and then no more"


def test_long_batches_with_few_bad_messages_lose_no_other() -> None:
    messages: list[bytes | None] = [b'{"id":%d,"name":"n%d"}' % (i, i) for i in range(20_000)]
    messages[7] = None
    messages[9_000] = b'{"id":"x"}'
    messages[19_999] = b'{"id":1,"id":1}'
    made = codec({"id": "long", "name": "string"}).decode(messages)
    assert told(made) == {9_000: 'id: "x" does not fit long', 19_999: 'the key "id" appears twice'}
    assert list(made.empty) == [7]
    expected = [i for i in range(20_000) if i not in (7, 9_000, 19_999)]
    assert made.taken is not None
    assert list(made.taken) == expected
    assert made.rows["id"].to_list() == expected


@pytest.mark.parametrize("beside", [[], [b'{"a":2}']], ids=["alone", "beside a good one"])
@pytest.mark.parametrize(
    ("message", "error"),
    [
        (b"", "not JSON: the message is empty"),
        (b" \n ", "not JSON: the message is empty"),
        (b"\xef\xbb\xbf", "not JSON: the message is empty"),
        (b"[1]", "not a JSON object: [1]"),
        (b'"a"', 'not a JSON object: "a"'),
        (b'{"a":1', "not JSON: expecting ',' delimiter at position 7"),
        (b'{"a":"x\ny"}', "not JSON: invalid control character at at position 8"),
        (b'{"a":1}\n{"a":2}', "not JSON: extra data at position 9"),
        (b'{"a":1,"b":"\xff"}', "not UTF-8: byte 0xff at position 13"),
        (b'{"a":9223372036854775808}', "a: 9223372036854775808 does not fit long"),
        (b'{"a":1.0}', "a: 1.0 does not fit long"),
        (b'{"a":"1"}', 'a: "1" does not fit long'),
        (b'{"a":true}', "a: true does not fit long"),
        (b'{"a":NaN}', "a: NaN does not fit long"),
        (b'{"a":"' + b"x" * 100 + b'"}', 'a: "' + "x" * 59 + "... does not fit long"),
        (b'{"a":1,"a":1}', 'the key "a" appears twice'),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "nested 65 levels deep, at most 64 are read"),
        (b'{"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested 100001 levels deep, at most 64 are read"),
    ],
)  # fmt: skip
def test_bad_messages_say_what_is_wrong(message: bytes, error: str, beside: list[bytes]) -> None:
    made = codec({"a": "long"}).decode([*beside, message, *beside])
    assert told(made) == {len(beside): error}
    assert made.rows["a"].to_list() == [2, 2][: 2 * len(beside)]


@pytest.mark.parametrize(
    "message",
    [b'{\n  "a": 1\n}\n', b'\xef\xbb\xbf{"a":1}', b'\t{"a":1}\r\n', b'{"a":1,"_batch_id":7}',
     b'{"_Loaded_AT":"x","a":1}',
     b'{"a":1,"z":{"deep":[1,{"y":"\\n"}]}}', b'{"\\u0061":1}', b'{"a":1,"A":2}', b'{"a":1,"z":1,"z":2}'],
)  # fmt: skip
def test_forms_of_one_object_are_read(message: bytes) -> None:
    """Line feeds between values, a byte order mark, escapes in keys, and whatever is not declared."""
    for columns in ({"a": "long"}, {"a": "decimal(3,0)"}):
        assert codec(columns).decode([message, b'{"a":2}']).rows["a"].to_list() == [1, 2]


def test_names_of_tidemills_own_columns_mean_nothing_in_messages_also_in_escapes() -> None:
    messages = [b'{"\\u005fbatch_id":1,"a":"x"}', b'{"_batch_id":1,"a":5}', b'{"\\u005fbatch_id":1,"a":7}']
    for columns in ({"a": "long"}, {"a": "long", "m": "map<string,long>"}):
        made = codec(columns).decode(messages)
        assert told(made) == {0: 'a: "x" does not fit long'}
        assert made.rows["a"].to_list() == [5, 7]


def test_ten_megabytes_are_read_and_too_many_refused() -> None:
    reader = codec({"a": "string"})
    made = reader.decode([b'{"a":"' + b"x" * 10_000_000 + b'"}', b'{"a":"y"}', b'{"a":"' + b"x" * (17 << 20) + b'"}'])
    assert made.rows["a"].str.len_bytes().to_list() == [10_000_000, 1]
    assert told(made) == {2: "a: 17,825,792 bytes, at most 16,777,216 are read (max_field)"}


def test_many_large_messages_are_read_in_bounded_pieces() -> None:
    values = [b'{"a":"' + bytes([97 + i % 26]) * 9_000_000 + b'"}' for i in range(20)]
    made = codec({"a": "string", "b": "list<long>"}).decode([*values, b"x"])
    assert made.rows["a"].str.slice(0, 1).to_list() == [chr(97 + i) for i in range(20)]
    assert told(made).keys() == {20}


def test_absent_fields_are_null_or_an_error_as_declared() -> None:
    messages = [b'{"a":1,"b":"x"}', b'{"a":null,"b":"y"}', b'{"b":"z"}', b'{"a":4}']
    assert codec({"a": "long", "b": "string"}).decode(messages).rows.rows() == [
        (1, "x"),
        (None, "y"),
        (None, "z"),
        (4, None),
    ]
    made = codec({"a": "long", "b": "string"}, absent="error").decode(messages)
    assert made.rows.rows() == [(1, "x"), (None, "y")]
    assert told(made) == {
        2: 'a: absent, and the codec is declared absent="error"',
        3: 'b: absent, and the codec is declared absent="error"',
    }
    assert told(codec({"a": "long", "b": "string"}, absent="error").only(["a"]).decode(messages)).keys() == {2}


def test_columns_to_declare_are_found_in_a_sample() -> None:
    """As a load finds them, whatever stands beside."""
    sample = [b'{"id":1,"at":"2024-01-01T00:00:00Z"}', b"broken", b"", b'{\n"id":2,"tags":["x"],"_batch_id":3}']
    columns = found_columns(sample)
    assert columns == {"id": "long", "at": "timestamptz", "tags": "list<string>"}
    assert codec(columns).decode(sample).rows["id"].to_list() == [1, 2]


def test_further_fields_are_ignored_or_an_error_as_declared() -> None:
    messages = [b'{"a":1,"z":5}', b'{"a":2}']
    assert codec({"a": "long"}).decode(messages).rows["a"].to_list() == [1, 2]
    made = codec({"a": "long", "b": "long"}, extra="error").only(["a"]).decode([*messages, b'{"a":3,"b":4}'])
    assert told(made) == {0: 'unknown column "z"'}
    assert made.rows.rows() == [(2,), (3,)]


def test_mistakes_are_told() -> None:
    with pytest.raises(DefinitionError, match="cannot be read without their columns"):
        JsonCodec(Json()).decode([b"{}"])
    with pytest.raises(DefinitionError, match='"longer" is not a column type'):
        Json({"a": "longer"})
    with pytest.raises(UnknownName, match='There is no column "ab"'):
        codec({"a": "long"}).only(["ab"])


# -- writing

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
# Polars hands no frame to Arrow that has a NUL in a name.
_NAMES = _TEXT.filter(lambda text: text and "\0" not in text)
_WHOLE_SECONDS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)).map(lambda t: t.replace(microsecond=0))
_MOMENTS = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)) | _WHOLE_SECONDS
_WRITTEN: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "decimal(20,4)": st.decimals(-(10**15), 10**15, places=4),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": _MOMENTS,
    "timestamptz": _MOMENTS.map(lambda t: t.replace(tzinfo=dt.UTC)),
    "string": _TEXT,
    "binary": st.binary(max_size=5),
    "uuid": st.binary(min_size=16, max_size=16),
    "list<long>": st.lists(st.none() | st.integers(-5, 5), max_size=3),
    "list<timestamp>": st.lists(st.none() | _MOMENTS, max_size=3),
    "struct<x:long,y:string>": st.fixed_dictionaries({"x": st.none() | st.integers(0, 5), "y": st.none() | _TEXT}),
    "struct<t:timestamptz,b:binary,f:double>": st.fixed_dictionaries(
        {
            "t": _MOMENTS.map(lambda t: t.replace(tzinfo=dt.UTC)),
            "b": st.binary(max_size=4),
            "f": st.none() | st.just(1e300),
        }
    ),
}  # fmt: skip


@MANY
@given(st.data())
def test_rows_come_back_as_they_were_written(data: st.DataObject) -> None:
    """Every type, nulls and odd column names included; each message is one object of strict JSON."""
    kinds = data.draw(st.lists(st.sampled_from(sorted(_WRITTEN)), min_size=1, max_size=4))
    names = data.draw(st.lists(_NAMES, min_size=len(kinds), max_size=len(kinds), unique_by=str.lower))
    columns = dict(zip(names, kinds, strict=True))
    if len({name.lower() for name in columns}) < len(columns) or {"_batch_id", "_loaded_at"} & columns.keys():
        return
    height = data.draw(st.integers(1, 3))
    made = codec(columns)
    assert made.columns is not None
    rows = pl.DataFrame(
        [
            pl.Series(name, [data.draw(st.none() | _WRITTEN[kind]) for _ in range(height)], made.columns[name])
            for name, kind in columns.items()
        ]
    )
    written = made.encode(rows)
    back = made.decode(written)
    assert told(back) == {}
    assert rows_of(back.rows) == rows_of(rows)
    for message in written:
        assert message is not None
        assert list(json.loads(message, parse_constant=lambda _: pytest.fail("not JSON"))) == names


def test_large_floats_are_read_in_float_columns_too() -> None:
    """Loads once made nulls of them."""
    message = b'{"a":1e20,"b":9007199254740994.0}'
    for reader in (codec({"a": "float", "b": "double"}), codec({"a": "float", "b": "double", "c": "list<long>"})):
        assert reader.decode([message]).rows.row(0)[:2] == (pytest.approx(1e20), 9007199254740994.0)


def test_maps_come_back_as_they_were_written() -> None:
    made = codec({"m": "map<string,timestamptz>", "n": "list<map<string,long>>"})
    messages = [b'{"m":{"x":"2024-01-01T00:00:00Z"},"n":[{"a":1},null]}', b'{"m":null,"n":[]}']
    rows = made.decode(messages).rows
    assert made.encode(rows) == messages


def test_values_are_written_in_the_forms_that_the_docs_tell() -> None:
    rows = pl.DataFrame(
        {
            "t": [dt.datetime(2024, 1, 2, 3, 4, 5)],
            "z": pl.Series([dt.datetime(2024, 1, 2, 3, 4, 5, 600_000)]).dt.replace_time_zone("Europe/Berlin"),
            "d": [Decimal("1.50")],
            "b": [b"\x00\x01"],
            "f": [float("nan")],
            "n": [None],
            "c": pl.Series(["x"], dtype=pl.Categorical),
            "ns": pl.Series([1], dtype=pl.Int64).cast(pl.Datetime("ns")),
        }
    )
    assert JsonCodec(Json()).encode(rows) == [
        b'{"t":"2024-01-02T03:04:05","z":"2024-01-02T02:04:05.600Z","d":"1.50","b":"AAE=","f":null,"n":null,"c":"x",'
        b'"ns":"1970-01-01T00:00:00"}'
    ]


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (pl.DataFrame({"f": [1.0, float("inf")]}), 'Column "f", row 1: inf is infinite, which JSON cannot say.'),
        (pl.DataFrame({"l": [[1.0], [float("-inf")]]}), 'Column "l", row 1: -inf is infinite, which JSON cannot say.'),
        (pl.DataFrame({"d": [dt.timedelta(1)]}), 'Column "d" is of type Duration'),
        (pl.DataFrame({"t": pl.Series([0, 2**60]).cast(pl.Datetime("us"))}),
         'Column "t", row 1: '),
    ],
)  # fmt: skip
def test_what_json_cannot_say_is_an_error_with_column_and_row(rows: pl.DataFrame, error: str) -> None:
    with pytest.raises(DataError) as caught:
        JsonCodec(Json()).encode(rows)
    assert caught.value.what.startswith(error)


def test_no_rows_and_no_columns() -> None:
    made = codec({"a": "long"})
    assert made.decode([]).rows.schema == made.columns
    assert made.decode([None]).empty == [0]
    assert made.encode(pl.DataFrame(schema={"a": pl.Int64})) == []
    assert codec({}).decode([b'{"a":1}', b"x"]).rows.height == 1
    assert made.encode(pl.DataFrame(height=2)) == [b"{}", b"{}"]
