"""Filling a declared request for a batch: templates in texts, moments in ISO 8601, the greatest value of a cursor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tidemill.model.batch import Bookmark
from tidemill.model.errors import DataError
from tidemill.plan.template import render

#: What a text that is a time begins with: other digits are ids.
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class _Moment(datetime):
    """A time that a template shows as services read it: `2026-01-01T00:00:00+00:00`."""

    def __str__(self) -> str:
        return self.isoformat()


def shown_moments(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of templates whose times are shown in ISO 8601."""
    return {name: _moment(value) if isinstance(value, datetime) else value for name, value in variables.items()}


def _moment(value: datetime) -> datetime:
    return _Moment.fromisoformat(value.isoformat()).replace(tzinfo=value.tzinfo)


def fill(value: Any, variables: Mapping[str, Any], where: str) -> Any:
    """A declared value with its templates filled: texts, and those within lists and objects."""
    if isinstance(value, str):
        return render(value, variables, where=where) if "{" in value else value
    if isinstance(value, Mapping):
        return {name: fill(one, variables, where) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [fill(one, variables, where) for one in value]
    return value


class Greatest:
    """The greatest of a cursor's values: numbers, moments in ISO 8601, or texts; all of one kind.

    Args:
        value: the greatest so far; None: there is none.
        path: what the cursor is called in messages.
    """

    def __init__(self, value: Bookmark, path: str) -> None:
        self.value = value
        self._path = path
        self._key = None if value is None else _key(value, path, "the bookmark")

    def add(self, value: Any, where: str) -> None:
        """Take a value in. Raises DataError: it cannot be compared with the others."""
        key = _key(value, self._path, where)
        if self._key is None or _follows(key, self._key, self._path, where):
            self.value, self._key = value, key


def is_beyond(value: Any, until: Bookmark, path: str, where: str) -> bool:
    """Whether a value is greater than where a range ends. Raises DataError."""
    return _follows(_key(value, path, where), _key(until, path, "the bookmark"), path, where)


def _key(value: Any, path: str, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DataError(
            f"{where} has {value!r:.60} at {path}, which is no cursor.",
            hint="a number, a time or a text in each record",
        )
    if isinstance(value, str) and _DAY.match(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            return value
    return value


def _follows(one: Any, other: Any, path: str, where: str) -> bool:
    try:
        return bool(one > other)
    except TypeError:
        raise DataError(
            f"The values at {path} cannot be compared: {one!s:.60} with {other!s:.60}.",
            where=where,
            hint="a cursor has values of one kind",
        ) from None
