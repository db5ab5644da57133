"""A row in the hands of a user's function: a dict of Python values that helps with misspelt columns."""

from __future__ import annotations

from typing import Any, NoReturn

from tidemill.model.errors import UnknownName
from tidemill.model.place import user_place


class Row(dict[str, Any]):
    """Column name -> value. Values are plain Python: int, float, str, datetime, Decimal, list, dict, None."""

    __slots__ = ()

    def __missing__(self, name: str) -> NoReturn:
        raise UnknownColumn.of_row(name, self)


class UnknownColumn(UnknownName, KeyError):
    """A column that a row does not have; also a KeyError, so that `except KeyError` still works."""

    @classmethod
    def of_row(cls, name: str, row: Row) -> UnknownColumn:
        """Build the error for `row[name]`."""
        place = user_place()
        error = cls.of("column", name, row, where=None if place is None else str(place))
        assert isinstance(error, UnknownColumn)
        return error

    __str__ = UnknownName.__str__
