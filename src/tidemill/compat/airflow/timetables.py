"""Airflow's timetables: those with a meaning here become schedules of ours, a user's own one is asked through these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tidemill.authoring.place import here
from tidemill.authoring.schedules import CONTINUOUS, ONCE, read_schedule
from tidemill.compat.airflow.assets import Asset, AssetAlias, AssetAll, MultiAsset, asset_named, condition_of
from tidemill.compat.airflow.moments import in_pendulum
from tidemill.model.batch import Interval
from tidemill.model.condition import AllOf, AnyOf
from tidemill.model.definition import Schedule
from tidemill.model.errors import DefinitionError
from tidemill.model.partition import Mapper, Same

#: The shortest interval: runs whose interval has no length there are as short as that here.
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True)
class DataInterval:
    """The stretch of time that a run is about."""

    start: Any
    end: Any

    @classmethod
    def exact(cls, at: Any) -> DataInterval:
        """A moment."""
        return cls(at, at)


@dataclass(frozen=True)
class TimeRestriction:
    """Between what a timetable may give runs."""

    earliest: Any
    latest: Any
    catchup: bool


@dataclass(frozen=True)
class DagRunInfo:
    """A run that a timetable gives."""

    run_after: Any
    data_interval: Any = None

    @classmethod
    def interval(cls, start: Any, end: Any) -> DagRunInfo:
        """The run of an interval, once that is over."""
        return cls(run_after=end, data_interval=DataInterval(start, end))

    @classmethod
    def exact(cls, at: Any) -> DagRunInfo:
        """A run at a moment."""
        return cls(run_after=at, data_interval=DataInterval(at, at))

    @property
    def logical_date(self) -> Any:
        """The start of its interval."""
        return self.data_interval.start


class Timetable:
    """Base of a user's own timetables."""

    description: str = ""

    def infer_manual_data_interval(self, *, run_after: Any) -> Any:
        """The interval of a run that somebody asks for."""
        return DataInterval.exact(run_after)

    @property
    def summary(self) -> str:
        """What lists of DAGs say of it."""
        return type(self).__name__

    def next_dagrun_info(self, *, last_automated_data_interval: Any, restriction: TimeRestriction) -> Any:
        """The run after another one; None ends the schedule."""
        return None


@dataclass(frozen=True)
class Asked:
    """A user's own timetable, as our schedules ask one."""

    of: Timetable
    start: datetime | None
    end: datetime | None
    catchup: bool

    def next_interval(self, after: Interval | None) -> Interval | None:
        """See `authoring.schedules.CustomTimetable`."""
        last = None if after is None else DataInterval(in_pendulum(after.start), in_pendulum(after.end))
        earliest, latest = (None if moment is None else in_pendulum(moment) for moment in (self.start, self.end))
        found = self.of.next_dagrun_info(
            last_automated_data_interval=last, restriction=TimeRestriction(earliest, latest, self.catchup)
        )
        if found is None:
            return None
        begin, end = found.data_interval.start, found.data_interval.end
        return Interval(begin, end if end > begin else begin + _INSTANT)


class _Given(Timetable):
    """A timetable of Airflow's that has a schedule of ours.

    Args:
        schedule: that schedule.
        timezone: the zone in which it ticks.
    """

    def __init__(self, schedule: Any, timezone: Any = None) -> None:
        self.schedule = schedule
        self.zone = None if timezone is None else str(getattr(timezone, "key", None) or timezone)


class CronTimetable(_Given):
    """`CronTriggerTimetable`, `CronDataIntervalTimetable`: by a cron expression; intervals reach from tick to tick."""

    def __init__(self, cron: str, timezone: Any = None, **_options: Any) -> None:
        super().__init__(cron, timezone)


class CronsTimetable(_Given):
    """`MultipleCronTriggerTimetable`: by several cron expressions."""

    def __init__(self, *crons: str, timezone: Any = None, **_options: Any) -> None:
        super().__init__(list(crons), timezone)


class DeltaTimetable(_Given):
    """`DeltaTriggerTimetable`, `DeltaDataIntervalTimetable`: by a step."""

    def __init__(self, delta: timedelta, **_options: Any) -> None:
        super().__init__(delta)


class OnceTimetable(_Given):
    """One run."""

    def __init__(self) -> None:
        super().__init__(ONCE)


class ContinuousTimetable(_Given):
    """A run whenever the one before has ended."""

    def __init__(self) -> None:
        super().__init__(CONTINUOUS)


class NullTimetable(_Given):
    """No run by itself."""

    def __init__(self) -> None:
        super().__init__(None)


class EventsTimetable(Timetable):
    """Runs at given moments."""

    def __init__(self, event_dates: Iterable[datetime], description: str | None = None, **_options: Any) -> None:
        self.event_dates = sorted(event_dates)
        self.description = description or ""

    def next_dagrun_info(self, *, last_automated_data_interval: Any, restriction: TimeRestriction) -> Any:
        """See `Timetable`."""
        last = last_automated_data_interval
        found = (one for one in self.event_dates if last is None or one > last.start)
        return next((DagRunInfo.exact(one) for one in found), None)


@dataclass(frozen=True)
class AssetOrTimeSchedule:
    """By time, and when assets are published, too."""

    timetable: Any
    assets: Any

    @property
    def zone(self) -> str | None:
        """The zone in which it ticks."""
        return getattr(self.timetable, "zone", None)


@dataclass(frozen=True)
class PartitionedAssetTimetable:
    """A run for each key for which all assets have been told.

    Args:
        assets: an asset, or several joined by `&` and `|`.
        partition_mapper_config: by asset, to which key a key of it belongs.
        default_partition_mapper: the same for all others.
    """

    assets: Any
    partition_mapper_config: Mapping[Any, Any] = field(default_factory=dict)
    default_partition_mapper: Any = field(default_factory=Same)


class CronPartitionTimetable(CronTimetable):
    """By a cron expression; the key of a run is the tick that it is due at.

    Args:
        cron, timezone: when.
        run_offset: the key is that of so many ticks later.
        key_format: its form.
    """

    def __init__(
        self,
        cron: str,
        *,
        timezone: Any = "UTC",
        run_offset: int | None = None,
        key_format: str = "%Y-%m-%dT%H:%M:%S",
        **_options: Any,
    ) -> None:
        super().__init__(cron, timezone)
        self.key_offset = run_offset or 0
        self.key = key_format


class PartitionedAtRuntime(Timetable):
    """No run by itself; a run is given its key, or its tasks say keys by `add_partitions`."""


def zone_of(given: Any) -> str | None:
    """The zone that a schedule names, if it does."""
    return getattr(given, "zone", None) if isinstance(given, _Given | AssetOrTimeSchedule) else None


def schedule_of(given: Any, zone: str, start: datetime | None, end: datetime | None, *, catchup: bool) -> Schedule:
    """What Airflow takes as `schedule=`, as ours.

    Raises:
        DefinitionError: it is no schedule.
    """
    if isinstance(given, CronPartitionTimetable):
        timely = read_schedule(given.schedule, zone, start, catchup=catchup)
        return replace(timely, key=given.key, key_offset=given.key_offset)
    if isinstance(given, PartitionedAssetTimetable):
        waits = schedule_of(given.assets, zone, start, end, catchup=catchup)
        return replace(waits, mappers=_mappers(given, waits), text=f"partitions of {waits.text}")
    if isinstance(given, PartitionedAtRuntime):
        return Schedule(text="partitions")
    if isinstance(given, _Given):
        return read_schedule(given.schedule, zone, start, catchup=catchup)
    if isinstance(given, AssetOrTimeSchedule):
        timely = schedule_of(given.timetable, zone, start, end, catchup=catchup)
        on = schedule_of(given.assets, zone, start, end, catchup=catchup)
        return replace(timely, on=on.on, text=f"{timely.text} and {on.text}")
    if isinstance(given, Timetable):
        made = read_schedule(Asked(given, start, end, catchup), zone, start, catchup=catchup)
        return replace(made, text=given.summary)
    if isinstance(given, Asset | AssetAlias | MultiAsset | AllOf | AnyOf):
        given = condition_of(given)
    elif isinstance(given, list | tuple | set) and any(isinstance(one, Asset | AssetAlias) for one in given):
        given = AssetAll(*given) if len(given) > 1 else condition_of(next(iter(given)))
    return read_schedule(given, zone, start, catchup=catchup)


def _mappers(given: PartitionedAssetTimetable, waits: Schedule) -> dict[str, Mapper]:
    """To which keys the keys of each asset belong. Raises DefinitionError."""
    own = {asset_named(asset): mapper for asset, mapper in given.partition_mapper_config.items()}
    assets = waits.on.assets() if waits.on is not None else ()
    for name, mapper in (*own.items(), ("all others", given.default_partition_mapper)):
        if not isinstance(mapper, Same):
            raise DefinitionError(
                f"{type(mapper).__name__} for {name} is a mapper of a user's own: the planner runs no such code.",
                where=here(),
                hint="ChainMapper and ProductMapper put mappers together",
            )
    return {asset: own.get(asset, given.default_partition_mapper) for asset in assets}
