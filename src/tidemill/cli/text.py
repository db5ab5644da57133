"""Values as people read them: counts, sizes, times, cells of a table. Nothing here prints."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any

from tidemill.model.json_values import jsonable

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def count(number: int | None, noun: str = "", one: str | None = None) -> str:
    """`27,004`, or with a noun `27,004 rows` and `1 row`; a dash where it is not known.

    Args:
        number: how many.
        noun: of what, in the plural.
        one: the singular, where it is not the plural without its s.
    """
    if number is None:
        return "-"
    if number == 1:
        noun = noun.removesuffix("s") if one is None else one
    return f"{number:,} {noun}".rstrip()


def size(amount: float | None) -> str:
    """Bytes in the largest fitting unit of 1024: `16.3 KB`."""
    if amount is None:
        return "-"
    unit = 0
    while amount >= 1023.95 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.0f} {_UNITS[unit]}" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `4 min 05 s`, `3 h 07 min`, `12 d`."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02} s"
    if seconds < 48 * 3600:
        return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02} min"
    return f"{int(seconds) // 86400} d"


def moment(value: datetime | None) -> str:
    """A time to the second in this computer's zone, as `--at` takes it back."""
    return "-" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def after(value: datetime | None, start: datetime | None) -> str:
    """How long after `start` a time is: `+0.42 s`; `earlier` where it is before."""
    if value is None or start is None:
        return "-"
    seconds = (value - start).total_seconds()
    return f"+{duration(seconds)}" if seconds >= 0 else "earlier"


def width(text: str) -> int:
    """Columns of a terminal that a text takes: East Asian wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )  # fmt: skip


def cut(text: str, limit: int) -> str:
    """The text, or as much of it as fits into `limit` columns, with an ellipsis."""
    if width(text) <= limit:
        return text
    kept, used = "", 0
    for char in text:
        used += width(char)
        if used > limit - 1:
            break
        kept += char
    return kept + "…"


def plain(text: str) -> str:
    """The text on one line, with control characters written out: data must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char) or (
        f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"
    )


def cell(value: Any) -> str:
    """One value of a table."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return plain(value)
        case float():
            return _float(value)
        case datetime():
            return value.isoformat(sep=" ")
        case date() | time():
            return value.isoformat()
        case bytes():
            return "0x" + value.hex()
        case list() | tuple() | Mapping():
            return plain(json.dumps(jsonable(value), ensure_ascii=False))
    return plain(str(value))


def _float(value: float) -> str:
    text = f"{value:.15g}"
    return text if not math.isfinite(value) or any(c in text for c in ".e") else text + ".0"
