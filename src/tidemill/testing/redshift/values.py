"""Fields of files as values of columns: what COPY takes, and the code and reason of what it refuses.

Pages "Data conversion parameters", "DATEFORMAT and TIMEFORMAT strings", "Load error reference", "Multibyte character
load errors", "Numeric types". Whole numbers and dates are read strictly; of times, ISO's forms and those that a format
names.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, localcontext
from typing import Any

from tidemill.testing.redshift.faults import unknown
from tidemill.testing.redshift.types import Type

_RANGES = {"smallint": 1 << 15, "integer": 1 << 31, "bigint": 1 << 63}
_WHOLE = re.compile(r"[+-]?\d+")
_EXACT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_FLOAT = re.compile(_EXACT.pattern + r"|[+-]?inf(?:inity)?|nan", re.IGNORECASE)
_TRUE = frozenset(("t", "true", "y", "yes", "1"))
_FALSE = frozenset(("f", "false", "n", "no", "0"))
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_CLOCK = r"(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,6}))?"
_ZONE = r"(Z|UTC|[+-]\d{2}(?::?\d{2})?)?"
_MOMENT = re.compile(rf"(\d{{4}})-(\d{{2}})-(\d{{2}})(?:[ T]{_CLOCK})?\s*{_ZONE}")
#: Parts of a format, and the patterns that read them.
_PARTS = {
    "YYYY": r"(?P<year>\d{4})", "MM": r"(?P<month>\d{1,2})", "DD": r"(?P<day>\d{1,2})", "HH24": r"(?P<hour>\d{1,2})",
    "HH": r"(?P<hour>\d{1,2})", "MI": r"(?P<minute>\d{1,2})", "SS": r"(?P<second>\d{1,2})(?:\.(?P<part>\d{1,6}))?",
    "OF": r"(?P<zone>[+-]\d{2}(?::?\d{2})?)",
}  # fmt: skip
_FORMAT = re.compile("YYYY|MM|DD|HH24|HH|MI|SS|OF|[A-Za-z]+|.")


class BadValue(Exception):
    """A field that does not fit its column.

    Args:
        code: of the page "Load error reference".
        reason: in words.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def converted(value: str, kind: Type, options: Mapping[str, Any]) -> str | None:
    """A field as text that PostgreSQL takes for this type; None: null.

    Raises:
        BadValue: COPY would refuse it.
    """
    if kind.name in ("character varying", "character"):
        return _characters(value, kind, options)
    if kind.name == "super":
        return _super(value)
    if not value.strip():
        return None
    value = value.strip()
    if kind.name in _RANGES:
        return _whole(value, kind)
    if kind.name == "numeric":
        return _numeric(value, kind, roundec="roundec" in options)
    if kind.name in ("real", "double precision"):
        return _float(value, kind)
    if kind.name == "boolean":
        if value.lower() not in _TRUE | _FALSE:
            raise BadValue(1210, "Unknown boolean format")
        return "t" if value.lower() in _TRUE else "f"
    if kind.name == "date":
        return _date(value, options)
    if kind.name.startswith("timestamp"):
        return _moment(value, kind, options)
    if kind.name.startswith("time"):
        return _time(value, kind)
    if kind.name == "varbyte":
        return _bytes(value, kind)
    raise unknown(f"COPY into a column of type {kind}")


def _characters(value: str, kind: Type, options: Mapping[str, Any]) -> str | None:
    if "blanksasnull" in options and value and not value.strip():
        return None
    if "emptyasnull" in options and not value:
        return None
    if kind.name == "character" and not value.isascii():
        shown = " ".join(f"{byte:02x}" for byte in value.encode() if byte > 127)
        raise BadValue(
            1220, f"Multibyte character not supported for CHAR (Hint: try using VARCHAR). Invalid char: {shown}"
        )
    if "trimblanks" in options:
        value = value.rstrip(" ")
    if "\0" in value:
        raise BadValue(1214, "Missing newline: Unexpected character 0x0 found")
    if len(value.encode()) > (kind.size or 0):
        if "truncatecolumns" in options:
            return value.encode()[: kind.size].decode(errors="ignore")
        if kind.name == "character" and not value[kind.size :].strip(" "):
            return value
        raise BadValue(1204, "String length exceeds DDL length")
    return value


def _super(value: str) -> str:
    try:
        json.loads(value, parse_constant=_refuse)
    except ValueError:
        raise BadValue(1224, "Invalid JSON format for a SUPER column") from None
    return value


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _whole(value: str, kind: Type) -> str:
    if not _WHOLE.fullmatch(value):
        bad = next((letter for letter in value.lstrip("+-") if not letter.isdecimal()), value[-1:])
        raise BadValue(1207, f"Invalid digit, Value '{bad}', Pos {value.find(bad)}, Type: {kind.name.capitalize()}")
    limit = _RANGES[kind.name]
    if not -limit <= int(value) < limit:
        raise BadValue(1216, f"Overflow for {kind.name} ({value})")
    return value


def _numeric(value: str, kind: Type, *, roundec: bool) -> str:
    if not _EXACT.fullmatch(value):
        raise BadValue(1207, f"Invalid digit in a NUMERIC value, Type: {kind}")
    size, scale = kind.size or 18, kind.scale or 0
    number = Decimal(value)
    if number.adjusted() >= size - scale and number:
        raise BadValue(1216, f"Overflow, NUMERIC({size},{scale})")
    step = Decimal(1).scaleb(-scale)
    with localcontext(prec=80):
        made = number.quantize(step, ROUND_HALF_UP if roundec else ROUND_DOWN)
    return f"{made:f}"


def _float(value: str, kind: Type) -> str:
    if not _FLOAT.fullmatch(value):
        raise BadValue(1208, f"Invalid {kind.name} value")
    return value


def _date(value: str, options: Mapping[str, Any]) -> str | None:
    form = options.get("dateformat", "YYYY-MM-DD")
    try:
        if form in ("auto", "YYYY-MM-DD"):
            found = _DATE.fullmatch(value) or (_MOMENT.fullmatch(value) if form == "auto" else None)
            if found is None:
                raise ValueError(value)
            return dt.date(int(found[1]), int(found[2]), int(found[3])).isoformat()
        return _by_format(value, form).date().isoformat()
    except ValueError:
        if "acceptanydate" in options:
            return None
        raise BadValue(1205, f"Invalid Date Format - length must be 10 or more, or does not match {form}") from None


def _moment(value: str, kind: Type, options: Mapping[str, Any]) -> str | None:
    form = options.get("timeformat", "YYYY-MM-DD HH:MI:SS")
    zoned = kind.name.endswith("with time zone")
    try:
        if form in ("epochsecs", "epochmillisecs"):
            seconds = Decimal(value) / (1000 if form == "epochmillisecs" else 1)
            made = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=int(seconds * 1_000_000))
            return made.isoformat(" ") if zoned else made.replace(tzinfo=None).isoformat(" ")
        if form not in ("auto", "YYYY-MM-DD HH:MI:SS", "YYYY-MM-DD HH:MI:SSOF"):
            return _by_format(value, form).isoformat(" ")
        found = _MOMENT.fullmatch(value)
        if found is None or (found[8] and not zoned and form != "auto"):
            raise ValueError(value)
        year, month, day, hour, minute, second = (int(one or 0) for one in found.groups()[:6])
        part = int((found[7] or "0").ljust(6, "0"))
        made = dt.datetime(year, month, day, hour, minute, second, part)
        zone = {"Z": "+00", "UTC": "+00", None: "+00"}.get(found[8], found[8])
        # Without a zone of its own, a TIMESTAMP keeps what the clock showed.
        return made.isoformat(" ") + (zone or "" if zoned else "")
    except (ValueError, ArithmeticError):
        if "acceptanydate" in options:
            return None
        raise BadValue(1206, f"Invalid timestamp format or value [{form}]") from None


def _by_format(value: str, form: str) -> dt.datetime:
    pattern = ""
    for part in _FORMAT.findall(form):
        if part.isalpha() and part not in _PARTS:
            raise unknown(f"{part} in a DATEFORMAT or TIMEFORMAT")
        pattern += _PARTS.get(part, re.escape(part))
    found = re.fullmatch(pattern, value)
    if found is None:
        raise ValueError(value)
    given = found.groupdict()
    made = dt.datetime(
        int(given.get("year") or 1), int(given.get("month") or 1), int(given.get("day") or 1),
        int(given.get("hour") or 0), int(given.get("minute") or 0), int(given.get("second") or 0),
        int((given.get("part") or "0").ljust(6, "0")),
    )  # fmt: skip
    zone = given.get("zone")
    return made if not zone else dt.datetime.fromisoformat(made.isoformat() + (zone if len(zone) > 3 else zone + ":00"))


def _time(value: str, kind: Type) -> str:
    found = re.fullmatch(_CLOCK + (_ZONE if kind.name.endswith("with time zone") else ""), value)
    try:
        if found is None:
            raise ValueError(value)
        dt.time(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        raise BadValue(1206, "Invalid time format or value") from None
    return value


def _bytes(value: str, kind: Type) -> str:
    try:
        made = bytes.fromhex(value)
    except ValueError:
        raise BadValue(1207, "Invalid hexadecimal digit in a VARBYTE value") from None
    if len(made) > (kind.size or 0):
        raise BadValue(1204, "Length of value exceeds DDL length")
    return "\\x" + value
