"""The JSON Schema of pipelines in YAML, for editors: made of the same functions that read them."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Union, get_args, get_origin

from tidemill.authoring.kinds import CHECKS, MADE, PARTS, SECTIONS, SOURCES, Argument, Kind, arguments_of
from tidemill.authoring.written import _PIPELINE, OF_TABLES, SOURCE_OPTIONS
from tidemill.model.policy import PolicyKind
from tidemill.model.table import OnMisfit, WriteMode

_ANY: dict[str, Any] = {}
_CHECKS_REF = {"type": "array", "items": {"$ref": "#/$defs/check"}}


def schema() -> dict[str, Any]:
    """It."""
    options = _options(SOURCE_OPTIONS) | {"checks": _CHECKS_REF}
    kinds = {name: _kind(name, kind) for name, kind in SOURCES.items()}
    top = {name: _argument(name, argument) for name, argument in arguments_of("pipeline", _PIPELINE).items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A pipeline of Tidemill",
        **_object({
            "pipeline": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
            **top,
            "sources": {"type": "object", "additionalProperties": {"$ref": "#/$defs/source"}},
            "tables": {"type": "object", "additionalProperties": {"$ref": "#/$defs/table"}},
            **{name: {"type": "array", "items": _kind(name, kind)} for name, kind in SECTIONS.items()},
        }, ["pipeline"]),
        "$defs": {
            "source": {**_object({**kinds, **options}), "oneOf": [{"required": [name]} for name in SOURCES]},
            "table": {
                **_object({"sql": {"type": "string"}, "from": {"type": "string"}, **_options(OF_TABLES),
                           "checks": _CHECKS_REF}),
                "oneOf": [{"required": ["sql"]}, {"required": ["from"]}],
            },
            "check": {**_object({name: _kind(name, kind) for name, kind in CHECKS.items()}), "maxProperties": 1},
            **{name: _object({part: _kind(part, PARTS[part]) for part in parts}) for name, parts in MADE.items()},
            "details": _kind("details", PARTS["details"]),
        },
    }  # fmt: skip


def _options(names: Iterable[str]) -> dict[str, Any]:
    known = {
        "write": {"enum": [mode.value for mode in WriteMode]},
        "contract": {"enum": [mode.value for mode in OnMisfit]},
        "columns": {"type": "object", "additionalProperties": {"type": "string"}},
        "policy": {
            "type": "object",
            "additionalProperties": {"type": "string", "pattern": f"^({'|'.join(PolicyKind)})(\\(.+\\))?$"},
        },
        "doc": {"type": "string"},
        "flatten": {"type": "boolean"},
    }
    return {name: known.get(name, _ANY) for name in names}


def _kind(name: str, kind: Kind) -> dict[str, Any]:
    known = arguments_of(name, kind)
    needed = [argument for argument, about in known.items() if about.needed]
    made = _object({argument: _argument(argument, about) for argument, about in known.items()}, needed)
    others = [_argument(kind.first, known[kind.first])] if kind.first else []
    return {"anyOf": [made, *others, *([{"type": "null"}] if not needed else [])]}


def _argument(name: str, argument: Argument) -> dict[str, Any]:
    if name in MADE:
        return {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "string"}]}
    if argument.spread:
        return {"anyOf": [_type(argument.hint), {"type": "array", "items": _type(argument.hint)}]}
    return _type(argument.hint)


def _type(hint: Any) -> dict[str, Any]:
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        found = [{"type": "null"} if one is type(None) else _type(one) for one in get_args(hint)]
        return _ANY if _ANY in found else {"anyOf": found}
    if origin is Literal:
        return {"enum": list(get_args(hint))}
    kind = origin or hint
    names = {bool: "boolean", int: "integer", float: "number", str: "string", timedelta: "string", datetime: "string"}
    if kind in names:
        return {"type": names[kind]}
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return {"type": "object"}
    if isinstance(kind, type) and issubclass(kind, Iterable):
        return {"type": "array"}
    return _ANY


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": required} if required else made
