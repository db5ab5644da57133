"""The types of a function that SQL calls, from its annotations: `def kmh(speed: float, unit: str | None) -> float`.

NULL: a row with NULL for a parameter that does not admit None gives NULL without a call; a parameter annotated
`str | None` gets None.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any
from uuid import UUID

from tidemill.model import types as t
from tidemill.model.errors import DefinitionError

_SCALARS: dict[Any, t.Type] = {
    bool: t.BOOLEAN, int: t.LONG, float: t.DOUBLE, str: t.STRING, bytes: t.BINARY, date: t.DATE, time: t.TIME,
    datetime: t.TIMESTAMP, UUID: t.UUID,
}  # fmt: skip
_COLUMNS = {("polars", "Series"), ("pyarrow", "Array"), ("pyarrow", "ChunkedArray")}
_HINT = "annotate every parameter and the result: def kmh(speed: float) -> float"


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter or the result: its type, whether None may pass, and the class of the column if it is one."""

    type: t.Type
    nullable: bool = False
    column: str | None = None


def signature(name: str, function: Callable[..., Any]) -> tuple[list[Slot], Slot]:
    """The types of a function's parameters and result, from its annotations."""
    where = place_of_function(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())
    except (NameError, TypeError, ValueError) as error:
        raise DefinitionError(f'The types of "{name}" cannot be read: {error}.', where=where, hint=_HINT) from None
    slots = []
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DefinitionError(f'SQL cannot pass "{parameter.name}" to "{name}".', where=where, hint=_HINT)
        slots.append(_slot(name, f'parameter "{parameter.name}"', hints.get(parameter.name), where))
    result = _slot(name, "result", hints.get("return"), where)
    if any(bool(s.column) is not bool(result.column) for s in slots):
        raise DefinitionError(
            f'"{name}" mixes columns and single values.', where=where, hint="columns in, a column out"
        )
    return slots, result


def _slot(name: str, what: str, hint: Any, where: str | None) -> Slot:
    kind, nullable = _without_none(hint)
    declared: t.Type | None = None
    if typing.get_origin(kind) is Annotated:
        kind, *extras = typing.get_args(kind)
        declared = next((made for made in map(_type, extras) if made), None)
        inner, optional = _without_none(kind)
        kind, nullable = inner, nullable or optional
    column = _column(kind)
    made = declared or (None if column else _type(kind))
    if made is None:
        shown = "is not annotated" if hint is None else f"is annotated {getattr(hint, '__name__', hint)}"
        advice = 'Annotated[pl.Series, float], Annotated[Decimal, "decimal(9,2)"]' if hint is not None else _HINT
        raise DefinitionError(f'The {what} of "{name}" {shown}, which gives no SQL type.', where=where, hint=advice)
    return Slot(made, nullable, column)


def _without_none(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = typing.get_args(hint)
        rest = [p for p in parts if p is not type(None)]
        if len(rest) == 1:
            return rest[0], len(rest) < len(parts)
    return hint, False


def _type(hint: Any) -> t.Type | None:
    if isinstance(hint, str):
        return t.parse_type(hint)
    if isinstance(hint, t.Primitive | t.Decimal | t.List | t.Map | t.Struct):
        return hint
    arguments = [_type(_without_none(a)[0]) for a in typing.get_args(hint)]
    match typing.get_origin(hint), arguments:
        case None, _:
            return _SCALARS.get(hint)
        case origin, [t.Primitive() | t.Decimal() | t.List() | t.Map() | t.Struct() as element] if origin is list:
            return t.List(element)
        case origin, [key, value] if origin is dict and key and value:
            return t.Map(key, value)
    return None


def _column(kind: Any) -> str | None:
    root = str(getattr(kind, "__module__", "")).split(".", 1)[0]
    name = str(getattr(kind, "__name__", ""))
    return f"{root}.{name}" if (root, name) in _COLUMNS else None


def place_of_function(function: Callable[..., Any]) -> str | None:
    """The line where it begins."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else None
