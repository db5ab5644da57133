"""Between JSON Schemas and columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.model.errors import DefinitionError
from tidemill.model.table import Column, Schema
from tidemill.model.types import (
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIMESTAMPTZ,
    UUID,
    List,
    Map,
    Struct,
    Type,
)

_SIMPLE: dict[str, Type] = {"boolean": BOOLEAN, "integer": LONG, "number": DOUBLE}
_FORMATS: dict[str, Type] = {"date-time": TIMESTAMPTZ, "date": DATE, "uuid": UUID}
_NAMES: dict[Type, dict[str, Any]] = {
    BOOLEAN: {"type": "boolean"},
    INT: {"type": "integer"},
    LONG: {"type": "integer"},
    FLOAT: {"type": "number"},
    DOUBLE: {"type": "number"},
    DATE: {"type": "string", "format": "date"},
    TIMESTAMPTZ: {"type": "string", "format": "date-time"},
    UUID: {"type": "string", "format": "uuid"},
}


def columns_of(schema: Any) -> Schema:
    """The columns of objects with a schema: its properties. What no single type can be told of is JSON as text.

    Raises:
        DefinitionError: it is no schema of objects with properties.
    """
    whole = _type_of(schema, schema, 0)
    if not isinstance(whole, Struct):
        raise DefinitionError(
            "The JSON Schema tells no properties, so the columns are not known.", hint="declare them: columns={...}"
        )
    made = Schema(tuple(Column(name, kind) for name, kind in whole.fields))
    made.check_unique()
    return made


def _type_of(schema: Any, root: Any, depth: int) -> Type:
    if not isinstance(schema, Mapping) or depth > 32:
        return STRING
    if isinstance(target := schema.get("$ref"), str):
        return _type_of(_at(root, target), root, depth + 1)
    for word in ("oneOf", "anyOf"):
        some = [each for each in schema.get(word) or () if each != {"type": "null"}]
        if len(some) == 1:
            return _type_of(some[0], root, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        left = [each for each in kind if each != "null"]
        kind = left[0] if len(left) == 1 else None
    if kind == "string":
        return _FORMATS.get(str(schema.get("format")), STRING)
    if kind == "array" and isinstance(schema.get("items"), Mapping):
        return List(_type_of(schema["items"], root, depth + 1))
    if kind == "object" or (kind is None and "properties" in schema):
        if schema.get("properties"):
            fields = schema["properties"].items()
            return Struct(tuple((str(name), _type_of(part, root, depth + 1)) for name, part in fields))
        if isinstance(schema.get("additionalProperties"), Mapping):
            return Map(STRING, _type_of(schema["additionalProperties"], root, depth + 1))
    return _SIMPLE.get(str(kind), STRING)


def _at(root: Any, target: str) -> Any:
    """The part of a schema that a pointer within it names."""
    if not target.startswith("#"):
        return None
    for step in target[1:].strip("/").split("/"):
        if step:
            root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, Mapping) else None
    return root


def schema_of(columns: Schema) -> dict[str, Any]:
    """The schema of objects with these columns, each of which may be null."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Row",
        "type": "object",
        "properties": {column.name: _or_null(column.type) for column in columns},
    }


def _or_null(kind: Type) -> dict[str, Any]:
    return {"oneOf": [{"type": "null"}, _schema(kind)]}


def _schema(kind: Type) -> dict[str, Any]:
    if isinstance(kind, List):
        return {"type": "array", "items": _or_null(kind.element)}
    if isinstance(kind, Map):
        return {"type": "object", "additionalProperties": _or_null(kind.value)}
    if isinstance(kind, Struct):
        return {"type": "object", "properties": {name: _or_null(part) for name, part in kind.fields}}
    return _NAMES.get(kind, {"type": "string"})
