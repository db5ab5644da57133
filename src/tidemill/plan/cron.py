"""Ticks of cron expressions in a time zone, across changes of its clocks as Airflow counts them.

A cron expression speaks of what the clock on the wall shows. Where the clocks go forward, a tick in the hour that is
left out comes an hour later by the wall (01:30 as 02:30); where they go back, it comes the second time that the wall
shows it. An expression for every hour follows the hours as they pass: none is left out, none comes twice.
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


def check_cron(text: str) -> None:
    """Raise `DefinitionError` unless `text` is a cron expression that comes about."""
    try:
        CronSim(text, _ANY)
    except CronSimError as error:
        raise DefinitionError(f'"{text}" is no cron expression: {error}.', hint='"30 1 * * *"') from None


def cron_after(text: str, zone: ZoneInfo, moment: datetime) -> datetime:
    """The first tick later than `moment`, in `zone`."""
    wall = _wall(moment, zone)
    if _every_hour(text):
        return _shifted(moment, next(CronSim(text, wall)) - wall, zone)
    instant = moment.astimezone(UTC)
    return next(tick for tick in _ticks(text, zone, wall - timedelta(days=1), reverse=False) if tick > instant)


def cron_at_or_before(text: str, zone: ZoneInfo, moment: datetime) -> datetime:
    """The last tick that is not later than `moment`, in `zone`."""
    wall = _wall(moment, zone)
    if _every_hour(text):
        # CronSim works in whole minutes and looks strictly before its start.
        minute_after = wall.replace(second=0, microsecond=0) + timedelta(minutes=1)
        return _shifted(moment, next(CronSim(text, minute_after, reverse=True)) - wall, zone)
    instant = moment.astimezone(UTC)
    return next(tick for tick in _ticks(text, zone, wall + timedelta(days=1), reverse=True) if tick <= instant)


def _ticks(text: str, zone: ZoneInfo, wall: datetime, *, reverse: bool) -> Iterator[datetime]:
    for tick in CronSim(text, wall, reverse=reverse):
        yield _aware(tick, zone)


@lru_cache(maxsize=1024)
def _every_hour(text: str) -> bool:
    return len(CronSim(text, _ANY).hours) == 24


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)


def _shifted(moment: datetime, by: timedelta, zone: ZoneInfo) -> datetime:
    return (moment.astimezone(UTC) + by).astimezone(zone)


def _aware(wall: datetime, zone: ZoneInfo) -> datetime:
    """What the wall shows as a moment: the later one of two, and an hour that is left out counted by the old clock."""
    later = wall.replace(tzinfo=zone, fold=1)
    if _wall(later.astimezone(UTC), zone) == wall:
        return later.astimezone(UTC).astimezone(zone)
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC).astimezone(zone)
