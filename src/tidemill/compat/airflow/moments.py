"""`airflow.utils.timezone`, times with pendulum's methods, and `macros` of templates."""

from __future__ import annotations

import datetime as _times
import json
import random
import uuid
from types import SimpleNamespace
from typing import Any, TypeVar

from tidemill.authoring import registry
from tidemill.plan.dates import Macros

#: A time, or None.
_Moment = TypeVar("_Moment", bound=_times.datetime | None)
utc = _times.UTC
#: `airflow.macros`: what templates have, for functions.
ds_add, ds_format, timedelta = Macros.ds_add, Macros.ds_format, _times.timedelta


def in_pendulum(moment: _Moment) -> _Moment:
    """A time with pendulum's methods, as Airflow hands it over; as it is where there is no pendulum, or no time."""
    if moment is None:
        return moment
    try:
        from pendulum import instance
    except ImportError:
        return moment
    made: Any = instance(moment)
    return made  # type: ignore[no-any-return]  # of a class that is a datetime


def utcnow() -> _times.datetime:
    """The time."""
    return in_pendulum(registry.now())


def datetime(*parts: Any, **named: Any) -> _times.datetime:
    """A time, of UTC unless it says otherwise."""
    return in_pendulum(_times.datetime(*parts, **{"tzinfo": utc, **named}))


def parse(text: str, **_options: Any) -> _times.datetime:
    """A time from its ISO text; of UTC unless it says otherwise."""
    made = _times.datetime.fromisoformat(text)
    return in_pendulum(made if made.tzinfo else made.replace(tzinfo=utc))


def make_aware(value: _times.datetime, timezone: Any = utc) -> _times.datetime:
    """A naive time, as one of a zone."""
    return value.replace(tzinfo=timezone)


def is_localized(value: _times.datetime) -> bool:
    """Whether it says of which zone it is."""
    return value.tzinfo is not None


def days_ago(n: int, hour: int = 0, minute: int = 0, second: int = 0, microsecond: int = 0) -> _times.datetime:
    """So many days ago, UTC, at the beginning of the day or at a time of it."""
    day = registry.now().astimezone(utc) - _times.timedelta(days=n)
    return in_pendulum(day.replace(hour=hour, minute=minute, second=second, microsecond=microsecond))


def _diff_for_humans(moment: Any, since: Any = None) -> str:
    """How long ago something was, in words; of another time, or now."""
    found: Any = in_pendulum(moment)
    return str(found.diff_for_humans(in_pendulum(since or registry.now())))


class MacrosOfAirflow(Macros):
    """`macros` of templates with Airflow's other ones; of modules what templates call, and no more."""

    datetime = _times.datetime  # ours is a function; files call `strptime` of it
    datetime_diff_for_humans = staticmethod(_diff_for_humans)
    json = SimpleNamespace(dumps=json.dumps, loads=json.loads)
    random = staticmethod(random.random)
    time = SimpleNamespace(time=lambda: registry.now().timestamp())
    uuid = SimpleNamespace(uuid1=uuid.uuid1, uuid3=uuid.uuid3, uuid4=uuid.uuid4, uuid5=uuid.uuid5)
