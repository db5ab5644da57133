"""Values of tables as they were before they became JSON: by the types that columns have beside them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from tidemill.ports.asked import Head

#: How a type's name begins, Arrow's or a table's own -> what makes a value of JSON one of it.
_MAKERS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("timestamp", datetime.fromisoformat),
    ("date", date.fromisoformat),
    ("time", time.fromisoformat),
    ("duration", lambda value: timedelta(seconds=value)),
    ("binary", base64.b64decode),
    ("large_binary", base64.b64decode),
    ("fixed_size_binary", base64.b64decode),
    ("fixed", base64.b64decode),
)


def typed(value: Any, kind: str) -> Any:
    """A value of a column; of parts of nested values JSON says enough, and what was cut stays text."""
    if value is None:
        return None
    for begin, made in _MAKERS:
        if kind.startswith(begin):
            try:
                return made(value)
            except (ValueError, TypeError):  # a text in its place: there is no such time in Python
                return value
    return value


def typed_row(row: Mapping[str, Any] | None, types: Mapping[str, str]) -> dict[str, Any] | None:
    """A row by names."""
    return None if row is None else {name: typed(value, types.get(name, "")) for name, value in row.items()}


def typed_head(columns: Iterable[Mapping[str, str]], rows: Sequence[Sequence[Any]], total: int | None = None) -> Head:
    """Rows as the API gives them: `columns` have "name" and "type"."""
    types = {one["name"]: one["type"] for one in columns}
    made = [tuple(map(typed, row, types.values())) for row in rows]
    return Head(types, made, len(rows) if total is None else total)
