"""The user's Python functions, callable in SQL.

Types come from annotations: `def kmh(speed: float, unit: str | None) -> float`. A function is called row by row, with
Python values, unless its parameters are columns: with `Annotated[pl.Series, float]` or `Annotated[pa.Array, "long"]` it
gets up to 2,048 rows at a time and must give as many.

NULL: a row with NULL for a parameter that does not admit None gives NULL without a call; a parameter annotated
`str | None` gets None. Columns keep their nulls.
"""

from __future__ import annotations

import bdb
import inspect
import traceback
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from tidemill.adapters.duckdb.types import duckdb_type
from tidemill.model import types as t
from tidemill.model.errors import DefinitionError, UserError
from tidemill.model.table import check_name
from tidemill.plan.sql import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

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


@dataclass(slots=True)
class Failures:
    """What functions raised during a query, first one first: DuckDB keeps only the text."""

    raised: list[tuple[str, Callable[..., Any], BaseException]] = field(default_factory=list)

    def check(self) -> None:
        """Raise what a function raised, if any did, as the user's error."""
        if not self.raised:
            return
        name, function, error = self.raised[0]
        if isinstance(error, bdb.BdbQuit) or not isinstance(error, Exception):
            raise error
        if isinstance(error, UserError):
            raise error
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if f.filename == _file(function)] or list(frames)
        made = UserError(
            f'The function "{name}" failed: {type(error).__name__}: {error}',
            where=f"{own[-1].filename}:{own[-1].lineno}" if own else None,
        )
        made.add_note("".join(traceback.format_exception(error)))
        raise made from error


def register(connection: DuckDBPyConnection, functions: Mapping[str, Callable[..., Any]], failures: Failures) -> None:
    """Make `functions` callable by name.

    Raises:
        DefinitionError: a function has no usable annotations, or a name that SQL has already.
    """
    from duckdb.func import ARROW, SPECIAL

    for name, function in functions.items():
        check_name(name, "function")
        if _exists(connection, name):
            raise DefinitionError(
                f'SQL has a function "{name}" already.', where=_place(function), hint="give yours another name"
            )
        slots, result = signature(name, function)
        call = _columns_call(name, function, slots) if result.column else _rows_call(function, slots, result)
        arrow = connection.sql(f"SELECT NULL::{duckdb_type(result.type)}").to_arrow_table().schema.field(0).type
        connection.create_function(
            name,
            _recorded(name, function, call, arrow, len(slots), failures),
            [duckdb_type(s.type) for s in slots],
            duckdb_type(result.type),
            type=ARROW,
            null_handling=SPECIAL,
        )


def _exists(connection: DuckDBPyConnection, name: str) -> bool:
    """True where SQL has a function of that name. Asking by a call takes 0.1 ms, listing all functions 20 ms."""
    import duckdb

    try:
        connection.execute(f"SELECT {quote(name)}()")
    except duckdb.CatalogException as error:
        return "MISSING_ENTRY" not in str(error)
    except duckdb.Error:
        return True
    return True


def signature(name: str, function: Callable[..., Any]) -> tuple[list[Slot], Slot]:
    """The types of a function's parameters and result, from its annotations."""
    where = _place(function)
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


def _rows_call(function: Callable[..., Any], slots: Sequence[Slot], result: Slot) -> Callable[..., list[Any]]:
    strict = [at for at, slot in enumerate(slots) if not slot.nullable]

    def call(*columns: Any) -> list[Any]:
        lists = [_given(column.to_pylist(), slot.type) for column, slot in zip(columns, slots, strict=True)]
        rows = zip(*lists, strict=True) if lists else [()]
        return _given_back([None if any(row[at] is None for at in strict) else function(*row) for row in rows], result)

    return call


def _given(values: list[Any], kind: t.Type) -> list[Any]:
    """Values as the user's function takes them, where Arrow's differ: maps are pairs there, UUIDs text."""
    if isinstance(kind, t.Map):
        return [None if v is None else dict(v) for v in values]
    return [None if v is None else UUID(v) for v in values] if kind == t.UUID else values


def _given_back(values: list[Any], result: Slot) -> list[Any]:
    """What the user's function gave, as Arrow takes it."""
    if isinstance(result.type, t.Map):
        return [list(v.items()) if isinstance(v, dict) else v for v in values]
    return [None if v is None else str(v) for v in values] if result.type == t.UUID else values


def _columns_call(name: str, function: Callable[..., Any], slots: Sequence[Slot]) -> Callable[..., Any]:
    def given(column: Any, slot: Slot) -> Any:
        if slot.column == "polars.Series":
            import polars

            return polars.Series(column)
        return column.combine_chunks() if slot.column == "pyarrow.Array" else column

    def call(*columns: Any) -> Any:
        made = function(*(given(c, s) for c, s in zip(columns, slots, strict=True)))
        rows = len(columns[0]) if columns else 1
        if not hasattr(made, "__len__") or len(made) != rows:
            count = len(made) if hasattr(made, "__len__") else "no"
            raise UserError(f'The function "{name}" gave {count} values for {rows} rows.', where=_place(function))
        return made.to_arrow() if hasattr(made, "to_arrow") else made

    return call


def _recorded(
    name: str,
    function: Callable[..., Any],
    call: Callable[..., Any],
    arrow: Any,
    width: int,
    failures: Failures,
) -> Callable[..., Any]:
    """`call` as DuckDB wants it: with a signature of `width` parameters, an Arrow array as result, failures kept."""

    def run(*columns: Any) -> Any:
        try:
            return _as_arrow(name, function, call(*columns), arrow)
        except BaseException as error:
            failures.raised.append((name, function, error))
            raise

    places = [inspect.Parameter(f"p{at}", inspect.Parameter.POSITIONAL_ONLY) for at in range(width)]
    run.__signature__ = inspect.Signature(places)  # type: ignore[attr-defined]  # read by DuckDB to count parameters
    return run


def _as_arrow(name: str, function: Callable[..., Any], values: Any, arrow: Any) -> Any:
    import pyarrow as pa

    try:
        if isinstance(values, list):
            return pa.array(values, arrow)
        return values.cast(arrow)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        wrong = next((v for v in values if not _fits(v, arrow)), values) if isinstance(values, list) else values
        shown = f"{wrong!r:.60}" if isinstance(values, list) else f"a column of {values.type}"
        raise UserError(
            f'The function "{name}" gave {shown}, which is no {arrow}.',
            where=_place(function),
            hint="change the annotation of the result, or what it returns",
        ) from None


def _fits(value: Any, arrow: Any) -> bool:
    import pyarrow as pa

    try:
        pa.array([value], arrow)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return False
    return True


def _file(function: Callable[..., Any]) -> str | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return str(code.co_filename) if code else None


def _place(function: Callable[..., Any]) -> str | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else None
