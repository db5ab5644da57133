"""Parameters that are given for a run: read as what their JSON schema says, and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.model.definition import Definition
from tidemill.model.errors import UnknownName, UserError


def read_params(definition: Definition, given: Iterable[str]) -> dict[str, Any]:
    """Read `name=value` texts: the value as JSON, or as text where the parameter is text or it is no JSON.

    Raises:
        UnknownName: the pipeline has no such parameter.
        UserError: a text is no `name=value`.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f'"{text}" is no parameter.', hint="--param name=value")
        if name not in definition.params:
            raise UnknownName.of("parameter", name, definition.params, where=definition.place)
        found[name] = _value(value, definition.params[name])
    return found


def _value(text: str, schema: Mapping[str, Any]) -> Any:
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if "string" in kinds:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
