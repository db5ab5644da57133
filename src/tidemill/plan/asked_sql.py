"""What people ask of engines outside: one statement that only reads. And what Trino's kin call types and values."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal as Number
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tidemill.model.errors import DefinitionError, UserError
from tidemill.model.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    Decimal,
    Type,
)

#: Statements that sqlglot reads as words only, by their first one.
_SHOWS = re.compile(r"\s*(show|describe|desc)\b", re.IGNORECASE)
_CHANGES = (exp.DML, exp.DDL, exp.Into, exp.Command, exp.Lock)


def only_reads(sql: str, dialect: str) -> str:
    """The statement, without a semicolon at its end.

    Raises:
        UserError: it cannot be read, is several, or does more than read.
    """
    text = sql.strip().rstrip(";").strip()
    if _SHOWS.match(text) and ";" not in text:
        return text
    try:
        found = [one for one in sqlglot.parse(text, read=dialect) if one is not None]
    except (SqlglotError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"This SQL cannot be read as that of {dialect}: {_plain(said)}") from None
    if len(found) != 1:
        raise UserError(f"One SQL statement is wanted, and here are {len(found)}.")
    statement = found[0]
    changing = next((one for one in statement.find_all(*_CHANGES) if not isinstance(one, exp.Query)), None)
    if changing is not None or not isinstance(statement, exp.Query | exp.Values):
        word = text.split()[0].upper() if changing is None else changing.key.upper()
        raise UserError(
            f"A statement that only reads is wanted, and this has {word}.", hint="SELECT ..., WITH ..., SHOW ..."
        )
    return text


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


_TYPES: dict[str, Type] = {
    "boolean": BOOLEAN, "tinyint": INT, "smallint": INT, "integer": INT, "int": INT, "bigint": LONG, "real": FLOAT,
    "float": FLOAT, "double": DOUBLE, "date": DATE, "time": TIME, "timestamp": TIMESTAMP,
    "timestamp with time zone": TIMESTAMPTZ, "varbinary": BINARY,
}  # fmt: skip
_PRECISION = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")


def presto_type(name: str, precision: int | None = None, scale: int | None = None) -> Type:
    """A type as Trino and Athena call it: `bigint`, `decimal(9,2)`, `timestamp(6) with time zone`; else it is text.

    Args:
        name: of the type.
        precision: of a decimal whose name does not say it.
        scale: likewise.
    """
    plain = " ".join(_PRECISION.sub(" ", name.lower()).split())
    if plain == "decimal":
        told = _PRECISION.search(name)
        digits = int(told[1]) if told else precision
        points = int(told[2] or 0) if told else scale
        if not digits:
            return STRING
        try:
            return Decimal(digits, points or 0)
        except DefinitionError:
            return STRING
    return _TYPES.get(plain, STRING)


def presto_value(text: str | None, kind: Type) -> Any:
    """A value as Athena writes it in results. Raises ValueError: it is none of that type."""
    if text is None or kind == STRING:
        return text
    if isinstance(kind, Decimal):
        return Number(text)
    if kind == BOOLEAN:
        return text == "true"
    if kind in (INT, LONG):
        return int(text)
    if kind in (FLOAT, DOUBLE):
        return float(text)
    if kind == BINARY:
        return bytes.fromhex(text.replace(" ", ""))
    if kind == DATE:
        return date.fromisoformat(text)
    if kind == TIME:
        return time.fromisoformat(_micros(text))
    if kind == TIMESTAMP:
        return datetime.fromisoformat(_micros(text))
    moment, _, zone = text.rpartition(" ")
    if zone[:1] in "+-":
        return datetime.fromisoformat(_micros(moment) + zone).astimezone(UTC)
    try:
        return datetime.fromisoformat(_micros(moment)).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    except ZoneInfoNotFoundError:
        raise ValueError(f'"{zone}" is no time zone') from None


def _micros(text: str) -> str:
    """A time with six digits of a second at most: Python knows no more."""
    return re.sub(r"(\.\d{6})\d+", r"\1", text)
