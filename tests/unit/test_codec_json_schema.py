"""JSON messages with a schema in a registry: columns from properties, and each message held against its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from harness.messages import told
from harness.registry import registry_server
from tidemill.adapters.arrow.json_schema import columns_of
from tidemill.model.codec import JsonSchema
from tidemill.model.errors import DataError, DefinitionError
from tidemill.ports.codec import Codec
from tidemill.ports.registry import Reference, Registry, RegistrySchema
from tidemill.wiring.codecs import open_codec, open_registry

SCHEMA = {
    "title": "Order",
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "integer", "minimum": 1},
        "name": {"oneOf": [{"type": "null"}, {"type": "string", "maxLength": 3}]},
        "at": {"type": ["null", "string"], "format": "date-time"},
        "items": {"type": "array", "items": {"$ref": "#/definitions/item"}},
        "any": {},
        "by": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "definitions": {"item": {"type": "object", "properties": {"sku": {"type": "string"}}}},
}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with registry_server() as server:
        yield open_registry(server.url)


def codec(registry: Registry, **spec: Any) -> Codec:
    return open_codec(JsonSchema(**spec), "t", "value", registry)


def message(number: int, **fields: Any) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + json.dumps(fields).encode()


def test_properties_become_columns() -> None:
    assert {column.name: str(column.type) for column in columns_of(SCHEMA)} == {
        "id": "long", "name": "string", "at": "timestamptz", "items": "list<struct<sku:string>>", "any": "string",
        "by": "map<string,double>",
    }  # fmt: skip
    with pytest.raises(DefinitionError, match="tells no properties"):
        columns_of({"type": "object"})


def test_messages_are_held_against_the_schema_that_they_name(registry: Registry) -> None:
    strict = registry.register("t-value", RegistrySchema(json.dumps(SCHEMA), "JSON"))
    loose = registry.register("other", RegistrySchema("{}", "JSON"))
    messages = [
        message(strict, id=1, name="abc"), message(strict, id=0), message(strict, name="x"), message(loose, id=0),
        message(strict, id=2, name="abcd"), message(99, id=1), message(strict, id="x"),
    ]  # fmt: skip
    made = codec(registry, columns={"id": "long", "name": "string"}).decode(messages)
    assert made.rows.rows() == [(1, "abc"), (0, None)]
    errors = told(made)
    assert errors.pop(4).startswith("name: ")
    assert errors == {
        1: "id: 0 is less than the minimum of 1",
        2: "'id' is a required property",
        5: "The registry has no schema with the id 99",
        6: 'id: "x" does not fit long',
    }
    unchecked = codec(registry, columns={"id": "long"}, validate=False).decode(messages)
    assert told(unchecked).keys() == {5, 6}


def test_columns_are_those_of_the_newest_schema(registry: Registry) -> None:
    registry.register("t-value", RegistrySchema(json.dumps(SCHEMA), "JSON"))
    assert codec(registry).only(["at", "id"]).columns == pl.Schema({"at": pl.Datetime("us", "UTC"), "id": pl.Int64()})


def test_rows_are_held_against_the_schema_before_they_are_written(registry: Registry) -> None:
    writer = codec(registry, schema=json.dumps(SCHEMA))
    assert writer.encode(pl.DataFrame({"id": [1], "name": [None]})) == [b'\0\0\0\0\x01{"id":1,"name":null}']
    with pytest.raises(DataError, match="Row 1: id: 0 is less than the minimum of 1"):
        writer.encode(pl.DataFrame({"id": [1, 0]}))
    with pytest.raises(DefinitionError, match="is no JSON Schema"):
        codec(registry, schema='{"type": 5}')


def test_schemas_that_refer_to_others_are_used(registry: Registry) -> None:
    registry.register("id", RegistrySchema('{"type": "integer", "maximum": 5}', "JSON"))
    text = '{"type": "object", "properties": {"id": {"$ref": "id.json"}}}'
    number = registry.register("t-value", RegistrySchema(text, "JSON", (Reference("id.json", "id", 1),)))
    made = codec(registry, columns={"id": "long"}).decode([message(number, id=5), message(number, id=6)])
    assert told(made) == {1: "id: 6 is greater than the maximum of 5"}
