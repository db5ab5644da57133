"""Avro messages: read as a table reads an Avro file, by the schema each was written with, into the topic's columns."""

from __future__ import annotations

import datetime as dt
import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.decoding import decode, feed
from harness.examples import few
from harness.messages import comparable, rows_of, told
from harness.registry import RegistryServer, registry_server
from tidemill.model.codec import Avro
from tidemill.model.errors import ContractError, DataError, DefinitionError, SettingsError, UnknownName, Unreachable
from tidemill.ports.codec import Codec
from tidemill.ports.registry import Reference, Registry, RegistrySchema
from tidemill.wiring.codecs import open_codec, open_registry


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as made:
        yield made


@pytest.fixture
def registry(server: RegistryServer) -> Registry:
    return open_registry(server.url)


def record(fields: dict[str, Any], name: str = "R") -> str:
    return json.dumps({"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]})


def avro(schema: str, row: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), row)
    return out.getvalue()


def registered(registry: Registry, schema: str, *rows: Any, subject: str = "t-value") -> list[bytes]:
    """Messages as any producer writes them."""
    number = registry.register(subject, RegistrySchema(schema))
    return [b"\0" + number.to_bytes(4, "big") + avro(schema, row) for row in rows]


def reader(registry: Registry | None = None, **spec: Any) -> Codec:
    return open_codec(Avro(**spec), "t", "value", registry)


_TEXTS = st.text(max_size=2)
_ITEM = {"type": "record", "name": "I", "fields": [{"name": "x", "type": ["null", "string"]}]}
_FIELDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": ("int", st.integers(-(2**31), 2**31 - 1)),
    "double": ("double", st.floats(allow_nan=False)),
    "null or long": (["null", "long"], st.none() | st.integers(-5, 5)),
    "enum": ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, st.sampled_from(["A", "B"])),
    "decimal": ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
                st.decimals(-1000, 1000, places=2)),
    "date": ({"type": "int", "logicalType": "date"}, st.dates()),
    "millis": ({"type": "long", "logicalType": "timestamp-millis"},
               st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1)).map(
                   lambda t: t.replace(microsecond=0, tzinfo=dt.UTC))),
    "union": (["string", "long"], st.text(max_size=2) | st.integers(0, 9)),
    "map": ({"type": "map", "values": "int"}, st.dictionaries(st.text(max_size=2), st.integers(0, 9), max_size=2)),
    "array of records": ({"type": "array", "items": _ITEM},
                         st.lists(st.fixed_dictionaries({"x": st.none() | _TEXTS}), max_size=2)),
    "fixed": ({"type": "fixed", "name": "F", "size": 3}, st.binary(min_size=3, max_size=3)),
}  # fmt: skip


@settings(max_examples=few(100), deadline=None)
@given(st.data())
def test_messages_are_read_as_a_table_reads_a_file(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(sorted(_FIELDS)), min_size=1, max_size=4, unique=True))
    schema = record({f"c{i}": _FIELDS[kind][0] for i, kind in enumerate(kinds)})
    row = st.fixed_dictionaries({f"c{i}": _FIELDS[kind][1] for i, kind in enumerate(kinds)})
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(json.loads(schema)), rows)
    loaded = decode([feed(out.getvalue(), "f.avro")])
    made = reader(schema=schema, framing="bare").decode([avro(schema, each) for each in rows])
    assert told(made) == {}
    assert rows_of(made.rows) == [[comparable(value) for value in each.values()] for each in loaded.rows]


def test_older_and_newer_schemas_are_read_into_the_same_columns(registry: Registry) -> None:
    """Added fields are null, types widen, fields that nobody declared are left out; the order is that of messages."""
    old = registered(registry, record({"id": "int", "gone": "string"}), {"id": 1, "gone": "x"}, {"id": 2, "gone": "y"})
    late = {"name": "late", "type": ["null", "string"], "default": None}
    new = json.dumps({"type": "record", "name": "R", "fields": [{"name": "id", "type": "long"}, late]})
    newer = registered(registry, new, {"id": 2**40, "late": "z"})
    made = reader(registry, columns={"id": "long", "late": "string"}).decode([old[0], newer[0], None, old[1]])
    assert made.rows.rows() == [(1, None), (2**40, "z"), (2, None)]
    assert list(made.empty) == [2]
    assert reader(registry).columns == pl.Schema({"id": pl.Int64(), "late": pl.String()})


def test_values_that_do_not_fit_the_columns_are_told(registry: Registry) -> None:
    messages = registered(
        registry, record({"id": "long", "name": "string"}), {"id": 2**40, "name": "x"}, {"id": 1, "name": "y"}
    )
    made = reader(registry, columns={"id": "int", "name": "string"}).decode(messages)
    assert told(made) == {0: f"id: {2**40} does not fit int"}
    assert made.rows.rows() == [(1, "y")]


def test_unknown_numbers_and_other_formats_are_told(registry: Registry) -> None:
    good = registered(registry, record({"id": "long"}), {"id": 1})
    number = registry.register("j", RegistrySchema("{}", "JSON"))
    made = reader(registry, columns={"id": "long"}).decode(
        [b"\0\0\0\0\x63abc", good[0], b'{"id":1}', b"\0" + number.to_bytes(4, "big"), good[0] + b"!"]
    )
    assert told(made) == {
        0: "The registry has no schema with the id 99",
        2: "not in the registry's wire format: it begins with 0x7b, not with 0x00",
        3: f"the schema with the id {number} is of the format JSON, not AVRO",
        4: "does not fit schema 1: 1 bytes are left over",
    }
    assert made.rows.rows() == [(1,)]


def test_a_registry_that_is_away_stops_the_reading_and_harms_nothing(server: RegistryServer) -> None:
    registry = open_registry(server.url)
    good = registered(registry, record({"id": "long"}), {"id": 1})
    codec = open_codec(Avro(columns={"id": "long"}), "t", "value", open_registry(server.url))
    server.failures = [503, 503, 503]
    with pytest.raises(Unreachable):
        codec.decode(good)
    assert codec.decode(good).rows.rows() == [(1,)]


def test_schemas_that_refer_to_others_are_read(registry: Registry) -> None:
    registry.register("place", RegistrySchema(record({"city": "string"}, "Place")))
    outer = RegistrySchema(record({"here": "Place", "there": "Place"}), "AVRO", (Reference("Place", "place", 1),))
    number = registry.register("t-value", outer)
    whole = record({"here": json.loads(record({"city": "string"}, "Place")), "there": "Place"})
    message = b"\0" + number.to_bytes(4, "big") + avro(whole, {"here": {"city": "a"}, "there": {"city": "b"}})
    assert reader(registry).decode([message]).rows.rows() == [({"city": "a"}, {"city": "b"})]


def test_incompatible_schemas_are_refused_with_the_registrys_reasons(registry: Registry) -> None:
    codec = reader(registry)
    codec.encode(pl.DataFrame({"id": [1]}))
    with pytest.raises(ContractError, match=r'incompatible with earlier ones of "t-value": .*id'):
        codec.encode(pl.DataFrame({"id": ["x"]}))
    with pytest.raises(UnknownName, match='not registered under "t-value"'):
        reader(registry, register=False).encode(pl.DataFrame({"other": [1]}))


@pytest.mark.parametrize(
    ("subject", "name"), [("topic", "t-value"), ("record", "shop.Row"), ("topic-record", "t-shop.Row")]
)
def test_subjects_are_called_as_other_clients_call_them(
    subject: Any, name: str, server: RegistryServer, registry: Registry
) -> None:
    schema = json.dumps(
        {"type": "record", "name": "Row", "namespace": "shop", "fields": [{"name": "id", "type": "long"}]}
    )
    messages = reader(registry, schema=schema, subject=subject).encode(pl.DataFrame({"id": [7]}))
    assert list(server.subjects) == [name]
    assert messages == [b"\0\0\0\0\x01\x0e"]


def test_rows_of_every_type_come_back_by_a_schema_of_their_own(registry: Registry) -> None:
    moment = dt.datetime(2024, 1, 2, 3, 4, 5, 678901)
    rows = pl.DataFrame(
        {
            "i": pl.Series([1, None], dtype=pl.Int16),
            "f": pl.Series([0.5, None], dtype=pl.Float32),
            "d": [Decimal("-1.50"), None],
            "t": [moment, None],
            "z": pl.Series([moment, None]).dt.replace_time_zone("UTC"),
            "day": [dt.date(2024, 1, 2), None],
            "clock": [dt.time(1, 2, 3, 4), None],
            "b": [b"\xff", None],
            "l": [[1, None], None],
            "s": [{"x": "a", "y": [{"z": 1}]}, None],
        }
    )
    codec = reader(registry)
    back = codec.decode(codec.encode(rows)).rows
    assert back.with_columns(pl.col("i").cast(pl.Int16)).rows() == rows.rows()


@pytest.mark.parametrize(
    ("fields", "rows", "error"),
    [
        ({"a": "long"}, {"a": [1, None]}, 'Column "a", row 1: None does not fit the Avro schema.'),
        ({"a": "int"}, {"a": [1, 2**40]}, f'Column "a", row 1: {2**40} does not fit int of the Avro schema.'),
        ({"a": "int"}, {"a": ["x"]}, 'Column "a", row 0: x does not fit int of the Avro schema.'),
        ({"a": "long"}, {"a": [1], "b": [2]}, 'The Avro schema has no field for the column "b".'),
        ({"a": {"type": "enum", "name": "E", "symbols": ["A"]}}, {"a": ["B"]},
         "Column \"a\", row 0: 'B' does not fit the Avro schema."),
    ],
)  # fmt: skip
def test_values_that_a_schema_does_not_take_are_told_by_column_and_row(fields: Any, rows: Any, error: str) -> None:
    with pytest.raises(DataError) as caught:
        reader(schema=record(fields), framing="bare").encode(pl.DataFrame(rows))
    assert caught.value.what == error


def test_single_objects_name_their_schema_by_its_fingerprint() -> None:
    """The bytes are those of the specification's example of a fingerprint: CRC-64-AVRO of the canonical form."""
    schema = record({"id": "long"})
    codec = reader(schema=schema, framing="single-object")
    (message,) = codec.encode(pl.DataFrame({"id": [7]}))
    assert message is not None
    assert message[:2] == b"\xc3\x01"
    assert codec.decode([message]).rows.rows() == [(7,)]
    other = reader(schema=record({"id": "int"}), framing="single-object")
    assert "is not known" in told(other.decode([message]))[0]


def test_a_schema_of_one_value_is_one_column() -> None:
    codec = reader(schema='"string"', framing="bare")
    assert codec.decode(codec.encode(pl.DataFrame({"value": ["x", "y"]}))).rows["value"].to_list() == ["x", "y"]


@settings(max_examples=few(150), deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_row_or_a_reason(message: bytes) -> None:
    """No bytes end the process, take memory that nobody has, or raise."""
    schema = record({kind.replace(" ", "_"): made for kind, (made, _) in _FIELDS.items()})
    made = reader(schema=schema, framing="bare").decode([message])
    assert made.rows.height + len(made.bad) == 1


def test_mistakes_are_told(registry: Registry) -> None:
    with pytest.raises(DefinitionError, match='framing="bare" do not say which schema'):
        Avro(framing="bare")
    with pytest.raises(DefinitionError, match="is no JSON"):
        reader(schema="{")
    with pytest.raises(SettingsError, match='messages of "t" name schemas of a registry, and none is set'):
        _ = reader().columns
    with pytest.raises(UnknownName, match='no subject "t-value"'):
        _ = reader(registry).columns
    with pytest.raises(DefinitionError, match='With subject="record" the topic "t" may have many'):
        _ = reader(registry, subject="record").columns
    with pytest.raises(DefinitionError, match='"a b" cannot name a field in Avro'):
        reader(registry).encode(pl.DataFrame({"a b": [1]}))
