"""Columns made to fit a table: values stay, whatever the slice, the nesting and the order of fields."""

from __future__ import annotations

import uuid
from itertools import count
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.schema import Schema as IcebergSchema

from harness.examples import few
from tidemill.adapters.iceberg.arrow import BY_ID, BY_NAME, FIELD_ID, arrow_schema, conform
from tidemill.adapters.iceberg.types import from_iceberg, from_iceberg_schema, new_field, to_iceberg
from tidemill.model.errors import ContractError, DefinitionError
from tidemill.model.table import Schema
from tidemill.model.types import Struct, parse_type


def target(columns: dict[str, str]) -> Any:
    ids = count(1)
    fields = (new_field(c.name, c.type, ids, required=not c.nullable) for c in Schema.of(columns))
    return arrow_schema(IcebergSchema(*fields))


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


NESTED = {
    "a": "long",
    "s": "struct<x:long,t:struct<y:string>>",
    "l": "list<struct<k:double,z:string>>",
    "m": "map<string,list<int>>",
}
SOURCE = pa.schema(
    [
        ("m", pa.map_(pa.string(), pa.large_list(pa.int8()))),
        ("l", pa.large_list(pa.struct([("z", pa.string_view()), ("k", pa.float32())]))),
        ("s", pa.struct([("t", pa.struct([("y", pa.large_string())])), ("x", pa.int16())])),
        ("a", pa.int32()),
    ]
)
WORD, DIGIT = st.text(max_size=3), st.integers(0, 9)
STRUCT = st.fixed_dictionaries({"x": maybe(DIGIT), "t": maybe(st.fixed_dictionaries({"y": WORD}))})
ELEMENT = st.fixed_dictionaries({"k": maybe(DIGIT.map(float)), "z": WORD})
PAIR = st.tuples(WORD, maybe(st.lists(maybe(DIGIT), max_size=2)))
ROW = st.fixed_dictionaries(
    {
        "a": maybe(st.integers(-9, 9)),
        "s": maybe(STRUCT),
        "l": maybe(st.lists(maybe(ELEMENT), max_size=3)),
        "m": maybe(st.lists(PAIR, max_size=2)),
    }
)


@settings(max_examples=few(80), deadline=None)
@given(rows=st.lists(ROW, max_size=6), start=st.integers(0, 6), length=st.integers(0, 6))
def test_nested_values_survive_any_slice_and_order_of_fields(rows: list[Any], start: int, length: int) -> None:
    batch = pa.RecordBatch.from_pylist(rows, schema=SOURCE).slice(start, length)
    fitted = conform(batch, target(NESTED), BY_NAME)
    fitted.validate(full=True)
    assert fitted.schema.equals(target(NESTED), check_metadata=True)
    assert fitted.to_pylist() == [{name: row[name] for name in NESTED} for row in rows[start : start + length]]


def test_files_are_matched_by_field_id_at_every_level() -> None:
    old = target({"id": "int", "v": "string", "s": "struct<a:int,b:string>"})
    batch = pa.RecordBatch.from_pylist([{"id": 1, "v": "x", "s": {"a": 1, "b": "gone"}}], schema=old)

    def field(name: str, kind: Any, number: int) -> Any:
        return pa.field(name, kind, metadata={FIELD_ID: str(number)})

    struct = pa.struct([field("renamed", pa.int64(), 4), field("b", pa.large_string(), 9)])
    new = pa.schema([field("s", struct, 3), field("key", pa.int64(), 1), field("v", pa.int64(), 8)])
    assert conform(batch, new, BY_ID).to_pylist() == [{"s": {"renamed": 1, "b": None}, "key": 1, "v": None}]


@pytest.mark.parametrize("stored", ["text", "bytes", "extension"])
def test_uuids_come_in_every_shape(stored: str) -> None:
    value = uuid.UUID(int=5)
    raw = pa.array([value.bytes, None], pa.binary(16))
    column = {
        "text": pa.array([str(value), None]),
        "bytes": raw,
        "extension": pa.ExtensionArray.from_storage(pa.uuid(), raw),
    }[stored]
    assert conform(pa.record_batch({"u": column}), target({"u": "uuid"}), BY_NAME).to_pylist() == [
        {"u": value},
        {"u": None},
    ]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array(["1"]), "long"),
        (pa.array([1]), "string"),
        (pa.array([2**53 + 1]), "double"),
        (pa.array(["no uuid"]), "uuid"),
        (pa.array([1], pa.timestamp("us")), "timestamptz"),
        (pa.array([1], pa.timestamp("us", "UTC")), "timestamp"),
        (pa.array([1], pa.timestamp("ns")), "timestamp"),
        (pa.array([True]), "int"),
        (pa.array([b"\xff"]), "string"),
        (pa.array([[1]]), "long"),
        (pa.array([{"a": 1}]), "list<long>"),
    ],
)
def test_what_does_not_fit_without_loss_is_refused(column: Any, kind: str) -> None:
    with pytest.raises(ContractError, match='Column "c"'):
        conform(pa.record_batch({"c": column}), target({"c": kind}), BY_NAME)


def test_nulls_are_refused_where_they_must_not_be() -> None:
    batch = pa.record_batch({"c": pa.array([1, None, None])})
    with pytest.raises(ContractError, match="2 rows have no value"):
        conform(batch, target({"c": "long not null"}), BY_NAME)


def test_two_columns_of_one_name_are_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["c", "c"])
    with pytest.raises(ContractError, match="same name"):
        conform(batch, target({"c": "long"}), BY_NAME)


@pytest.mark.parametrize(
    "text",
    ["boolean", "decimal(38,9)", "uuid", "time", "list<list<unknown>>", "unknown", "map<string,unknown>",
     "struct<a:unknown,\"b c\":list<struct<d:map<long,unknown>>>>"],
)  # fmt: skip
def test_types_go_to_iceberg_and_back(text: str) -> None:
    field = new_field("c", parse_type(text), count(1))
    (column,) = from_iceberg_schema(IcebergSchema(field))
    assert str(column.type) == text
    assert arrow_schema(IcebergSchema(field)).field("c") is not None
    assert from_iceberg(to_iceberg(parse_type("long"), count(1))) == parse_type("long")


def test_a_struct_without_fields_is_refused() -> None:
    with pytest.raises(DefinitionError, match="at least one field"):
        to_iceberg(Struct(()), count(1))
