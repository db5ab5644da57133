"""Partitions of assets: keys that runs tell beside an asset, and what they are for those who wait for it.

A mapper says to which keys of the waiting pipeline a key of the asset belongs: `2026-01-15T06:00:00` to the day
`2026-01-15`. One with a window says besides which keys of the asset make such a day whole, or to which keys one key is
spread. All of it is data: the planner never runs a user's code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import cache
from typing import Any, ClassVar, TypeAlias
from zoneinfo import ZoneInfo

from tidemill.model.errors import DefinitionError

#: The units of `StartOf`, each with the form of its keys.
UNITS = {
    "hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%Y-%m-%d (W%V)", "month": "%Y-%m", "quarter": "%Y-Q{quarter}",
    "year": "%Y",
}  # fmt: skip
#: What windows are made of: the unit of their members, and how many there are; of a month as many as it has days.
_MEMBERS: dict[str, tuple[str, int]] = {
    "hour": ("minute", 60), "day": ("hour", 24), "week": ("day", 7), "month": ("day", 0), "quarter": ("month", 3),
    "year": ("month", 12),
}  # fmt: skip
#: One key is spread over so many at most, unless a pipeline says otherwise.
MOST = 1_000
_DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "V": 2, "U": 2, "W": 2}


@dataclass(frozen=True, slots=True)
class Same:
    """The key itself."""

    kind: ClassVar[str] = "same"

    def keys(self, key: str) -> tuple[str, ...]:
        """The keys to which a key of the asset belongs. Raises ValueError: it has another form."""
        return (key,)

    def moment(self, key: str) -> datetime | None:
        """When the period of a key begins; None: it is none of time."""
        return None


@dataclass(frozen=True, slots=True)
class Only(Same):
    """The key itself, if it is one of some."""

    kind: ClassVar[str] = "only"
    allowed: tuple[str, ...] = ()

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        if key not in self.allowed:
            raise ValueError(f'"{key}" is none of {", ".join(self.allowed)}')
        return (key,)


@dataclass(frozen=True, slots=True)
class Always(Same):
    """One key, whatever the asset's is."""

    kind: ClassVar[str] = "always"
    key: str = ""

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        return (self.key,)


@dataclass(frozen=True, slots=True)
class StartOf(Same):
    """The period of time that a key lies in.

    Args:
        unit: of the period: hour, day, week, month, quarter, year.
        zone: in which it begins.
        read: the form of the asset's keys. `write`: of its own; `{quarter}` stands for the number of the quarter.
    """

    kind: ClassVar[str] = "start"
    unit: str = "day"
    zone: str = "UTC"
    read: str = "%Y-%m-%dT%H:%M:%S"
    write: str = "%Y-%m-%d"

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        moment, zone = datetime.strptime(key, self.read), ZoneInfo(self.zone)
        moment = moment.astimezone(zone) if moment.tzinfo else moment.replace(tzinfo=zone)
        return (self.named(begin_of(self.unit, moment)),)

    def named(self, begin: datetime) -> str:
        """The key of a period."""
        return begin.strftime(self.write).replace("{quarter}", str((begin.month - 1) // 3 + 1))

    def begun(self, key: str) -> datetime:
        """When the period of one of its keys begins, without a zone. Raises ValueError."""
        found = _pattern(self.write).fullmatch(key)
        if found is None or "Y" not in found.groupdict():
            raise ValueError(f'"{key}" has not the form {self.write}')
        parts = {name: int(text) for name, text in found.groupdict().items()}
        month = (parts["quarter"] - 1) * 3 + 1 if "quarter" in parts else parts.get("m", 1)
        made = datetime(parts["Y"], month, parts.get("d", 1), parts.get("H", 0), parts.get("M", 0), parts.get("S", 0))
        return begin_of(self.unit, made)

    def member(self, begin: datetime) -> str:
        """The asset's key of a moment."""
        return begin.replace(tzinfo=ZoneInfo(self.zone)).strftime(self.read)

    def moment(self, key: str) -> datetime | None:
        """See `Same.moment`."""
        return self.begun(key).replace(tzinfo=ZoneInfo(self.zone))


@dataclass(frozen=True, slots=True)
class Parts(Same):
    """Keys of several parts, each by a mapper of its own."""

    kind: ClassVar[str] = "parts"
    of: tuple[Mapper, ...] = ()
    between: str = "|"

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        parts = key.split(self.between)
        if len(parts) != len(self.of):
            raise ValueError(f'"{key}" has {len(parts)} parts instead of {len(self.of)}')
        found = [mapper.keys(part) for mapper, part in zip(self.of, parts, strict=True)]
        if any(len(one) != 1 for one in found):
            raise ValueError(f'a part of "{key}" belongs to several keys')
        return (self.between.join(one[0] for one in found),)

    def moment(self, key: str) -> datetime | None:
        """See `Same.moment`; None where several parts are of time."""
        parts = key.split(self.between)
        if len(parts) != len(self.of):
            return None
        found = [mapper.moment(part) for mapper, part in zip(self.of, parts, strict=True)]
        times = [one for one in found if one is not None]
        return times[0] if len(times) == 1 else None


@dataclass(frozen=True, slots=True)
class Chain(Same):
    """One mapper after the other."""

    kind: ClassVar[str] = "chain"
    of: tuple[Mapper, ...] = ()

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        found: tuple[str, ...] = (key,)
        for mapper in self.of:
            found = tuple(dict.fromkeys(made for one in found for made in mapper.keys(one)))
        return found

    def moment(self, key: str) -> datetime | None:
        """See `Same.moment`."""
        return self.of[-1].moment(key)


@dataclass(frozen=True, slots=True)
class Window:
    """What makes a period whole: its parts of time, or some keys.

    Args:
        unit: of the period: hour (of 60 minutes), day, week, month, quarter, year; empty: `segments` are meant.
        backward: the parts end with the beginning of the period instead of beginning there.
        segments: keys.
    """

    unit: str = ""
    backward: bool = False
    segments: tuple[str, ...] = ()

    def moments(self, begin: datetime) -> Iterator[datetime]:
        """The parts of the period that begins then."""
        unit, count = _MEMBERS[self.unit]
        if not count:
            first = _later(begin, "month", -1 if self.backward else 1)
            count = abs((first - begin).days)
        start = _later(begin, unit, -(count - 1)) if self.backward else begin
        return (_later(start, unit, at) for at in range(count))


@dataclass(frozen=True, slots=True)
class Rollup(Same):
    """Many keys of the asset make one: of it that `by` says, and whole when those of the window are there.

    Args:
        by: `StartOf` for a window of time; another mapper for one of keys.
        window: which keys of the asset are needed.
        least: so many are enough; below 0: so many may be missing; None: all are needed.
    """

    kind: ClassVar[str] = "rollup"
    by: Mapper = field(default_factory=Same)
    window: Window = field(default_factory=Window)
    least: int | None = None

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        return self.by.keys(key)

    def moment(self, key: str) -> datetime | None:
        """See `Same.moment`."""
        return self.by.moment(key)

    def whole(self, key: str, there: frozenset[str]) -> bool:
        """Whether enough keys of the asset are there for one key."""
        if isinstance(self.by, StartOf):
            needed = {self.by.member(one) for one in self.window.moments(self.by.begun(key))}
        else:
            needed = set(self.window.segments)
        count = len(needed & there)
        if self.least is None:
            return count == len(needed)
        return count >= (self.least if self.least > 0 else max(len(needed) + self.least, 0))


@dataclass(frozen=True, slots=True)
class Spread(Same):
    """One key of the asset is many: those of a window.

    Args:
        by: says which period, or which key, a key of the asset is.
        window: into which keys it is spread.
        to: their form.
    """

    kind: ClassVar[str] = "spread"
    by: Mapper = field(default_factory=Same)
    window: Window = field(default_factory=Window)
    to: Mapper = field(default_factory=Same)

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        (one,) = self.by.keys(key)
        if not isinstance(self.by, StartOf):
            return self.window.segments
        moments = self.window.moments(self.by.begun(one))
        return tuple(self.to.named(at) if isinstance(self.to, StartOf) else at.isoformat() for at in moments)

    def moment(self, key: str) -> datetime | None:
        """See `Same.moment`."""
        return self.to.moment(key)


@dataclass(frozen=True, slots=True)
class Most(Same):
    """A mapper that gives so many keys for one at most."""

    kind: ClassVar[str] = "most"
    of: Mapper = field(default_factory=Same)
    most: int = MOST

    def keys(self, key: str) -> tuple[str, ...]:
        """See `Same.keys`."""
        found = self.of.keys(key)
        if len(found) > self.most:
            raise ValueError(f'"{key}" belongs to {len(found)} keys, more than {self.most}')
        return found

    def moment(self, key: str) -> datetime | None:
        """See `Same.moment`."""
        return self.of.moment(key)


Mapper: TypeAlias = "Same | Only | Always | StartOf | Parts | Chain | Rollup | Spread | Most"
_KINDS: Mapping[str, Callable[..., Any]] = {
    one.kind: one for one in (Same, Only, Always, StartOf, Parts, Chain, Rollup, Spread, Most)
}


def rollup_in(mapper: Mapper) -> Rollup | None:
    """What says when a key is whole; None: one key of the asset is enough."""
    found = mapper.of if isinstance(mapper, Most) else mapper
    return found if isinstance(found, Rollup) else None


def begin_of(unit: str, moment: datetime) -> datetime:
    """When the period that a moment lies in begins."""
    made = moment.replace(minute=0, second=0, microsecond=0)
    if unit == "hour":
        return made
    made = made.replace(hour=0)
    if unit == "week":
        return made - timedelta(days=made.weekday())
    if unit == "day":
        return made
    month = {"month": made.month, "quarter": (made.month - 1) // 3 * 3 + 1, "year": 1}[unit]
    return made.replace(month=month, day=1)


def _later(moment: datetime, unit: str, count: int) -> datetime:
    if unit == "month":
        months = moment.year * 12 + moment.month - 1 + count
        return moment.replace(year=months // 12, month=months % 12 + 1)
    return moment + count * timedelta(**{f"{unit}s": 1})


@cache
def _pattern(form: str) -> re.Pattern[str]:
    """A form of keys as a pattern whose groups are the parts."""
    made = re.escape(form).replace(r"\{quarter\}", "(?P<quarter>[1-4])")
    for letter, digits in _DIGITS.items():
        made = made.replace(f"%{letter}", f"(?P<{letter}>[0-9]{{{digits}}})", 1)
    return re.compile(made)


def mapper_json(mapper: Mapper) -> dict[str, Any]:
    """A mapper as JSON."""
    made: dict[str, Any] = {"kind": mapper.kind}
    for one in fields(mapper):
        value = getattr(mapper, one.name)
        if isinstance(value, Window):
            made[one.name] = {"unit": value.unit, "backward": value.backward, "segments": list(value.segments)}
        elif isinstance(value, Same):
            made[one.name] = mapper_json(value)
        elif isinstance(value, tuple):
            made[one.name] = [mapper_json(each) if isinstance(each, Same) else each for each in value]
        else:
            made[one.name] = value
    return made


def read_mapper(found: Mapping[str, Any]) -> Mapper:
    """What `mapper_json` wrote. Raises DefinitionError."""
    kind = _KINDS.get(found.get("kind", ""))
    if kind is None:
        raise DefinitionError(f"No mapper of partitions: {found!r}.", hint=", ".join(_KINDS))
    made: dict[str, Any] = {}
    for name, value in found.items():
        if name == "window":
            made[name] = Window(value["unit"], value["backward"], tuple(value["segments"]))
        elif isinstance(value, dict):
            made[name] = read_mapper(value)
        elif isinstance(value, list):
            made[name] = tuple(read_mapper(each) if isinstance(each, dict) else each for each in value)
        elif name != "kind":
            made[name] = value
    result: Mapper = kind(**made)
    return result
