"""Ticks of cron expressions in a time zone, across changes of its clocks as Airflow counts them.

A cron expression speaks of what the clock on the wall shows. Where the clocks go forward, a tick in the hour that is
left out comes an hour later by the wall (01:30 as 02:30); where they go back, it comes the second time that the wall
shows it. An expression for every hour follows the hours as they pass: it has no tick in the hour that is left out, and
ticks in both that the wall shows alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from tidemill.model.errors import DefinitionError

#: A moment with all that counts for cron: expressions are read anew from here to look at their fields.
_ANY = datetime(2001, 1, 1)
#: Clocks change by so much at most.
_MOST = timedelta(hours=3)


def check_cron(text: str) -> None:
    """Raise `DefinitionError` unless `text` is a cron expression that comes about."""
    try:
        CronSim(text, _ANY)
    except CronSimError as error:
        raise DefinitionError(f'"{text}" is no cron expression: {error}.', hint='"30 1 * * *"') from None


def cron_after(text: str, zone: ZoneInfo, moment: datetime) -> datetime:
    """The first tick later than `moment`, in `zone`."""
    return _after(text, zone, moment.astimezone(UTC))


def cron_at_or_before(text: str, zone: ZoneInfo, moment: datetime) -> datetime:
    """The last tick that is not later than `moment`, in `zone`."""
    return _at_or_before(text, zone, moment.astimezone(UTC))


# Kept: all pipelines of one schedule are asked about at one moment, and 200 of them took 50 ms. By the time in UTC, as
# two times of one zone are equal where clocks go back.


@lru_cache(maxsize=1024)
def _after(text: str, zone: ZoneInfo, moment: datetime) -> datetime:
    wall = _wall(moment, zone)
    if not _every_hour(text):
        instant = moment.astimezone(UTC)
        ticks = (_aware(tick, zone) for tick in CronSim(text, wall - timedelta(days=1)))
        return next(tick for tick in ticks if tick > instant)
    made = next(CronSim(text, wall)).replace(tzinfo=zone)
    if made.utcoffset() == moment.astimezone(zone).utcoffset():
        return made
    return min(_around(text, zone, moment, made, reverse=False))


@lru_cache(maxsize=1024)
def _at_or_before(text: str, zone: ZoneInfo, moment: datetime) -> datetime:
    wall = _wall(moment, zone)
    if not _every_hour(text):
        instant = moment.astimezone(UTC)
        ticks = (_aware(tick, zone) for tick in CronSim(text, wall + timedelta(days=1), reverse=True))
        return next(tick for tick in ticks if tick <= instant)
    # CronSim works in whole minutes and looks strictly before its start.
    minute_after = wall.replace(second=0, microsecond=0) + timedelta(minutes=1)
    fold = moment.astimezone(zone).fold
    made = next(CronSim(text, minute_after, reverse=True)).replace(tzinfo=zone, fold=fold)
    if made.utcoffset() == moment.astimezone(zone).utcoffset():
        return made
    return max(_around(text, zone, moment, made, reverse=True))


def _around(text: str, zone: ZoneInfo, moment: datetime, near: datetime, *, reverse: bool) -> Iterator[datetime]:
    """Ticks of an expression for every hour on the far side of `moment`, where clocks change between it and `near`.

    The order of the wall is not that of time there, so all are given that can be the next one.
    """
    instant = moment.astimezone(UTC)
    margin = -_MOST if reverse else _MOST
    last = near.replace(tzinfo=None) + margin
    for wall in CronSim(text, _wall(moment, zone) - margin, reverse=reverse):
        for fold in (0, 1):
            tick = wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)
            if _wall(tick, zone) == wall and ((tick <= instant) if reverse else (tick > instant)):
                yield tick.astimezone(zone)
        if (wall < last) if reverse else (wall > last):
            return


@lru_cache(maxsize=1024)
def _every_hour(text: str) -> bool:
    return len(CronSim(text, _ANY).hours) == 24


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _aware(wall: datetime, zone: ZoneInfo) -> datetime:
    """What the wall shows as a moment: the later one of two, and an hour that is left out counted by the old clock."""
    later = wall.replace(tzinfo=zone, fold=1)
    if _wall(later.astimezone(UTC), zone) == wall:
        return later.astimezone(UTC).astimezone(zone)
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC).astimezone(zone)
