"""Timetables: when data intervals begin and end. Cron expressions, presets, fixed steps; zones by IANA name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from tidemill.model.errors import DefinitionError

#: Airflow's presets and what they stand for.
PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}

_STEP = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Timetable:
    """A cron expression in a zone, several of them, or a fixed step counted from the pipeline's start.

    Exactly one of `cron`, `crons` and `step` is set. `text` is what the user wrote.
    """

    text: str
    cron: str | None = None
    step: timedelta | None = None
    zone: str = "UTC"
    #: Several expressions: there is a tick wherever one of them has one.
    crons: tuple[str, ...] = ()


def parse_duration(text: str | timedelta) -> timedelta:
    """Read `90s`, `15m`, `1h`, `1d`, `2w`.

    Raises:
        DefinitionError: the text is no positive duration.
    """
    if isinstance(text, timedelta):
        made = text
    else:
        found = _STEP.fullmatch(text.strip())
        if not found:
            raise DefinitionError(f'"{text}" is no duration.', hint='"90s", "15m", "1h", "1d" or "2w"')
        made = timedelta(**{_UNITS[found[2]]: float(found[1])})
    if made <= timedelta(0):
        raise DefinitionError(f'"{text}" is no positive duration.', hint='"15m"')
    return made
