"""The promises of port `codec`, held against every codec: rows come back, bad messages stand alone, cuts matter not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.messages import rows_of, told
from harness.registry import registry_server
from tidemill.model.codec import Avro, CodecSpec, Json, JsonSchema, Protobuf, Raw, Text
from tidemill.model.errors import UnknownName
from tidemill.ports.codec import Codec
from tidemill.ports.registry import Registry
from tidemill.wiring.codecs import open_codec, open_registry

_COLUMNS = {
    "id": "long",
    "name": "string",
    "at": "timestamptz",
    "price": "double",
    "tags": "list<string>",
    "ok": "boolean",
}
_RECORD = """{"type": "record", "name": "Order", "namespace": "shop", "fields": [
  {"name": "id", "type": ["null", "long"]}, {"name": "name", "type": ["null", "string"]},
  {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
  {"name": "price", "type": ["null", "double"]},
  {"name": "tags", "type": {"type": "array", "items": "string"}}, {"name": "ok", "type": ["null", "boolean"]}]}"""
_PROTO = """syntax = "proto3"; package shop; import "google/protobuf/timestamp.proto";
message Other { int32 x = 1; }
message Order { optional int64 id = 1; optional string name = 2; google.protobuf.Timestamp at = 3;
  optional double price = 4; repeated string tags = 5; optional bool ok = 6; }"""
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
_MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=dt.UTC))
_ROW = st.fixed_dictionaries(
    {
        "id": st.none() | st.integers(-(2**63), 2**63 - 1),
        "name": st.none() | _TEXTS,
        "at": st.none() | _MOMENTS,
        "price": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "tags": st.lists(_TEXTS, max_size=2),
        "ok": st.none() | st.booleans(),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A codec and the rows that it can write."""

    spec: CodecSpec
    row: st.SearchStrategy[dict[str, Any]] = _ROW
    #: A message that cannot be read, and how the reason begins.
    bad: bytes = b"\xff"
    why: str = ""


_NO_FRAME = "not in the registry's wire format: 1 bytes, at least 5 name the schema"
CASES = {
    "json": Case(Json(_COLUMNS), why="not UTF-8: byte 0xff at position 1"),
    "json schema": Case(JsonSchema(columns=_COLUMNS), why=_NO_FRAME),
    "avro in the registry": Case(Avro(_RECORD), why=_NO_FRAME),
    "avro of the rows' columns": Case(Avro(columns=_COLUMNS), why=_NO_FRAME),
    "avro single objects": Case(Avro(_RECORD, framing="single-object"), why="not an Avro single object"),
    "avro without a frame": Case(Avro(_RECORD, framing="bare"), why="does not fit the declared schema: "),
    "protobuf in the registry": Case(Protobuf("shop.Order", _PROTO), why=_NO_FRAME),
    "protobuf without a frame": Case(Protobuf("Order", _PROTO, framing="bare"), why='no "shop.Order": '),
    "text": Case(Text("name"), st.fixed_dictionaries({"name": _TEXTS}), why="not UTF-8: byte 0xff at position 1"),
    "bytes": Case(Raw("name"), st.fixed_dictionaries({"name": st.binary(max_size=5)})),
}
SOME = settings(max_examples=few(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with registry_server() as server:
        yield open_registry(server.url)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def codec(request: pytest.FixtureRequest, case: Case, registry: Registry) -> Codec:
    return open_codec(case.spec, request.node.callspec.id, "value", registry)


def frame(codec: Codec, rows: list[dict[str, Any]]) -> pl.DataFrame:
    assert codec.columns is not None
    return pl.DataFrame(rows, schema=codec.columns)


@SOME
@given(data=st.data())
def test_rows_come_back_as_they_were_written(case: Case, codec: Codec, data: st.DataObject) -> None:
    rows = frame(codec, data.draw(st.lists(case.row, max_size=4)))
    back = codec.decode(codec.encode(rows))
    assert told(back) == {}
    assert back.taken is None
    assert back.rows.schema == codec.columns
    assert rows_of(back.rows) == rows_of(rows)


@SOME
@given(data=st.data())
def test_a_message_gives_the_same_whatever_it_is_read_with(case: Case, codec: Codec, data: st.DataObject) -> None:
    """Also where bytes of it were changed, added or lost."""
    messages = codec.encode(frame(codec, data.draw(st.lists(case.row, min_size=1, max_size=5))))
    messages = [data.draw(st.just(message) | _damaged(message or b"")) for message in messages]
    whole = codec.decode(messages)
    rows, errors, empty = [], {}, []
    for first, end in pairwise(sorted(data.draw(st.sets(st.integers(0, len(messages)))) | {0, len(messages)})):
        part = codec.decode(messages[first:end])
        rows += rows_of(part.rows)
        errors |= {first + index: error for index, error in told(part).items()}
        empty += [first + index for index in part.empty]
    assert (rows, errors, empty) == (rows_of(whole.rows), told(whole), list(whole.empty))
    taken = range(len(messages)) if whole.taken is None else whole.taken
    assert sorted([*taken, *errors, *empty]) == list(range(len(messages)))
    assert whole.rows.height == len(taken)


@st.composite
def _damaged(draw: st.DrawFn, message: bytes) -> bytes | None:
    kind = draw(st.integers(0, 3))
    at = draw(st.integers(0, max(len(message) - 1, 0)))
    if kind == 0:
        return None
    return [message[:at], message[:at] + draw(st.binary(min_size=1, max_size=2)) + message[at + 1 :], message + b"x"][
        kind - 1
    ]


def test_a_bad_message_harms_no_other(case: Case, codec: Codec) -> None:
    if not case.why:
        assert codec.decode([case.bad]).bad == ()  # all bytes can be read
        return
    good = codec.encode(frame(codec, [_first(case), _first(case)]))
    made = codec.decode([good[0], case.bad, None, good[1]])
    assert list(made.taken or ()) == [0, 3]
    assert rows_of(made.rows) == rows_of(codec.decode(good).rows)
    assert list(made.empty) == [2]
    assert told(made)[1].startswith(case.why)


def _first(case: Case) -> dict[str, Any]:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
    row = {"id": 1, "name": "x", "at": moment, "price": 0.5, "tags": ["a", "b"], "ok": True}
    return row if isinstance(case.spec, Json | JsonSchema | Avro | Protobuf) else {"name": "x" if case.why else b"x"}


def test_a_projection_gives_those_columns_in_that_order(case: Case, codec: Codec) -> None:
    row = _first(case)
    messages = codec.encode(frame(codec, [row]))
    names = [name for name in ("name", "id") if name in row]
    part = codec.only(names)
    assert part.columns is not None
    assert part.columns.names() == names
    assert part.decode(messages).rows.to_dicts() == [{name: row[name] for name in names}]
    none = codec.only([]).decode([*messages, None])
    assert (none.rows.width, none.rows.height, list(none.empty)) == (0, 1, [1])


def test_a_column_that_is_not_there_is_told(codec: Codec) -> None:
    codec.encode(frame(codec, []))
    with pytest.raises(UnknownName, match='There is no column "nam"'):
        assert codec.only(["nam"]).columns


def test_no_messages_give_no_rows_of_the_same_columns(codec: Codec) -> None:
    assert codec.columns is not None
    assert codec.encode(pl.DataFrame(schema=codec.columns)) == []
    for messages in ([], [None]):
        made = codec.decode(messages)
        assert made.rows.schema == codec.columns
        assert list(made.empty) == list(range(len(messages)))
