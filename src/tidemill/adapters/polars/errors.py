"""Turns what Polars raises into errors that name the user's line and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import polars as pl

from tidemill.model.errors import DataError, DefinitionError, TidemillError, UnknownName, UserError
from tidemill.model.frame.operation import JoinLookup, Operation

_QUOTED = re.compile(r'"([^"]*)"')
_EXPRESSION = re.compile(r"in the following expression:\n\t(.*)\n")
_MISSING = (
    pl.exceptions.ColumnNotFoundError,
    pl.exceptions.SchemaFieldNotFoundError,
    pl.exceptions.StructFieldNotFoundError,
)


class NoSuchColumn(UnknownName):
    """A step names a column that is not there."""


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
    except pl.exceptions.PolarsError as error:
        raise DefinitionError(
            f"{operation.verb}: {_first_line(error)}.", where=place_of(operation), hint=f"the step is: {operation}"
        ) from None
    except UserError as error:
        if error.where:
            raise
        raise type(error)(error.what, where=place_of(operation), hint=error.hint) from None


@contextmanager
def running(operations: Iterable[Operation]) -> Iterator[None]:
    """While rows go through steps: what Polars complains about now is a value."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise _of_value(error, tuple(operations)) from None


def _of_value(error: Exception, operations: tuple[Operation, ...]) -> TidemillError:
    text = str(error)
    if "did not fulfill m:1 validation" in text:
        lookup = next(o for o in operations if isinstance(o, JoinLookup))
        return DataError(
            f'join_lookup: "{lookup.other.source.name}" has two rows of one key.',
            where=place_of(lookup),
            hint=f"other.unique({[right for _, right in lookup.on]}), or f.join(...) if all of them are meant",
        )
    found = _EXPRESSION.search(text)
    guilty = next((o for o in operations if found and found[1] in str(o)), operations[-1] if operations else None)
    return DataError(
        f"{guilty.verb}: {_first_line(error)}." if guilty else f"{_first_line(error)}.",
        where=place_of(guilty) if guilty else None,
        hint=f"the expression is {found[1]}" if found else (f"the step is: {guilty}" if guilty else None),
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
