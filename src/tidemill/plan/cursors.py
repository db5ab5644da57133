"""Cursors: a value of a database's column as the bookmark of a source, and where a batch begins.

A bookmark is `{"type": "timestamptz", "value": "2026-01-31T10:00:00.000001+00:00"}`: text, so that no JSON reader
rounds it, and a type, so that it is read back as what it was.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any
from uuid import UUID

from tidemill.model.batch import Bookmark
from tidemill.model.databases import Lag
from tidemill.model.errors import DataError, DefinitionError, Refused

_READERS: dict[str, Callable[[str], Any]] = {
    "long": int,
    "decimal": Decimal,
    "double": float,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    "string": str,
    "uuid": UUID,
}
_TIMES = frozenset(("date", "timestamp", "timestamptz"))
#: Types of which some values are those of the other, too: a column may have become wider since.
_NUMBERS = frozenset(("long", "decimal", "double"))


def kind_of(value: Any) -> str | None:
    """What type a value of a cursor is of; None: nothing that can be one."""
    match value:
        case bool():
            return None
        case int():
            return "long"
        case Decimal():
            return "decimal"
        case float():
            return "double"
        case datetime():
            return "timestamp" if value.tzinfo is None else "timestamptz"
        case date():
            return "date"
        case str():
            return "string"
        case UUID():
            return "uuid"
    return None


def to_bookmark(value: Any, column: str) -> Bookmark:
    """A cursor's value as a bookmark; None stays None.

    Raises:
        DataError: such a value cannot be ordered, or not be written down.
    """
    if value is None:
        return None
    kind = kind_of(value)
    if kind is None or (kind in _NUMBERS and not _is_finite(value)):
        raise DataError(
            f'"{column}" cannot be a cursor: its largest value is {value!r}.',
            hint="a column of numbers, dates, times or text that grows with every change",
        )
    if isinstance(value, datetime):
        text = (value if value.tzinfo is None else value.astimezone(UTC)).isoformat()
    else:
        text = value.isoformat() if isinstance(value, date) else str(value)
    return {"type": kind, "value": text}


def _is_finite(value: Any) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else isinstance(value, int) or isfinite(value)


def from_bookmark(bookmark: Bookmark, source: str) -> Any:
    """The value of a bookmark.

    Raises:
        Refused: it is none of a cursor's: the source was another one when it was kept.
    """
    if bookmark is None:
        return None
    if isinstance(bookmark, dict) and bookmark.get("type") in _READERS:
        try:
            return _READERS[bookmark["type"]](bookmark["value"])
        except (ArithmeticError, KeyError, TypeError, ValueError):
            pass
    raise Refused(
        f'The bookmark {bookmark!r} of "{source}" is none of a cursor.',
        hint="it was kept when the source was another one; give the source a new name",
    )


def check_same(bookmark: Any, upper: Any, column: str) -> None:
    """Refuse a bookmark of another type than the cursor now has.

    Raises:
        Refused: they cannot be compared.
    """
    known, found = kind_of(bookmark), kind_of(upper)
    if bookmark is None or upper is None or known == found or {known, found} <= _NUMBERS:
        return
    raise Refused(
        f'The cursor "{column}" now is of type {found}, and the bookmark, {bookmark}, of type {known}.',
        hint="give the source a new name: it then begins at the first row",
    )


def begin(bookmark: Any, lag: Lag, column: str) -> Any:
    """Where a batch begins: the bookmark less the lag; None: at the first row.

    Raises:
        DefinitionError: a lag of a kind that the cursor does not have.
    """
    if bookmark is None or not lag:
        return bookmark
    kind = kind_of(bookmark)
    if isinstance(lag, timedelta):
        if kind == "string" and (found := _time_in(bookmark)) is not None:
            return _like(bookmark, begin(found, lag, column))
        if kind not in _TIMES:
            raise DefinitionError(f'lag={lag} is a time, and the cursor "{column}" is of type {kind}.', hint="lag=1000")
        if kind == "date":
            # A part of a day reaches into the day before.
            lag = timedelta(days=-(-lag // timedelta(days=1)))
        try:
            return bookmark - lag
        except OverflowError:
            return None
    if kind not in ("long", "decimal"):
        raise DefinitionError(f'lag={lag} is a number, and the cursor "{column}" is of type {kind}.', hint='lag="5m"')
    return bookmark - lag


def _time_in(text: str) -> Any:
    """The date or time that a text is, as SQLite keeps them; None: it is none."""
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(text)
        except ValueError:
            continue
    return None


def _like(text: str, found: Any) -> Any:
    """A time as the text of another one is written: they are compared as texts."""
    return found.isoformat(sep=text[10]) if isinstance(found, datetime) else None if found is None else str(found)
