"""Which rows of a table somebody wants to see, and in which order: conditions and a column, as a statement.

Columns are looked up among those that the table has, values become values of their columns' types and are bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any
from uuid import UUID

from tidemill.model.errors import UnknownName, UserError
from tidemill.model.table import TableName
from tidemill.plan.sql import quote

#: Comparison -> how a form says it.
COMPARISONS = {
    "eq": "=", "ne": "≠", "lt": "<", "le": "≤", "gt": ">", "ge": "≥", "contains": "contains", "begins": "begins with",
    "null": "is null", "notnull": "is not null",
}  # fmt: skip
_OPERATORS = {
    "eq": "=", "ne": "IS DISTINCT FROM", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip
_TEXT_FUNCTIONS = {"contains": "contains", "begins": "starts_with"}
#: Conditions at once.
MOST = 20


@dataclass(frozen=True, slots=True)
class Condition:
    """A column, a comparison of `COMPARISONS`, and the value as it was typed."""

    column: str
    comparison: str
    value: str = ""


def read_condition(text: str, columns: Mapping[str, str]) -> Condition:
    """A condition from `column:comparison:value`. Columns may have colons in their names.

    Raises:
        UnknownName: there is no such column, or comparison.
        UserError: it is no condition.
    """
    parts = text.split(":")
    for end in range(1, len(parts)):
        column = ":".join(parts[:end])
        if column in columns and parts[end] in COMPARISONS:
            return Condition(column, parts[end], ":".join(parts[end + 1 :]))
    if len(parts) < 2:
        raise UserError(f'"{text}" is no condition.', hint="column:comparison:value, such as price:ge:5")
    if parts[0] not in columns:
        raise UnknownName.of("column", parts[0], columns)
    raise UnknownName.of("comparison", parts[1], COMPARISONS)


def narrowed(
    name: TableName,
    columns: Mapping[str, str],
    conditions: Sequence[Condition] = (),
    sort: str | None = None,
    *,
    limit: int,
    offset: int = 0,
) -> tuple[str, dict[str, Any]]:
    """The statement, and the values that it is given.

    Args:
        name: the table or view.
        columns: its columns, each with its type: a table's, or Arrow's.
        conditions: all of them hold for the rows.
        sort: the column by which they are sorted, with `-` before it the other way round. Nulls come last.
        limit: rows at most.
        offset: rows before the first.

    Raises:
        UnknownName: there is no such column.
        UserError: a value is none of its column's type.
    """
    if len(conditions) > MOST:
        raise UserError(f"{len(conditions)} conditions are more than {MOST}.")
    values: dict[str, Any] = {}
    holds = [_holds(one, columns, values) for one in conditions]
    text = f"SELECT * FROM {quote(name.namespace)}.{quote(name.table)}"  # noqa: S608 - quoted
    if holds:
        text += f" WHERE {' AND '.join(holds)}"
    if sort:
        falls = sort not in columns and sort.startswith("-")
        column = sort[1:] if falls else sort
        if column not in columns:
            raise UnknownName.of("column", column, columns)
        # Rows that are equal by the column need an order, too: else a row could be on two pages, another on none.
        rest = [quote(other) for other, kind in columns.items() if other != column and _reader(kind) is not None]
        text += f" ORDER BY {', '.join([f'{quote(column)} {_way(falls)} NULLS LAST', *rest])}"
    return f"{text} LIMIT {int(limit)} OFFSET {int(offset)}", values


def _way(falls: bool) -> str:
    return "DESC" if falls else "ASC"


def _holds(condition: Condition, columns: Mapping[str, str], values: dict[str, Any]) -> str:
    if condition.column not in columns:
        raise UnknownName.of("column", condition.column, columns)
    column, kind = quote(condition.column), columns[condition.column]
    if condition.comparison in ("null", "notnull"):
        return f"{column} IS {'NOT ' if condition.comparison == 'notnull' else ''}NULL"
    name = f"value{len(values)}"
    if condition.comparison in _TEXT_FUNCTIONS:
        values[name] = condition.value
        return f"{_TEXT_FUNCTIONS[condition.comparison]}(lower(CAST({column} AS VARCHAR)), lower(${name}))"
    if condition.comparison not in _OPERATORS:
        raise UnknownName.of("comparison", condition.comparison, COMPARISONS)
    read = _reader(kind)
    if read is None:
        raise UserError(
            f'Values of "{condition.column}" ({kind}) cannot be compared.', hint="contains, is null, is not null"
        )
    try:
        values[name] = read(condition.value.strip() if read is not str else condition.value)
    except (ValueError, InvalidOperation, OverflowError):
        raise UserError(
            f'"{condition.value}" is no value of "{condition.column}" ({kind}).', hint=f"such as {_EXAMPLES[read]}"
        ) from None
    return f"{column} {_OPERATORS[condition.comparison]} ${name}"


def _whole(text: str) -> int:
    if len(text) > 38:
        raise ValueError
    return int(text)


def _number(text: str) -> float:
    found = float(text)
    if not isfinite(found):
        raise ValueError
    return found


def _exact(text: str) -> Decimal:
    found = Decimal(text)
    if not found.is_finite() or len(found.as_tuple().digits) > 38 or abs(found.adjusted()) > 38:
        raise ValueError
    return found


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _naive(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found


def _aware(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_EXAMPLES: dict[Callable[[str], Any], str] = {
    _whole: "42", _number: "4.2", _exact: "4.20", _flag: "true", date.fromisoformat: "2026-01-31",
    time.fromisoformat: "12:30:00", _naive: "2026-01-31 12:30:00", _aware: "2026-01-31 12:30:00+00:00", UUID: "a UUID",
    str: "text",
}  # fmt: skip

#: Types as tables and as Arrow name them -> what reads a value of them.
_READERS: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (r"int|long|u?int(8|16|32|64)", _whole),
    (r"float|double|halffloat", _number),
    (r"decimal.*", _exact),
    (r"bool(ean)?", _flag),
    (r"date(32|64)?(\[.*\])?", date.fromisoformat),
    (r"time(32|64)?(\[.*\])?", time.fromisoformat),
    (r"timestamptz|timestamp\[.*tz=.*\]", _aware),
    (r"timestamp(\[.*\])?", _naive),
    (r"uuid|extension<arrow\.uuid>", UUID),
    (r"(large_)?string(_view)?", str),
)


def _reader(kind: str) -> Callable[[str], Any] | None:
    """What reads a value of a type; None: its values are not compared."""
    return next((read for pattern, read in _READERS if re.fullmatch(pattern, kind)), None)
