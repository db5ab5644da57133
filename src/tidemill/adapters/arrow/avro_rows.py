"""Rows for Avro messages: the schema that their columns make, and values in the forms that fastavro writes."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from tidemill.adapters.arrow.normal import normal_type
from tidemill.adapters.arrow.types import from_arrow_type
from tidemill.model.errors import DefinitionError
from tidemill.model.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    UNKNOWN,
    UUID,
    Decimal,
    List,
    Map,
    Struct,
    Type,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AVRO: dict[Type, Any] = {
    BOOLEAN: "boolean",
    INT: "int",
    LONG: "long",
    FLOAT: "float",
    DOUBLE: "double",
    STRING: "string",
    BINARY: "bytes",
    UUID: {"type": "string", "logicalType": "uuid"},
    DATE: {"type": "int", "logicalType": "date"},
    TIME: {"type": "long", "logicalType": "time-micros"},
    TIMESTAMP: {"type": "long", "logicalType": "local-timestamp-micros"},
    TIMESTAMPTZ: {"type": "long", "logicalType": "timestamp-micros"},
}


def schema_of_rows(rows: pl.DataFrame, record: str) -> dict[str, Any]:
    """A record of the columns, each of which may be null, so that a later schema may leave it out.

    Raises:
        DefinitionError: a name that Avro cannot hold.
    """
    types = zip(rows.columns, rows.head(0).to_arrow().schema.types, strict=True)
    return _record(record, [(name, from_arrow_type(normal_type(kind))) for name, kind in types])


def _record(name: str, fields: list[tuple[str, Type]]) -> dict[str, Any]:
    made = []
    for field, kind in fields:
        if not _NAME.fullmatch(field):
            raise DefinitionError(
                f'"{field}" cannot name a field in Avro: letters, digits and underscores.', hint="rename the column"
            )
        if kind != UNKNOWN:
            made.append({"name": field, "type": ["null", _avro(kind, f"{name}_{field}")], "default": None})
    return {"type": "record", "name": name, "fields": made}


def _avro(kind: Type, name: str) -> Any:
    if isinstance(kind, Decimal):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if isinstance(kind, List):
        return {"type": "array", "items": ["null", _avro(kind.element, name)]}
    if isinstance(kind, Map):
        return {"type": "map", "values": ["null", _avro(kind.value, name)]}
    if isinstance(kind, Struct):
        return _record(name.replace(".", "_"), list(kind.fields))
    return _AVRO[kind]


def plain_values(values: list[Any], kind: Type) -> list[Any]:
    """Values as fastavro takes them: maps as dictionaries."""
    if not _has_map(kind):
        return values
    return [_plain(value, kind) for value in values]


def _has_map(kind: Type) -> bool:
    if isinstance(kind, List):
        return _has_map(kind.element)
    if isinstance(kind, Struct):
        return any(_has_map(part) for _, part in kind.fields)
    return isinstance(kind, Map)


def _plain(value: Any, kind: Type) -> Any:
    if value is None:
        return None
    if isinstance(kind, List):
        return [_plain(each, kind.element) for each in value]
    if isinstance(kind, Struct):
        return {name: _plain(value[name], part) for name, part in kind.fields}
    if isinstance(kind, Map):
        return {str(key): _plain(part, kind.value) for key, part in value}
    return value
