"""Forms of parameters: what a field takes, by the schema that a file gives it."""

from __future__ import annotations

from typing import Any

import pytest

from tidemill.web.pages.pipelines import given


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "integer", "default": 3}, "integer"),
        ({"type": ["null", "string"], "default": None}, "string"),
        ({"type": ["integer", "string"]}, None),
        ({"default": "north"}, "string"),
        ({"default": 0.5}, "number"),
        ({"default": True}, "boolean"),
        ({"default": [1, 2]}, None),
        ({}, None),
    ],
)
def test_a_field_takes_what_its_value_is(schema: dict[str, Any], type_: str | None) -> None:
    """A text is typed as it is, not as JSON, also where a DAG file gives no more than a default."""
    (field,) = given({"x": schema}).values()
    assert (field["type"], field.get("default")) == (type_, schema.get("default"))
