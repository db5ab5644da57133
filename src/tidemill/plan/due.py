"""Which runs a schedule asks for now, and when to look again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from tidemill.model.batch import Interval
from tidemill.model.definition import AHEAD, Definition
from tidemill.model.timetable import Timetable
from tidemill.plan.schedule import intervals, latest_complete, tick_after, tick_at_or_before

#: An interval of `@continuous` is no shorter: runs that take no time must not fill the database.
_SHORTEST = timedelta(seconds=1)
#: A file that could not be read in time is read again after so long, and at the latest after so long.
_LATE_FIRST, _LATE_MOST = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Due:
    """What a schedule asks for.

    Args:
        intervals: to begin runs for now, oldest first.
        next_at: when there may be another; None: not by time alone (no more intervals, or no room until a run ends).
    """

    intervals: tuple[Interval, ...] = ()
    next_at: datetime | None = None


def due(
    timetable: Timetable,
    now: datetime,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    catchup: bool = False,
    newest: Interval | None = None,
    room: int = 1,
) -> Due:
    """What is due, as Airflow counts: the run of an interval is due when the interval is over.

    Args:
        timetable: the schedule.
        now: the time.
        start: the first interval begins here or later; without it nothing older than the latest one is asked for.
        end: the last interval ends here or earlier.
        catchup: also ask for intervals that were missed; else only for the latest one that is over.
        newest: the newest interval that the schedule has begun a run for.
        room: how many more runs may be under way.
    """
    latest = latest_complete(timetable, now, start=start, end=end)
    done = newest.end.astimezone(UTC) if newest is not None else None
    found: tuple[Interval, ...] = ()
    if latest is not None and (done is None or latest.start.astimezone(UTC) >= done):
        if catchup and (done is not None or start is not None):
            since = max(moment.astimezone(UTC) for moment in (done, start) if moment is not None)
            found = tuple(islice(intervals(timetable, since, latest.end, start), max(room, 0)))
        elif room > 0:
            found = (latest,)
    if latest is not None and not _reaches(latest, found or ((newest,) if newest else ())):
        return Due(found)
    return Due(found, _next(timetable, now, start, end))


def due_of(
    intervals: Sequence[Interval],
    now: datetime,
    *,
    catchup: bool = False,
    newest: Interval | None = None,
    room: int = 1,
) -> Due:
    """The same for intervals that are known one by one, in order."""
    over = [one for one in intervals if one.end <= now and (newest is None or one > newest)]
    later = next((one.end for one in intervals if one.end > now), None)
    if not catchup:
        over = over[-1:]
    found = tuple(over[: max(room, 0)])
    return Due(found, later if len(found) == len(over) else None)


def due_for(definition: Definition, now: datetime, newest: Interval | None, room: int) -> Due:
    """What a pipeline's schedule asks for: by its timetable, or by the intervals that a user's own timetable gave."""
    schedule = definition.schedule
    if schedule.continuous:
        return _since(newest.end if newest is not None else definition.start, now, definition.end, room)
    if schedule.timetable is None:
        return due_of(schedule.intervals, now, catchup=definition.catchup, newest=newest, room=room)
    return due(
        schedule.timetable,
        now,
        start=definition.start,
        end=definition.end,
        catchup=definition.catchup,
        newest=newest,
        room=room,
    )


def renewal(definitions: Iterable[Definition]) -> datetime | None:
    """When a file must be read again, because fewer than half of the intervals that its own timetables told would lie
    ahead; None: never.
    """
    told = [d.schedule.intervals for d in definitions if d.schedule.more and d.schedule.intervals]
    return min((each[-min(len(each), AHEAD // 2)].end.astimezone(UTC) for each in told), default=None)


def late_again(times: int) -> timedelta:
    """After how long a file that could not be read in time is read again: each time twice as long, up to an hour."""
    return min(_LATE_FIRST * (1 << min(times - 1, 10)), _LATE_MOST)


def upcoming(
    definition: Definition, now: datetime, newest: Interval | None, most: int
) -> list[tuple[datetime, Interval]]:
    """The next runs of a schedule by time, as it would ask for them: when each may begin, and its interval.

    Of one that goes on whenever a run has ended nothing is known before.
    """
    if definition.schedule.continuous:
        return []
    found: list[tuple[datetime, Interval]] = []
    while len(found) < most:
        wanted = due_for(definition, now, newest, most - len(found))
        found += ((now, interval) for interval in wanted.intervals)
        newest = wanted.intervals[-1] if wanted.intervals else newest
        if not wanted.intervals and wanted.next_at is None:
            break
        now = max(now, wanted.next_at or now)
    return found


def _since(last: datetime | None, now: datetime, end: datetime | None, room: int) -> Due:
    """The time since the interval before, as soon as there is room for its run."""
    begin = (last or now - _SHORTEST).astimezone(UTC)
    until = now if end is None else min(now, end.astimezone(UTC))
    if room <= 0 or (end is not None and begin >= end.astimezone(UTC)):
        return Due()
    if until - begin < _SHORTEST and until == now:
        return Due((), begin + _SHORTEST)
    return Due((Interval(begin, until),))


def _reaches(latest: Interval, begun: tuple[Interval, ...]) -> bool:
    """Whether the latest interval is among what was begun: only time can bring another."""
    return bool(begun) and begun[-1] >= latest


def _next(timetable: Timetable, now: datetime, start: datetime | None, end: datetime | None) -> datetime | None:
    """The end of the first interval that is over later than now."""
    at = now.astimezone(UTC)
    if start is not None and start.astimezone(UTC) > at:
        first = tick_at_or_before(timetable, start, start)
        at = first if first >= start.astimezone(UTC) else tick_after(timetable, start, start)
        at = at.astimezone(UTC)
    tick = tick_after(timetable, at, start).astimezone(UTC)
    return None if end is not None and tick > end.astimezone(UTC) else tick


def late_at(definition: Definition, interval: Interval | None, created_at: datetime) -> datetime | None:
    """When a run that has not ended is late, in UTC; None: never.

    Args:
        definition: of its pipeline.
        interval: of its batch; without one its deadline counts from when it was asked for, or from a fixed moment.
        created_at: when it was asked for.
    """
    if definition.deadline is None:
        return None
    whence = definition.deadline_from
    if whence in ("", "start", "created"):
        since = created_at
        if interval is not None and whence != "created":
            since = interval.start if whence == "start" else interval.end
    else:
        since = datetime.fromisoformat(whence)
    return since.astimezone(UTC) + definition.deadline
