"""What a user may give as a schedule, and the moments between which it counts."""

from __future__ import annotations

from collections import deque
from datetime import date, datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from tidemill.authoring import registry
from tidemill.authoring.arguments import asset_name
from tidemill.authoring.place import here, placed
from tidemill.model.batch import Interval
from tidemill.model.condition import AllOf, AnyOf, FilesArrive, Published
from tidemill.model.definition import AHEAD, Schedule
from tidemill.model.errors import DefinitionError, UserError
from tidemill.plan.schedule import parse_moment, parse_timetable

#: Of a user's own timetable, so many intervals that are over are known beside those ahead; with `catchup`, all are.
BEHIND = 10
#: It is asked for so many intervals at most: 11 years of hours. One that never comes to the present must not hang.
_MOST = 100_000
#: Schedules that are no timetables: one run at the start; a run whenever the one before has ended.
ONCE, CONTINUOUS = "@once", "@continuous"


@runtime_checkable
class CustomTimetable(Protocol):
    """A user's own timetable."""

    def next_interval(self, after: Interval | None) -> Interval | None:
        """The interval that follows `after`; None asks for the first one, None returned ends the schedule."""
        ...


def published(*names: Any) -> Published | AllOf:
    """A condition for `schedule=`: these assets (`"pipeline.table"`, `"s3://bucket/key"`) were published.

    Conditions are combined: `published("a.x") & (published("b.y") | published("c.z"))`.
    """
    made = tuple(Published(asset_name(name)) for name in names)
    if not made:
        raise DefinitionError("published() names no asset.", where=here(), hint='published("pipeline.table")')
    return made[0] if len(made) == 1 else AllOf(made)


def read_schedule(
    value: Any, zone: str, start: datetime | None, *, catchup: bool = False, now: datetime | None = None
) -> Schedule:
    """What a user gave as `schedule=`.

    Args:
        value: it.
        zone: that of the pipeline.
        start: no interval begins before.
        catchup: intervals that are over are needed, too.
        now: from when on intervals lie ahead; without it, the time.

    Raises:
        DefinitionError: it is no schedule.
    """
    if value is None:
        return Schedule()
    if isinstance(value, Published | AllOf | AnyOf):
        return Schedule(on=value, text=_told(value))
    if isinstance(value, FilesArrive):
        return Schedule(files=value, text=f"files {value.pattern}")
    if value == "@webhook":
        return Schedule(webhook=True, text="@webhook")
    if value == ONCE:
        return _once(start)
    if value == CONTINUOUS:
        return Schedule(continuous=True, text=CONTINUOUS)
    if isinstance(value, str | timedelta):
        timetable = placed(parse_timetable, value, zone)
        return Schedule(timetable=timetable, text=timetable.text if timetable else "")
    if isinstance(value, list | tuple | set) and value:
        if all(isinstance(one, str) and (" " in one.strip() or one.startswith("@")) for one in value):
            timetable = placed(parse_timetable, list(value), zone)
            return Schedule(timetable=timetable, text=timetable.text if timetable else "")
        condition = placed(published, *value)
        return Schedule(on=condition, text=_told(condition))
    if isinstance(value, CustomTimetable):
        return _custom(value, start, catchup, now or registry.now())
    if hasattr(value, "uri") or hasattr(value, "pipeline"):
        return read_schedule(published(value), zone, start)
    raise DefinitionError(
        f"{value!r} is no schedule.",
        where=here(),
        hint='"@daily", "30 1 * * *", "15m", published("pipeline.table"), or an object with next_interval(after)',
    )


def _once(start: datetime | None) -> Schedule:
    """One run, for the moment at which the pipeline starts."""
    if start is None:
        raise DefinitionError(f"{ONCE} needs a start.", where=here(), hint='start="2026-01-31T08:00"')
    return Schedule(intervals=(Interval(start, start + timedelta(microseconds=1)),), text=ONCE)


def _told(condition: Published | AllOf | AnyOf) -> str:
    if isinstance(condition, Published):
        return condition.asset
    word = " and " if isinstance(condition, AllOf) else " or "
    return word.join(_told(one) if isinstance(one, Published) else f"({_told(one)})" for one in condition.of)


def _custom(timetable: CustomTimetable, start: datetime | None, catchup: bool, now: datetime) -> Schedule:
    """Intervals of a user's timetable: those ahead, and those that are over as far as they may still be needed."""
    place, name = here(), type(timetable).__name__
    over: deque[Interval] = deque(maxlen=None if catchup else BEHIND)
    ahead: list[Interval] = []
    after: Interval | None = None
    for _ in range(_MOST):
        following = timetable.next_interval(after)
        if following is None or len(ahead) == AHEAD:
            return Schedule(intervals=(*over, *ahead), more=following is not None, text=name)
        if after is not None and following <= after:
            raise DefinitionError(
                f"{name}.next_interval({after}) gave {following!r}.",
                where=place,
                hint="an Interval later than the one before, or None",
            )
        after = following
        if start is None or following.start >= start:
            (over if following.end <= now else ahead).append(following)
    raise DefinitionError(
        f"{name} has given {_MOST} intervals, and has come to {after} only.",
        where=place,
        hint="let next_interval(None) begin later",
    )


def read_moment(value: Any, zone: str | None) -> tuple[datetime | None, str]:
    """A start or end, and the zone in which the schedule counts: the given one, else that of the moment.

    Raises:
        DefinitionError: it is no moment.
    """
    if value is None:
        return None, zone or "UTC"
    if isinstance(value, datetime):
        own = getattr(value.tzinfo, "key", None) or getattr(value.tzinfo, "name", None)
        named = zone or (own if isinstance(own, str) else None) or "UTC"
        return (value if value.tzinfo else parse_moment(value.isoformat(), named)), named
    if isinstance(value, str | date):
        try:
            return parse_moment(str(value), zone or "UTC"), zone or "UTC"
        except UserError as error:
            raise DefinitionError(error.what, where=here(), hint=error.hint) from None
    raise DefinitionError(
        f"{value!r} is no moment.", where=here(), hint='"2026-01-31" or datetime(2026, 1, 31, tzinfo=UTC)'
    )


def moment_in(value: str | datetime | None, zone: str) -> datetime | None:
    """A moment as a user gives it; naive ones are in `zone`."""
    if value is None:
        return None
    return parse_moment(value if isinstance(value, str) else value.isoformat(), zone)
