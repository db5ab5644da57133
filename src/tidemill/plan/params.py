"""Parameters of runs against their JSON schemas: what a run gets, and what is wrong with what it was given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tidemill.model.errors import DefinitionError, UnknownName, UserError

#: Keywords that only describe: a schema of these alone lets every value through, and needs no validator (0.1 s).
_DESCRIBING = frozenset(("default", "description", "description_md", "title", "section", "examples", "values_display"))


def check_schemas(schemas: Mapping[str, Mapping[str, Any]], *, where: str | None = None) -> None:
    """Make sure that schemas are such, and that their defaults fit.

    Raises:
        DefinitionError: one does not.
    """
    for name, schema in schemas.items():
        if not _limits(schema):
            continue
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError

        try:
            Draft202012Validator.check_schema(dict(schema))
        except SchemaError as error:
            raise DefinitionError(
                f'The schema of parameter "{name}" is wrong: {error.message}.', where=where, hint="JSON schema's words"
            ) from None
        if "default" in schema and (wrong := _wrong(schema, schema["default"])):
            raise DefinitionError(f'The default of parameter "{name}" does not fit: {wrong}.', where=where)


def params_of(
    schemas: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
    *,
    strict: bool = False,
    where: str | None = None,
) -> dict[str, Any]:
    """The parameters of a run: what it was given, and defaults.

    Args:
        schemas: JSON schema by parameter; one without `default` must be given.
        given: by the person or task that began the run.
        strict: refuse what is no parameter; else it is left out.
        where: what the parameters belong to, for messages.

    Raises:
        UserError: a value does not fit, or is missing.
        UnknownName: there is no such parameter.
    """
    made: dict[str, Any] = {}
    for name in given if strict else ():
        check_name(name, schemas, where=where)
    for name, schema in schemas.items():
        if name in given:
            made[name] = given[name]
            wrong = _wrong(schema, given[name]) if _limits(schema) else None
            if wrong:
                raise UserError(f'Parameter "{name}" does not fit: {wrong}.', where=where, hint=_hint(schema))
        elif "default" in schema:
            made[name] = schema["default"]
        else:
            raise UserError(f'Parameter "{name}" must be given.', where=where, hint=_hint(schema))
    return made


def check_name(name: str, declared: Iterable[str], *, where: str | None = None) -> None:
    """Raise UnknownName unless the parameter is one that is declared."""
    declared = list(declared)
    if name not in declared:
        error = UnknownName.of("parameter", name, declared, where=where)
        error.hint = error.hint if declared else f'declare it: params={{"{name}": ...}}'
        raise error


def _limits(schema: Mapping[str, Any]) -> bool:
    return bool(schema.keys() - _DESCRIBING)


def _wrong(schema: Mapping[str, Any], value: Any) -> str | None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(dict(schema), format_checker=Draft202012Validator.FORMAT_CHECKER)
    error = next(iter(sorted(validator.iter_errors(value), key=lambda one: len(one.path))), None)
    return None if error is None else str(error.message).rstrip(".")


def _hint(schema: Mapping[str, Any]) -> str | None:
    wanted = {name: value for name, value in schema.items() if name not in _DESCRIBING}
    text = str(schema.get("description") or "")
    shown = ", ".join(f"{name}: {value}" for name, value in wanted.items())
    return " - ".join(part for part in (text, shown) if part) or None


def read_params(
    schemas: Mapping[str, Mapping[str, Any]],
    given: Iterable[str],
    *,
    strict: bool = True,
    where: str | None = None,
) -> dict[str, Any]:
    """Read `name=value` texts, and make sure that they fit; gives those that were given.

    Without `strict`, others than those of the schemas may be given, too.

    A value is read as JSON, or as text where the parameter is text or it is no JSON.

    Raises:
        UnknownName: there is no such parameter.
        UserError: a text is no `name=value`, a value does not fit, or one is missing.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UserError(f'"{text}" is no parameter.', hint="--param name=value")
        if strict:
            check_name(name, schemas, where=where)
        found[name] = _read(value, schemas.get(name, {}))
    params_of(schemas, found, strict=strict, where=where)
    return found


def _read(text: str, schema: Mapping[str, Any]) -> Any:
    kinds = schema.get("type", ())
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if "string" in kinds:
        return text
    try:
        return json.loads(text.lower() if "boolean" in kinds else text)
    except ValueError:
        return text
