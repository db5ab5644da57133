"""Reads the arguments of a frame's verbs and refuses wrong ones where they are written, not where they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from tidemill.model.agg import Aggregate, ByTime, is_expression
from tidemill.model.errors import DefinitionError
from tidemill.model.place import user_place
from tidemill.model.types import parse_type

_VALUES = (bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta, type(None))
_Choice = TypeVar("_Choice")


def where() -> str | None:
    """The user's line, as errors show it."""
    place = user_place()
    return None if place is None else str(place)


def wrong(what: str, hint: str) -> DefinitionError:
    """A wrong argument at the user's line."""
    return DefinitionError(what, where=where(), hint=hint)


def no_frame(verb: str, value: object) -> DefinitionError:
    """The error for something else where a frame is wanted."""
    return wrong(
        f"{verb}: {type(value).__name__} is no frame.",
        'another parameter of the function, tm.whole("table"), or tm.Frame.literal(rows)',
    )


def flat(values: Iterable[Any]) -> tuple[Any, ...]:
    """`f.select("a", "b")` and `f.select(["a", "b"])` mean the same."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple):
            found.extend(value)
        else:
            found.append(value)
    return tuple(found)


def read_expressions(verb: str, columns: Iterable[Any]) -> tuple[Any, ...]:
    """Column names and Polars expressions."""
    found = flat(columns)
    for value in found:
        if not isinstance(value, str) and not is_expression(value):
            raise _no_expression(verb, value, f'f.{verb}("x", y=tm.col("x") * 2)')
    return found


def read_named(verb: str, named: Mapping[str, Any]) -> dict[str, Any]:
    """Named expressions; plain values are allowed and a text is a column's name, as in Polars."""
    for name, value in named.items():
        if not isinstance(value, _VALUES) and not is_expression(value):
            raise _no_expression(verb, value, f'f.{verb}({name}=tm.col("x") * 2)')
    return dict(named)


def read_conditions(conditions: Iterable[Any]) -> tuple[Any, ...]:
    """What `filter` takes: expressions that are true or false."""
    found = flat(conditions)
    if not found:
        raise wrong("filter: there is no condition.", 'f.filter(f["x"] > 0)')
    for value in found:
        if isinstance(value, str):
            raise wrong(f'filter: "{value}" is text, not a condition.', 'f.filter(f["x"] > 0)')
        if not is_expression(value) and not isinstance(value, bool):
            raise _no_expression("filter", value, 'f.filter(f["x"] > 0)')
    return found


def _no_expression(verb: str, value: Any, example: str) -> DefinitionError:
    kind = f"{type(value).__module__.partition('.')[0]} {type(value).__name__}"
    if isinstance(value, Aggregate):
        return wrong(
            f"{verb}: {value} needs a group or a window.", f'f.group_by("key").agg(x=tm.agg.{value.kind}(...))'
        )
    if callable(value) and not isinstance(value, type):
        return wrong(
            f"{verb}: a Python function is not an expression.",
            "f.map_rows(function) changes rows, f.flat_map(function) also leaves rows out",
        )
    if kind in ("pandas Series", "polars Series"):
        return wrong(f"{verb}: a {kind} is data in memory; a frame is a recipe without data.", example)
    return wrong(f"{verb}: {value!r} is neither a column's name nor an expression.", example)


def read_names(verb: str, name: str, value: Any, *, empty: bool = False) -> tuple[str, ...]:
    """One or more column names, given as text or a list. `name` is the argument, as messages call it."""
    if value is None and empty:
        return ()
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else None
    if found is None or not all(isinstance(v, str) for v in found) or (not found and not empty):
        raise wrong(f"{verb}: {name}={value!r} are no column names.", f'{name}="x" or {name}=["x", "y"]')
    return found


def read_name(verb: str, name: str, value: Any) -> str:
    """One column name."""
    if not isinstance(value, str):
        raise wrong(f"{verb}: {name}={value!r} is no column name.", f'{name}="time"')
    return value


def read_pairs(verb: str, value: Any) -> tuple[tuple[str, str], ...]:
    """`on=`: a name, names, or a mapping from left names to right names."""
    if isinstance(value, Mapping):
        found = tuple(value.items())
        if found and all(isinstance(a, str) and isinstance(b, str) for a, b in found):
            return found
        raise wrong(f"{verb}: on={value!r} maps no names to names.", 'on={"dest": "faa"}')
    return tuple((n, n) for n in read_names(verb, "on", value))


def read_choice(verb: str, name: str, value: _Choice, choices: tuple[_Choice, ...]) -> _Choice:
    """One of a few words."""
    if value in choices:
        return value
    words = ", ".join(f'"{choice}"' for choice in choices)
    raise wrong(f"{verb}: {name}={value!r} is not among its choices.", f"one of {words}")


def read_count(verb: str, value: Any) -> int:
    """A number of rows."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise wrong(f"{verb}: {value!r} is no number of rows.", f'f.{verb}(100, by="key")')


def read_types(verb: str, name: str, value: Any) -> dict[str, Any] | None:
    """Column -> type, as text or Polars types. Text is checked here."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise wrong(f"{verb}: {name}={value!r} is no mapping.", f'{name}={{"x": "long", "y": "string"}}')
    for column, kind in value.items():
        if isinstance(kind, str):
            try:
                parse_type(kind)
            except DefinitionError as error:
                raise DefinitionError(
                    f"{verb}: column {column}: {error.what}", where=where(), hint=error.hint
                ) from None
    return dict(value)


def read_declared(verb: str, adds: Any, returns: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """`adds=` and `returns=`, of which one is given at most."""
    if adds is not None and returns is not None:
        raise wrong(f"{verb}: adds= and returns= exclude each other.", "returns= names all columns")
    return read_types(verb, "adds", adds), read_types(verb, "returns", returns)


def is_function(value: Any) -> bool:
    """Whether it is a Python function of a user's: nothing that expressions are made of."""
    return callable(value) and not is_expression(value) and not isinstance(value, type | Aggregate)


def read_function(verb: str, value: Any) -> Callable[..., Any]:
    """A user's Python function."""
    if not callable(value) or is_expression(value):
        raise wrong(f"{verb}: {value!r} is no Python function.", f"f.{verb}(function)")
    return value  # type: ignore[no-any-return]  # callable() narrows Any to a callable that returns Any


def read_aggregates(
    verb: str, unnamed: Iterable[Any], named: Mapping[str, Any], *, taken: Iterable[str], on: str | None
) -> tuple[tuple[str | None, Any], ...]:
    """The arguments of `.agg`: values of `tm.agg` by name, Polars expressions with or without.

    Args:
        verb: how messages call it.
        unnamed: positional arguments.
        named: keyword arguments.
        taken: names of the keys, which no aggregate may take.
        on: the window's time column, which `earliest` and `latest` take unless they name their own.
    """
    example = 'n=tm.agg.count(), mean_x=tm.agg.mean("x")'
    found: list[tuple[str | None, Any]] = []
    for value in flat(unnamed):
        if isinstance(value, Aggregate):
            raise wrong(f"{verb}: {value} needs a name.", f"{value.kind}_x=tm.agg.{value.kind}(...)")
        if not is_expression(value):
            raise wrong(f"{verb}: {value!r} is no aggregate.", example)
        found.append((None, value))
    reserved = set(taken)
    for name, value in named.items():
        if name in reserved:
            raise wrong(f'{verb}: the name "{name}" is taken by a key or by the window.', f"{name}_1=...")
        if isinstance(value, ByTime) and value.on is None:
            if on is None:
                raise wrong(f"{verb}: {name}={value.kind}(...) does not say by which time.", 'on="time"')
            value = replace(value, on=on)
        if not isinstance(value, Aggregate) and not is_expression(value):
            raise wrong(f"{verb}: {name}={value!r} is no aggregate.", example)
        found.append((name, value))
    if not found:
        raise wrong(f"{verb}: there is nothing to compute.", f"{verb}({example})")
    return tuple(found)
