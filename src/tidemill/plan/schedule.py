"""Which data intervals a timetable makes, and which of them a run means.

A tick at T ends the interval that began at the tick before it (Airflow's rule): the run for January 15th can
begin when January 16th begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidemill.model.batch import Interval
from tidemill.model.errors import DefinitionError, UserError
from tidemill.model.run import RunInfo
from tidemill.model.timetable import PRESETS, Timetable, parse_duration
from tidemill.plan.cron import check_cron, cron_after, cron_at_or_before

_DAY = timedelta(days=1)
#: Steps are counted from here when a pipeline has no start.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_timetable(text: str | timedelta | Sequence[str] | None, zone: str = "UTC") -> Timetable | None:
    """Read a schedule: a preset (`@daily`), a cron expression (`30 1 * * *`) or several, a step (`15m`, timedelta), or
    None.

    Raises:
        DefinitionError: it is none of these, or the zone is unknown.
    """
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise DefinitionError(f'"{zone}" is no time zone.', hint='an IANA name such as "Europe/London"') from None
    if text is None:
        return None
    if isinstance(text, list | tuple):
        crons = tuple(PRESETS.get(str(one), str(one)) for one in text)
        for one in crons:
            check_cron(one)
        return Timetable(" | ".join(map(str, text)), crons=crons, zone=zone) if crons else None
    assert isinstance(text, str | timedelta)
    if isinstance(text, timedelta):
        return Timetable(str(text), step=parse_duration(text), zone=zone)
    cron = PRESETS.get(text, text)
    if cron.count(" ") >= 4:
        check_cron(cron)
        return Timetable(text, cron=cron, zone=zone)
    if text.startswith("@"):
        raise DefinitionError(
            f'There is no schedule "{text}".', hint="one of " + ", ".join((*PRESETS, "@once", "@continuous"))
        )
    try:
        return Timetable(text, step=parse_duration(text), zone=zone)
    except DefinitionError:
        raise DefinitionError(
            f'"{text}" is no schedule.',
            hint='"@daily", a cron expression ("30 1 * * *") or a step ("15m")',
        ) from None


def tick_after(timetable: Timetable, moment: datetime, anchor: datetime | None = None) -> datetime:
    """The first tick later than `moment`."""
    if timetable.step is not None:
        return _step(timetable, moment, anchor, 1)
    return min((cron_after(cron, ZoneInfo(timetable.zone), moment) for cron in _crons(timetable)), key=_instant)


def tick_at_or_before(timetable: Timetable, moment: datetime, anchor: datetime | None = None) -> datetime:
    """The last tick that is not later than `moment`."""
    if timetable.step is not None:
        return _step(timetable, moment, anchor, 0)
    return max((cron_at_or_before(cron, ZoneInfo(timetable.zone), moment) for cron in _crons(timetable)), key=_instant)


def _crons(timetable: Timetable) -> tuple[str, ...]:
    return timetable.crons or (timetable.cron or "",)


def _instant(moment: datetime) -> datetime:
    # Two times of one zone compare by what the wall shows, which is the same twice when clocks go back.
    return moment.astimezone(UTC)


def _step(timetable: Timetable, moment: datetime, anchor: datetime | None, more: int) -> datetime:
    """The tick of a fixed step at or before `moment`, or `more` steps later; counted in UTC: a step has no DST."""
    assert timetable.step is not None
    origin = (anchor or _EPOCH).astimezone(UTC)
    steps = (moment.astimezone(UTC) - origin) // timetable.step + more
    return (origin + steps * timetable.step).astimezone(ZoneInfo(timetable.zone))


def interval_at(timetable: Timetable, moment: datetime, anchor: datetime | None = None) -> Interval:
    """The data interval that holds `moment`."""
    start = tick_at_or_before(timetable, moment, anchor)
    return Interval(start, tick_after(timetable, start, anchor))


def intervals(
    timetable: Timetable, start: datetime, end: datetime, anchor: datetime | None = None
) -> Iterator[Interval]:
    """Every interval that lies in [start, end), oldest first."""
    # Two times of one zone would be compared by what the wall shows.
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    at = tick_at_or_before(timetable, start, anchor)
    if at < start:
        at = tick_after(timetable, at, anchor)
    while True:
        until = tick_after(timetable, at, anchor)
        if until > end:
            return
        yield Interval(at, until)
        at = until


def latest_complete(
    timetable: Timetable, now: datetime, *, start: datetime | None = None, end: datetime | None = None
) -> Interval | None:
    """The newest interval that is over at `now` and lies between the pipeline's `start` and `end`; None: none yet."""
    limit = min(moment.astimezone(UTC) for moment in (now, end) if moment is not None)
    until = tick_at_or_before(timetable, limit, start)
    began = tick_at_or_before(timetable, until.astimezone(UTC) - timedelta(microseconds=1), start)
    if start is not None and began < start.astimezone(UTC):
        return None
    return Interval(began, until)


def parse_moment(text: str, zone: str = "UTC") -> datetime:
    """Read `2013-01-15`, `2013-01-15T03:00`, or a full ISO time; without an offset it is in `zone`.

    Raises:
        UserError: the text is no time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f'"{text}" is no date or time.', hint='"2013-01-15" or "2013-01-15T03:00"') from None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))


def key_of_moment(moment: datetime) -> str:
    """The run key of a moment, for a pipeline that does not run by time; one without a zone is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def moment_of(run: RunInfo) -> datetime | None:
    """The moment of a run without an interval: that of its run key, or else when its batch was asked for."""
    try:
        found = datetime.fromisoformat(run.run_key or "")
    except ValueError:
        return run.asked
    return found if found.tzinfo else run.asked


def parse_intervals(text: str, timetable: Timetable | None, anchor: datetime | None = None) -> list[Interval]:
    """The intervals that a user means by `2013-01-15` or `2013-01-15..2013-01-20` (both ends included).

    A date means all intervals that touch the day: 24 of an hourly pipeline. One without a schedule takes days.

    Raises:
        UserError: no date, or a range that runs backwards.
    """
    timetable = timetable or Timetable("@daily", cron=PRESETS["@daily"])
    first, dots, last = text.partition("..")
    last = last if dots else first
    start = interval_at(timetable, parse_moment(first, timetable.zone), anchor)
    final_moment = parse_moment(last, timetable.zone)
    if len(last) == 10:  # a date without a time means the whole day
        final_moment += _DAY - timedelta(microseconds=1)
    final = interval_at(timetable, final_moment, anchor)
    if final < start:
        raise UserError(f'The range "{text}" runs backwards.', hint=f'"{last}..{first}"')
    return list(intervals(timetable, start.start, final.end, anchor))
