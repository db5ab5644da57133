"""Protocol Buffers messages: fields as columns, places in files, and what the format cannot say."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.messages import told
from harness.registry import RegistryServer, registry_server
from tidemill.adapters.arrow import proto_schema
from tidemill.model.codec import Protobuf
from tidemill.model.errors import DataError, DefinitionError
from tidemill.ports.codec import Codec
from tidemill.ports.registry import Reference, Registry, RegistrySchema
from tidemill.wiring.codecs import open_codec, open_registry

PROTO = """syntax = "proto3"; package shop;
import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
message First { int32 x = 1; }
message Order {
  enum State { NEW = 0; PAID = 1; }
  message Item { string sku = 1; optional double price = 2; }
  int64 id = 1; optional string name = 2; State state = 3; repeated Item items = 4; map<string, Item> by = 5;
  google.protobuf.Timestamp at = 6; google.protobuf.Int32Value count = 7; uint64 big = 8; bytes raw = 9;
  oneof which { string left = 10; int32 right = 11; } google.protobuf.Struct loose = 12; map<int32, bool> flags = 13;
}
message Tree { string name = 1; repeated Tree below = 2; }
"""


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as made:
        yield made


@pytest.fixture
def registry(server: RegistryServer) -> Registry:
    return open_registry(server.url)


def codec(message: str = "Order", registry: Registry | None = None, **more: Any) -> Codec:
    spec = {"schema": PROTO, "framing": "registry" if registry else "bare", **more}
    return open_codec(Protobuf(message, **spec), "t", "value", registry)


def order(**fields: Any) -> Any:
    """A message as any producer makes it."""
    made = proto_schema.make_class(proto_schema.message_in(proto_schema.compiled(PROTO, {}), "shop.Order"))
    return made(**fields)


def test_fields_become_columns_and_absent_ones_null_where_the_format_tells() -> None:
    full = order(
        id=1, name="", state=1, items=[{"sku": "a", "price": 0.5}, {"sku": "b"}], by={"k": {"sku": "c"}},
        at={"seconds": -1, "nanos": 500_000_999}, count={"value": 0}, big=2**64 - 1, raw=b"\xff",
        right=0, loose={"a": [1, None]}, flags={3: True},
    )  # fmt: skip
    made = codec().decode([full.SerializeToString(), b""])
    assert told(made) == {}
    first, second = made.rows.drop("by", "flags").rows(named=True)
    assert first == {
        "id": 1, "name": "", "state": "PAID",
        "items": [{"sku": "a", "price": 0.5}, {"sku": "b", "price": None}],
        "at": dt.datetime(1969, 12, 31, 23, 59, 59, 500_000, dt.UTC), "count": 0, "big": Decimal(2**64 - 1),
        "raw": b"\xff", "left": None, "right": 0, "loose": '{"a": [1.0, null]}',
    }  # fmt: skip
    assert second == {
        "id": 0, "name": None, "state": "NEW", "items": [], "at": None, "count": None, "big": Decimal(0), "raw": b"",
        "left": None, "right": None, "loose": None,
    }  # fmt: skip
    maps = made.rows.select("by", "flags").to_arrow().to_pylist()[0]
    assert maps == {"by": [("k", {"sku": "c", "price": None})], "flags": [(3, True)]}
    assert codec().decode(codec().encode(made.rows)).rows.equals(made.rows)


def test_the_place_of_a_message_in_its_file_travels(registry: Registry) -> None:
    """The wire format: magic byte, number, and the indices of the message; one zero byte for the first."""
    assert codec("First", registry).encode(pl.DataFrame({"x": [1]})) == [b"\0\0\0\0\x01\0\x08\x01"]
    assert codec("Order", registry).encode(pl.DataFrame({"id": [1]})) == [b"\0\0\0\0\x01\x02\x02\x08\x01"]
    nested = codec("shop.Order.Item", registry)
    messages = nested.encode(pl.DataFrame({"sku": ["a"]}))
    assert messages == [b"\0\0\0\0\x01\x04\x02\0\x0a\x01a"]
    assert nested.decode(messages).rows.rows() == [("a", None)]


def test_messages_of_other_types_and_broken_ones_are_told(registry: Registry) -> None:
    reader = codec("Order", registry)
    (first,) = codec("First", registry).encode(pl.DataFrame({"x": [1]}))
    (good,) = reader.encode(pl.DataFrame({"id": [5]}))
    number = registry.register("a", RegistrySchema('"string"'))
    assert first is not None
    assert good is not None
    made = reader.decode(
        [first, good, good[:5], b"\0\0\0\0\x63\0", good[:5] + b"\x02\x12", b"\0" + number.to_bytes(4, "big") + b"\0",
         good[:7] + b"\xff", good[:5] + b"\xff" * 12]
    )  # fmt: skip
    assert made.rows["id"].to_list() == [5]
    errors = told(made)
    assert errors.pop(6).startswith('no "shop.Order": ')
    assert errors == {
        0: 'it is a message "shop.First", not "shop.Order"',
        2: "not in the registry's wire format: the message's place in its file is broken",
        3: "The registry has no schema with the id 99",
        4: "schema 1 has no message at [9]",
        5: f"the schema with the id {number} is of the format AVRO, not PROTOBUF",
        7: "not in the registry's wire format: the message's place in its file is broken",
    }


def test_older_and_newer_schemas_are_read_as_the_format_means_it(registry: Registry) -> None:
    older = PROTO.replace("optional string name = 2;", "").replace("int64 id", "int32 id")
    newer = PROTO.replace("int64 id = 1;", "int64 id = 1; string more = 99;")
    reader = codec(registry=registry, columns={"id": "long", "name": "string"})
    messages = [
        *codec(registry=registry, schema=older).encode(pl.DataFrame({"id": [1]})),
        *codec(registry=registry, schema=newer).encode(pl.DataFrame({"id": [2], "name": ["x"], "more": ["y"]})),
    ]
    assert reader.decode(messages).rows.rows() == [(1, None), (2, "x")]


def test_schemas_that_import_others_are_read(registry: Registry) -> None:
    registry.register("place", RegistrySchema('syntax = "proto3"; message Place { string city = 1; }', "PROTOBUF"))
    text = 'syntax = "proto3"; package shop; import "geo/place.proto"; message Order { int64 id = 1; Place here = 2; }'
    number = registry.register("t-value", RegistrySchema(text, "PROTOBUF", (Reference("geo/place.proto", "place", 1),)))
    message = b"\0" + number.to_bytes(4, "big") + b"\0" + order(id=3).SerializeToString()
    assert codec(registry=registry, columns={"id": "long"}).decode([message]).rows.rows() == [(3,)]


def test_a_generated_class_registers_its_own_description(registry: Registry) -> None:
    reader = codec("google.protobuf.timestamp_pb2:Timestamp", registry, schema=None)
    messages = reader.encode(pl.DataFrame({"seconds": [5], "nanos": pl.Series([7], dtype=pl.Int32)}))
    assert reader.decode(messages).rows.rows() == [(5, 7)]


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ({"id": [1, None]}, 'Column "id", row 1: null, which the field "id" cannot say: declare it optional'),
        ({"state": ["LOST"]}, 'Column "state", row 0: "LOST" is none of NEW, PAID'),
        ({"id": ["x"]}, 'Column "id", row 0: x does not fit long of the Protobuf schema.'),
        ({"nobody": [1]}, 'The Protobuf schema has no field for the column "nobody".'),
        ({"big": [Decimal(-1)]}, 'Column "big", row 0: '),
    ],
)
def test_values_that_a_message_cannot_say_are_told_by_column_and_row(rows: Any, error: str) -> None:
    with pytest.raises(DataError) as caught:
        codec().encode(pl.DataFrame(rows))
    assert caught.value.what.startswith(error)


def test_mistakes_are_told() -> None:
    with pytest.raises(DefinitionError, match=r"cannot be compiled: schema\.proto:1:"):
        codec(schema="message {")
    with pytest.raises(DefinitionError, match='has no message "Orders"'):
        codec("Orders")
    with pytest.raises(DefinitionError, match='"json:loads" is no class of Protocol Buffers messages'):
        codec("json:loads", schema=None)
    with pytest.raises(DefinitionError, match=r'"shop\.Tree" contains itself'):
        _ = codec("Tree").columns
    assert codec("Tree", columns={"name": "string"}).columns == pl.Schema({"name": pl.String()})
    with pytest.raises(DefinitionError, match="Single-object framing is Avro's"):
        Protobuf("m:C", framing="single-object")


@settings(max_examples=few(150), deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_row_or_a_reason(message: bytes) -> None:
    made = codec().decode([message])
    assert made.rows.height + len(made.bad) == 1
