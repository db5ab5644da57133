"""Durations as users write them: `timedelta(minutes=5)`, "5m", "1h30m". Windows and joins over time take them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from tidemill.model.errors import DefinitionError

#: A fixed span of time: a timedelta, or text such as "10s", "5m", "1h", "1d", "1h30m".
Duration: TypeAlias = "timedelta | str"

_UNITS = {
    "us": timedelta(microseconds=1),
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART = re.compile(r"(\d+)(us|ms|s|m|h|d|w)")
_WHOLE = re.compile(r"(?:\d+(?:us|ms|s|m|h|d|w))+")


def read_duration(value: object, name: str, *, where: str | None = None, zero: bool = False) -> timedelta:
    """Turn `value`, the argument called `name`, into a timedelta.

    Args:
        value: a timedelta, or numbers with units: us, ms, s, m (minutes), h, d (24 hours), w.
        name: how messages call it.
        where: the place in the user's file.
        zero: whether no time at all is allowed.

    Raises:
        DefinitionError: it is no duration, negative, or zero where that makes no sense.
    """
    if isinstance(value, timedelta):
        found = value
    elif isinstance(value, str) and _WHOLE.fullmatch(value.replace(" ", "")):
        found = sum((int(n) * _UNITS[unit] for n, unit in _PART.findall(value)), timedelta())
    else:
        raise DefinitionError(
            f"{name}={value!r} is not a duration.",
            where=where,
            hint='"10s", "5m", "1h", "1d", "1h30m" or a timedelta; months and years differ in length: '
            'group_by(month=tm.col("t").dt.truncate("1mo"))',
        )
    if found < timedelta() or (found == timedelta() and not zero):
        raise DefinitionError(f"{name}={value!r} must be longer than nothing.", where=where, hint=f'{name}="10s"')
    return found


def duration_text(value: timedelta) -> str:
    """The shortest text that `read_duration` reads back: `1h30m`, `0s`."""
    left = value // timedelta(microseconds=1)
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, left = divmod(left, _UNITS[unit] // timedelta(microseconds=1))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
