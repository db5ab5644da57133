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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tidemill.adapters.duckdb.types import duckdb_type
from tidemill.model import types as t
from tidemill.model.errors import DefinitionError, UserError
from tidemill.model.signature import Slot, place_of_function, signature
from tidemill.model.table import check_name
from tidemill.plan.sql import quote

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


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
                f'SQL has a function "{name}" already.',
                where=place_of_function(function),
                hint="give yours another name",
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
            raise UserError(
                f'The function "{name}" gave {count} values for {rows} rows.', where=place_of_function(function)
            )
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
            where=place_of_function(function),
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
