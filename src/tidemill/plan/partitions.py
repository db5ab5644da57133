"""Keys of partitions: that of a run, and which pipelines a told key makes due."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tidemill.model.batch import Interval
from tidemill.model.definition import Schedule
from tidemill.model.partition import Same, rollup_in
from tidemill.plan.schedule import tick_after, tick_at_or_before

#: The parameter by which a run that is asked for by hand is given a key.
PARTITION_KEY = "partition_key"


@dataclass(frozen=True, slots=True)
class RunKey:
    """The partition that a run is for.

    Args:
        key: its name.
        date: when it begins, where it is one of time.
    """

    key: str
    date: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Both, as the run's conf has them."""
        return {"key": self.key, "date": None if self.date is None else self.date.isoformat()}


def key_of(schedule: Schedule, interval: Interval | None, conf: Mapping[str, Any]) -> RunKey | None:
    """The partition of a run: of its conf, else of the tick that it was due at; None: it is for none."""
    given = conf.get("partition")
    if schedule.mappers and isinstance(given, Mapping):
        date = given.get("date")
        return RunKey(str(given["key"]), None if date is None else datetime.fromisoformat(date))
    if isinstance(conf.get(PARTITION_KEY), str):
        return RunKey(conf[PARTITION_KEY])
    if not schedule.key or interval is None or schedule.timetable is None:
        return None
    at = interval.end
    for _ in range(abs(schedule.key_offset)):
        if schedule.key_offset > 0:
            at = tick_after(schedule.timetable, at, None)
        else:
            at = tick_at_or_before(schedule.timetable, at - datetime.resolution, None)
    at = at.astimezone(ZoneInfo(schedule.timetable.zone))
    return RunKey(at.strftime(schedule.key), at)


def arrived(asset: str, key: str, schedule: Schedule) -> dict[str, str]:
    """What a told key of an asset is for a pipeline that waits: names of what has arrived, each with the key it is for.

    Raises:
        ValueError: it does not fit the pipeline's mapper.
    """
    return {_name(own, asset, key): own for own in schedule.mappers[asset].keys(key)}


def is_whole(schedule: Schedule, key: str, names: Iterable[str]) -> bool:
    """Whether all that a pipeline waits for has arrived for one of its keys."""
    there: dict[str, set[str]] = {}
    for name in names:
        if (found := _read(name)) is not None:
            there.setdefault(found[1], set()).add(found[2])
    held = set()
    for asset, keys in there.items():
        rollup = rollup_in(schedule.mappers[asset]) if asset in schedule.mappers else None
        if rollup is None or rollup.whole(key, frozenset(keys)):
            held.add(asset)
    return schedule.on is not None and schedule.on.holds(held)


def names_for(key: str, names: Iterable[str]) -> list[str]:
    """Of what has arrived, what is for one key."""
    return [name for name in names if (found := _read(name)) is not None and found[0] == key]


def asset_in(name: str) -> str:
    """The asset of something that has arrived."""
    found = _read(name)
    return "" if found is None else found[1]


def run_key(schedule: Schedule, key: str, asset: str, told: datetime | None) -> RunKey:
    """The partition of a run that is begun for a key: an asset's own date is kept where the key is."""
    mapper = schedule.mappers[asset]
    return RunKey(key, told if type(mapper) is Same else mapper.moment(key))


def _read(name: str) -> list[str] | None:
    """The parts of a name; None: it was noted before the pipeline waited for partitions."""
    try:
        found = json.loads(name)
    except ValueError:
        return None
    return found if isinstance(found, list) and len(found) == 3 else None


def _name(own: str, asset: str, key: str) -> str:
    return json.dumps([own, asset, key], ensure_ascii=False)
