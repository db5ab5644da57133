"""Column types that mean the same on SQLite and PostgreSQL, and the three columns in which an interval is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator

from tidemill.model.batch import Interval, utc
from tidemill.model.errors import SettingsError

#: Ids and counts. SQLite gives out row ids only for a column that is called INTEGER.
BigId = BigInteger().with_variant(Integer(), "sqlite")


class Moment(TypeDecorator[datetime]):
    """An aware time, exact to the microsecond, that comes back in UTC.

    PostgreSQL keeps it as `timestamptz`; SQLite as text of fixed width in UTC, so that text order is time order.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database: UTC; naive on SQLite, whose text has no zone."""
        if value is None:
            return None
        return utc(value).replace(tzinfo=None) if dialect.name == "sqlite" else utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database: aware, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Prose(TypeDecorator[str]):
    """Text that quotes users' data (errors, observed values), so it may hold what a database cannot store.

    PostgreSQL refuses NUL, and neither database takes a lone surrogate: they are shown by a symbol, and escaped.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database: without what it refuses."""
        if value is None:
            return None
        return value.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "backslashreplace").decode("utf-8")


class Json(TypeDecorator[Any]):
    """A JSON value, kept as text: both databases give back exactly what was put in, order of keys included.

    NaN and Infinity are refused: Python writes them, other readers of JSON do not know them.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """To the database. None is JSON's null."""
        return json.dumps(value, allow_nan=False, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """From the database."""
        return None if value is None else json.loads(value)


def zone_of(interval: Interval) -> str:
    """The name of the interval's zone: an IANA key, or the offset at its start (`+0530`)."""
    key = getattr(interval.start.tzinfo, "key", None)
    if isinstance(key, str):
        return key
    offset = interval.start.strftime("%z")
    return "UTC" if offset == "+0000" else offset


def interval_columns(interval: Interval | None) -> dict[str, Any]:
    """The values of the three columns in which an interval is kept.

    The instants alone are not enough: `Interval.ds`, the date in archive paths, is that of the interval's own zone.
    """
    if interval is None:
        return {"interval_start": None, "interval_end": None, "interval_zone": None}
    return {"interval_start": interval.start, "interval_end": interval.end, "interval_zone": zone_of(interval)}


def interval_from(row: Any) -> Interval | None:
    """The interval of a row that has those three columns, in its own zone."""
    if row.interval_start is None:
        return None
    zone = _zone(row.interval_zone)
    return Interval(row.interval_start.astimezone(zone), row.interval_end.astimezone(zone))


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    if name[:1] in "+-":
        parsed = datetime.strptime(name, "%z").tzinfo
        return parsed if isinstance(parsed, timezone) else UTC
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError as error:
        raise SettingsError(
            f'This computer does not know the time zone "{name}", which a batch of this project uses.',
            hint="pip install tzdata",
        ) from error
