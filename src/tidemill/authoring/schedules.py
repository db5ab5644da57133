"""What a user may give as a schedule, and the moments between which it counts."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any, Protocol, runtime_checkable

from tidemill.authoring.arguments import asset_name
from tidemill.authoring.place import here, placed
from tidemill.model.batch import Interval
from tidemill.model.condition import AllOf, AnyOf, FilesArrive, Published
from tidemill.model.definition import Schedule
from tidemill.model.errors import DefinitionError, UserError
from tidemill.plan.schedule import parse_moment, parse_timetable

#: Intervals of a user's own timetable that are asked for each time the file is read.
AHEAD = 100


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


def read_schedule(value: Any, zone: str, start: datetime | None) -> Schedule:
    """What a user gave as `schedule=`.

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
        return _custom(value, start)
    if hasattr(value, "uri") or hasattr(value, "pipeline"):
        return read_schedule(published(value), zone, start)
    raise DefinitionError(
        f"{value!r} is no schedule.",
        where=here(),
        hint='"@daily", "30 1 * * *", "15m", published("pipeline.table"), or an object with next_interval(after)',
    )


def _told(condition: Published | AllOf | AnyOf) -> str:
    if isinstance(condition, Published):
        return condition.asset
    word = " and " if isinstance(condition, AllOf) else " or "
    return word.join(_told(one) if isinstance(one, Published) else f"({_told(one)})" for one in condition.of)


def _custom(timetable: CustomTimetable, start: datetime | None) -> Schedule:
    """The next intervals of a user's timetable, from the DAG's start on."""
    place = here()
    found: list[Interval] = []
    after: Interval | None = None
    asked = 0
    while len(found) <= AHEAD and asked < 100 * AHEAD:
        asked += 1
        following = timetable.next_interval(after)
        if following is None:
            break
        if after is not None and following <= after:
            raise DefinitionError(
                f"{type(timetable).__name__}.next_interval({after}) gave {following!r}.",
                where=place,
                hint="an Interval later than the one before, or None",
            )
        after = following
        if start is None or following.start >= start:
            found.append(following)
    return Schedule(intervals=tuple(islice(found, AHEAD)), more=len(found) > AHEAD, text=type(timetable).__name__)


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
