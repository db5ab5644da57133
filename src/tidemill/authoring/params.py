"""`Param`: a parameter of a DAG with a default, a type and a description, for forms and for checking."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tidemill.authoring.place import here
from tidemill.model.errors import DefinitionError


class _Missing:
    def __repr__(self) -> str:
        return "no default"


MISSING: Any = _Missing()


class Param:
    """A parameter of runs.

    Args:
        default: used where a run gives none; without it every run must give one.
        description: for the form.
        type: a JSON schema type: `"integer"`, `["null", "string"]` ...
        schema: any other keyword of JSON schema: `minimum`, `enum`, `pattern`, `format`, `items`, `title` ...

    Raises:
        DefinitionError: the default is not JSON.
    """

    def __init__(
        self,
        default: Any = MISSING,
        description: str | None = None,
        *,
        type: str | list[str] | None = None,  # JSON schema's own word
        schema: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        made: dict[str, Any] = {**(schema or {}), **keywords}
        if type is not None:
            made["type"] = type
        if description is not None:
            made["description"] = description
        if default is not MISSING:
            made["default"] = default
        try:
            self.schema: dict[str, Any] = json.loads(json.dumps(made))
        except (TypeError, ValueError) as error:
            raise DefinitionError(
                f"A parameter is not JSON: {error}.", where=here(), hint="dates as text: Param('2026-01-31')"
            ) from None

    @property
    def value(self) -> Any:
        """The default; None where there is none."""
        return self.schema.get("default")

    def __repr__(self) -> str:
        return f"Param({self.schema})"


class ParamArg:
    """A parameter of a run, as an argument in a `@dag` function: in the run it has its value."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"{{{{ params.{self.name} }}}}"


def schemas_of(params: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """JSON schema by parameter: a plain value is a default of any type."""
    return {
        str(name): value.schema if isinstance(value, Param) else Param(value).schema
        for name, value in (params or {}).items()
    }
