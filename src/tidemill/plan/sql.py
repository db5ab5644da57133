"""SQL as text: quoting and literals, in DuckDB's dialect. Nothing here runs a statement."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from typing import Any

from tidemill.model.errors import UserError


def quote(name: str) -> str:
    """`name` as an SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def quote_all(names: Iterable[str], *, of: str = "") -> str:
    """`names` as a list of identifiers, each as `of.name` where `of` is given."""
    return ", ".join(f"{of}.{quote(name)}" if of else quote(name) for name in names)


def literal(value: Any) -> str:
    """`value` as an SQL literal that cannot break out of its place.

    Raises:
        UserError: the value is of a kind that has no literal.
    """
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | Decimal() if not isinstance(value, Decimal) or value.is_finite():
            return f"({value})" if value < 0 else str(value)
        case float():
            return f"{value!r}::DOUBLE" if isfinite(value) else f"'{value}'::DOUBLE"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case datetime():
            kind = "TIMESTAMP" if value.tzinfo is None else "TIMESTAMPTZ"
            return f"{kind} '{value.isoformat(sep=' ')}'"
        case date():
            return f"DATE '{value.isoformat()}'"
        case time():
            return f"TIME '{value.isoformat()}'"
        case list() | tuple() | set() | frozenset():
            return "(" + ", ".join(literal(v) for v in value) + ")"
    raise UserError(
        f"A {type(value).__name__} cannot be written as an SQL literal.",
        hint="strings, numbers, dates, times, None, and lists of these can",
    )
