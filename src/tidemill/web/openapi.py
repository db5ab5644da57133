"""The OpenAPI document, made of the table of routes and the types that it names: nothing is said twice."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import json as msgjson

from tidemill.version import __version__
from tidemill.web.problems import MEDIA_TYPE, Problem
from tidemill.web.table import Endpoint, Query

PATH = "/openapi.json"
_PART = re.compile(r"\{(\w+)(?::(\w+))?\}")
_REF = "#/components/schemas/{name}"


def document(table: Iterable[Endpoint]) -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    endpoints = list(table)
    types: list[Any] = [Problem]
    for one in endpoints:
        types += [kind for kind in (one.gives, one.body) if kind not in (None, dict) and kind not in types]
    schemas, components = msgjson.schema_components(types, ref_template=_REF)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        path = _PART.sub(r"{\1}", one.full_path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidemill",
            "version": __version__,
            "description": "Everything that is known of a project's pipelines, runs, tables and streams, and what can "
            "be done about it. Errors are application/problem+json.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(one: Endpoint, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": _operation_id(one),
        "summary": one.summary,
        "description": inspect.getdoc(one.handler) or one.summary,
        "tags": [one.path.split("/")[1] if one.prefixed else "installation"],
        "parameters": [*_path_parameters(one), *_query_parameters(one.query), *_header_parameters(one)],
        "responses": _responses(one, by_type),
        "security": [{}, {"token": []}],
        "x-role": one.role.name.lower(),
    }
    if one.body is not None:
        content = {"application/json": {"schema": by_type[one.body]}}
        made["requestBody"] = {"required": True, "content": content}
    return made


def _operation_id(one: Endpoint) -> str:
    return f"{one.handler.__module__.rpartition('.')[2]}_{one.handler.__name__}"


def _path_parameters(one: Endpoint) -> list[dict[str, Any]]:
    made = []
    for name, kind in _PART.findall(one.path):
        schema = {"type": "integer", "minimum": 1} if kind == "int" else {"type": "string", "minLength": 1}
        made.append({"name": name, "in": "path", "required": True, "schema": schema})
    return made


def _query_parameters(query: type[Query]) -> list[dict[str, Any]]:
    _, components = msgjson.schema_components([query], ref_template=_REF)
    schema = components[query.__name__]
    required = schema.get("required", ())
    made = []
    for name, about in schema["properties"].items():
        described = about.pop("description", None)
        parameter = {"name": name, "in": "query", "required": name in required, "schema": about}
        if described:
            parameter["description"] = described
        made.append(parameter)
    return made


def _header_parameters(one: Endpoint) -> list[dict[str, Any]]:
    if one.changes:
        text = "the same key again does nothing twice, and is answered as before"
        return [_header("Idempotency-Key", text)]
    if one.media == "text/event-stream":
        return [_header("Last-Event-ID", "go on after this event")]
    if one.gives is not None:
        return [_header("If-None-Match", "the ETag of an answer: 304 while that is still the answer")]
    return []


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}


def _responses(one: Endpoint, by_type: Mapping[Any, Any]) -> dict[str, Any]:
    schema = (
        {"type": "string"} if one.gives is None else {"type": "object"} if one.gives is dict else by_type[one.gives]
    )
    made: dict[str, Any] = {"200": {"description": "The answer", "content": {one.media: {"schema": schema}}}}
    if not one.changes and one.gives is not None:
        made["304"] = {"description": "What If-None-Match names is still the answer"}
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    made["default"] = {"description": "Why it was not carried out", "content": problem}
    return made
