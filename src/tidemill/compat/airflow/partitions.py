"""Airflow's mappers, windows and policies of partitions, as ours.

They are functions where Airflow has classes: a mapper of a user's own would have to be run by the planner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tidemill.authoring.place import here
from tidemill.model import partition as ours
from tidemill.model.errors import DefinitionError

#: Which mapper writes the keys of what a window is spread into.
_SPREAD = {"day": "hour", "week": "day", "month": "day", "quarter": "month", "year": "month"}
_FORM = "%Y-%m-%dT%H:%M:%S"


def IdentityMapper(*, max_downstream_keys: int | None = None) -> Any:  # noqa: N802  # a class there, like all below
    """The key itself."""
    return ours.Same()


def AllowedKeyMapper(allowed_keys: Iterable[str], *, max_downstream_keys: int | None = None) -> Any:  # noqa: N802
    """The key itself, if it is one of these."""
    return ours.Only(tuple(allowed_keys))


def FixedKeyMapper(downstream_key: Any, *, max_downstream_keys: int | None = None) -> Any:  # noqa: N802
    """One key, whatever the asset's is. Raises DefinitionError."""
    if not isinstance(downstream_key, str) or not downstream_key:
        raise DefinitionError(f"{downstream_key!r} is no key.", where=here(), hint='FixedKeyMapper("all")')
    return ours.Always(downstream_key)


def ProductMapper(*mappers: Any, delimiter: str = "|", max_downstream_keys: int | None = None) -> Any:  # noqa: N802
    """Keys of several parts."""
    return ours.Parts(tuple(map(_mapper, mappers)), delimiter)


def ChainMapper(*mappers: Any, max_downstream_keys: int | None = None) -> Any:  # noqa: N802
    """One mapper after the other."""
    return _most(ours.Chain(tuple(map(_mapper, mappers))), max_downstream_keys)


def _start_of(unit: str, options: Mapping[str, Any]) -> Any:
    zone = options.get("timezone", "UTC")
    return ours.StartOf(
        unit,
        str(getattr(zone, "key", None) or getattr(zone, "name", None) or zone),
        options.get("input_format") or _FORM,
        options.get("output_format") or ours.UNITS[unit],
    )


def StartOfHourMapper(**options: Any) -> Any:  # noqa: N802
    """The hour of a key: `timezone`, `input_format`, `output_format`, and so those below."""
    return _start_of("hour", options)


def StartOfDayMapper(**options: Any) -> Any:  # noqa: N802
    """The day of a key."""
    return _start_of("day", options)


def StartOfWeekMapper(**options: Any) -> Any:  # noqa: N802
    """The week of a key, which begins on Monday."""
    return _start_of("week", options)


def StartOfMonthMapper(**options: Any) -> Any:  # noqa: N802
    """The month of a key."""
    return _start_of("month", options)


def StartOfQuarterMapper(**options: Any) -> Any:  # noqa: N802
    """The quarter of a key."""
    return _start_of("quarter", options)


def StartOfYearMapper(**options: Any) -> Any:  # noqa: N802
    """The year of a key."""
    return _start_of("year", options)


class Direction(StrEnum):
    """Whether a window begins with a period, or ends with its beginning."""

    FORWARD = "forward"
    BACKWARD = "backward"


class Window:
    """Where `Window.Direction` is."""

    Direction = Direction


def _window(unit: str, direction: Any) -> Any:
    return ours.Window(unit, Direction(direction) is Direction.BACKWARD)


def HourWindow(*, direction: Any = Direction.FORWARD) -> Any:  # noqa: N802
    """The minutes of an hour."""
    return _window("hour", direction)


def DayWindow(*, direction: Any = Direction.FORWARD) -> Any:  # noqa: N802
    """The hours of a day."""
    return _window("day", direction)


def WeekWindow(*, direction: Any = Direction.FORWARD) -> Any:  # noqa: N802
    """The days of a week."""
    return _window("week", direction)


def MonthWindow(*, direction: Any = Direction.FORWARD) -> Any:  # noqa: N802
    """The days of a month."""
    return _window("month", direction)


def QuarterWindow(*, direction: Any = Direction.FORWARD) -> Any:  # noqa: N802
    """The months of a quarter."""
    return _window("quarter", direction)


def YearWindow(*, direction: Any = Direction.FORWARD) -> Any:  # noqa: N802
    """The months of a year."""
    return _window("year", direction)


def SegmentWindow(segments: Any) -> Any:  # noqa: N802
    """Some keys. Raises DefinitionError."""
    given = [segments] if isinstance(segments, str) else list(segments)
    if not given or not all(isinstance(one, str) and one for one in given) or isinstance(segments, str):
        raise DefinitionError(f"{segments!r} are no keys.", where=here(), hint='SegmentWindow(["eu", "us"])')
    return ours.Window(segments=tuple(dict.fromkeys(given)))


@dataclass(frozen=True)
class WaitForAll:
    """All keys of a window are needed."""

    n: int | None = None


@dataclass(frozen=True)
class MinimumCount:
    """So many keys of a window are enough; below 0: so many may be missing."""

    n: int

    def __post_init__(self) -> None:
        if not self.n:
            raise DefinitionError("MinimumCount(0) would wait for nothing.", where=here(), hint="WaitForAll()")


def RollupMapper(  # noqa: N802
    *, upstream_mapper: Any, window: Any, wait_policy: Any = None, max_downstream_keys: int | None = None
) -> Any:
    """Many keys of an asset make one. Raises DefinitionError: window and mapper do not fit each other."""
    by, waits = _fitting(upstream_mapper, window), wait_policy or WaitForAll()
    if not isinstance(waits, WaitForAll | MinimumCount):
        raise DefinitionError(
            f"{type(waits).__name__} would have to be asked by the planner.", where=here(), hint="MinimumCount(3)"
        )
    return ours.Rollup(by, window, waits.n)


def FanOutMapper(  # noqa: N802
    *, upstream_mapper: Any, window: Any, downstream_mapper: Any = None, max_downstream_keys: int | None = None
) -> Any:
    """One key of an asset is many. Raises DefinitionError: what is given does not fit together."""
    by = _fitting(upstream_mapper, window)
    if downstream_mapper is None:
        if window.unit not in _SPREAD:
            raise DefinitionError(
                "This window needs a downstream_mapper.", where=here(), hint="downstream_mapper=IdentityMapper()"
            )
        downstream_mapper = _start_of(_SPREAD[window.unit], {})
    return _most(ours.Spread(by, window, _mapper(downstream_mapper)), max_downstream_keys)


def _fitting(mapper: Any, window: Any) -> Any:
    if not isinstance(window, ours.Window):
        raise DefinitionError(f"{window!r} is no window that is known here.", where=here(), hint="DayWindow()")
    if isinstance(_mapper(mapper), ours.StartOf) is not bool(window.unit):
        raise DefinitionError(
            "A window of time needs a mapper of time, and one of keys another one.",
            where=here(),
            hint="StartOfDayMapper() with DayWindow(), FixedKeyMapper(...) with SegmentWindow([...])",
        )
    return mapper


def _mapper(given: Any) -> Any:
    if not isinstance(given, ours.Same):
        raise DefinitionError(
            f"{type(given).__name__} is a mapper of a user's own: the planner runs no such code.",
            where=here(),
            hint="ChainMapper and ProductMapper put mappers together",
        )
    return given


def _most(mapper: Any, most: int | None) -> Any:
    return ours.Most(mapper, most or ours.MOST)
