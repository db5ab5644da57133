"""Turns what Polars raises into errors that name the user's line and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import polars as pl

from tidemill.model.errors import DataError, DefinitionError, TidemillError, UnknownName, Unreachable, UserError
from tidemill.model.frame.operation import Cast, Operation

_QUOTED = re.compile(r'"([^"]*)"')
_EXPRESSION = re.compile(r"in the following expression:\n\t(.*)\n")
_MISSING = (pl.exceptions.ColumnNotFoundError, pl.exceptions.SchemaFieldNotFoundError)


class NoSuchColumn(UnknownName):
    """A step names a column that is not there."""


def check_columns(lazy: pl.LazyFrame, names: Iterable[str], joined: str | None = None) -> None:
    """Raise `NoSuchColumn` where a column is not there; `joined` names the frame where it is not this one."""
    columns = lazy.collect_schema().names()
    for name in names:
        if name not in columns:
            error = NoSuchColumn.of("column", name, columns)
            where = "" if joined is None else f' in "{joined}", which is joined'
            raise NoSuchColumn(f'There is no column "{name}"{where}.', hint=error.hint)


def place_of(operation: Operation) -> str | None:
    """The user's line that recorded a step."""
    return None if operation.at is None else str(operation.at)


@contextmanager
def defining(operation: Operation, columns: Iterable[str]) -> Iterator[None]:
    """While a step meets the types of its input: what is wrong now is wrong in the user's file."""
    try:
        yield
    except _MISSING as error:
        named = _QUOTED.search(str(error))
        raise NoSuchColumn.of("column", named[1] if named else "?", columns, where=place_of(operation)) from None
    except pl.exceptions.StructFieldNotFoundError as error:
        raise DefinitionError(
            f'{operation.verb}: the struct has no field "{_first_line(error)}".',
            where=place_of(operation),
            hint=f"the step is: {operation}",
        ) from None
    except pl.exceptions.PolarsError as error:
        raise DefinitionError(
            f"{operation.verb}: {_first_line(error)}.", where=place_of(operation), hint=f"the step is: {operation}"
        ) from None
    except UserError as error:
        if error.where:
            raise
        raise type(error)(error.what, where=place_of(operation), hint=error.hint) from None


#: What no rows at all can make Polars complain of, beside types: not the user's mistake.
_OF_NO_ROWS = (pl.exceptions.OutOfBoundsError, pl.exceptions.NoDataError, pl.exceptions.ShapeError)


def try_out(step: Callable[[], pl.LazyFrame], operation: Operation, columns: Iterable[str]) -> None:
    """Run a step on no rows: Polars finds many wrong types only then ("cannot compare string with numeric").

    Not where an expression calls Python: the user's function need not expect to be called with nothing.
    """
    if "python_udf" in str(operation):
        return
    with defining(operation, columns), suppress(*_OF_NO_ROWS):
        step().collect()


@contextmanager
def running(operations: Iterable[Operation]) -> Iterator[None]:
    """While rows go through steps: what Polars complains about now is a value."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise _of_value(error, tuple(operations)) from None
    except OSError as error:
        if "object-store error" not in str(error):
            raise
        told = _first_line(error).partition("Error performing ")[2] or _first_line(error)
        raise Unreachable(f"A data file cannot be fetched from the object store: {told}.") from None


def _of_value(error: Exception, operations: tuple[Operation, ...]) -> TidemillError:
    text = str(error)
    found = _EXPRESSION.search(text)
    guilty = next((o for o in operations if found and _is_in(found[1], o)), operations[-1] if operations else None)
    return DataError(
        f"{guilty.verb}: {_first_line(error)}." if guilty else f"{_first_line(error)}.",
        where=place_of(guilty) if guilty else None,
        hint=f"the expression is {found[1]}" if found else (f"the step is: {guilty}" if guilty else None),
    )


def _is_in(expression: str, operation: Operation) -> bool:
    if isinstance(operation, Cast):
        return any(expression.startswith(f'col("{name}").strict_cast(') for name in operation.types)
    return expression in str(operation)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
