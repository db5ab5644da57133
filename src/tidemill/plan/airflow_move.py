"""Moving over from Airflow: what its database and its settings were found to hold, and what of it is taken.

facts (`PastDag`, `PastRun`, values) -> the interval at which a schedule here goes on, the settings that mean something
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tidemill.model.batch import Interval
from tidemill.model.definition import Definition
from tidemill.model.errors import SettingsError
from tidemill.plan.schedule import interval_at, latest_complete

#: Revisions of Airflow's database whose tables are known, each with the version that made it.
REVISIONS: Mapping[str, str] = {
    "4bc4d934e2bc": "2.6.2", "405de8318b3a": "2.7.0", "10b52ebd31f7": "2.8.0", "88344c1d9134": "2.8.1",
    "1949afb29106": "2.9.0", "686269002441": "2.9.2", "22ed7efa9da2": "2.10.0", "5f2621c13b39": "2.10.3",
    "29ce7909c52b": "3.0.0", "fe199e1abd77": "3.0.3", "cc92b33c6709": "3.1.0", "509b94a1042d": "3.1.8",
    "1d6611b6ab7c": "3.2.0", "d2f4e1b3c5a7": "3.3.0",
}  # fmt: skip
#: States of runs that have ended, under Airflow.
ENDED = ("success", "failed")
#: Runs that a schedule, or somebody for its past, has begun; others are begun by hand.
TIMELY = ("scheduled", "backfill")


@dataclass(frozen=True, slots=True)
class Kept:
    """A connection or a variable: its text, or why it is not taken."""

    name: str
    text: str | None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class PastTask:
    """A task of a run; `map_index` is -1 for one that is not mapped."""

    task_id: str
    map_index: int
    state: str | None
    began: datetime | None
    ended: datetime | None
    tries: int


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run. Times are UTC; the interval is that of its data."""

    run_id: str
    kind: str
    state: str
    began: datetime | None
    ended: datetime | None
    start: datetime | None
    end: datetime | None
    tasks: tuple[PastTask, ...] = ()


@dataclass(frozen=True, slots=True)
class PastDag:
    """A DAG as the database knows it.

    Args:
        name: it.
        paused: its schedule begins nothing.
        runs: how many there are on record.
        until: the end of the data of the newest run of its schedule that has ended; None: there is none.
        open: runs that have not ended.
        recent: the newest runs, oldest first.
    """

    name: str
    paused: bool = False
    runs: int = 0
    until: datetime | None = None
    open: int = 0
    recent: tuple[PastRun, ...] = ()


@dataclass(frozen=True, slots=True)
class Past:
    """What a database was found to hold.

    Args:
        revision: of its tables.
        connections, variables, pools, dags: what is in them.
    """

    revision: str
    connections: tuple[Kept, ...] = ()
    variables: tuple[Kept, ...] = ()
    pools: Mapping[str, int] = field(default_factory=dict)
    dags: Mapping[str, PastDag] = field(default_factory=dict)

    @property
    def version(self) -> str | None:
        """The version of Airflow that made its tables; None: it is not known."""
        return REVISIONS.get(self.revision)


def newest_of(definition: Definition, until: datetime) -> Interval | None:
    """The last interval of a schedule here that is over at a time: the next run is that of the one after it.

    None: the schedule does not go by time, or has no interval before.
    """
    if definition.schedule.timetable is not None:
        return latest_complete(definition.schedule.timetable, until, start=definition.start, end=definition.end)
    over = [one for one in definition.schedule.intervals if one.end <= until]
    return over[-1] if over else None


def interval_of(definition: Definition, run: PastRun) -> Interval | None:
    """The interval here of a run that a schedule began; None: the schedule has no such interval (any more).

    Under Airflow, a run of a cron trigger has an interval without length; here it is the one that ends there.
    """
    timetable, zone = definition.schedule.timetable, ZoneInfo(definition.zone)
    if timetable is None or run.start is None or run.end is None or run.kind not in TIMELY:
        return None
    if run.start == run.end:
        meant = latest_complete(timetable, run.end)
        return meant if meant is not None and meant.end == run.end else None
    meant = Interval(run.start.astimezone(zone), run.end.astimezone(zone))
    return meant if interval_at(timetable, meant.start + timedelta(0), definition.start) == meant else None


# Settings -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FoundSettings:
    """What an `airflow.cfg` says.

    Args:
        dags: the folder of DAGs, as it is written; None: it is not.
        taken: what becomes `[airflow]` here, and `workers` of `[scheduler]`.
        told: settings that mean nothing here, by section.
        fernet_key: by which its database is encrypted; empty: none.
    """

    dags: str | None
    taken: Mapping[str, Any]
    told: Mapping[str, Sequence[str]]
    fernet_key: str = ""


_NUMBERS = {"max_active_runs_per_dag": "max_active_runs", "max_active_tasks_per_dag": "max_active_tasks",
            "parallelism": "workers"}  # fmt: skip
#: Said by the command in words of its own.
_OWN = ("dags_folder", "fernet_key", "load_examples")


def read_settings(sections: Mapping[str, Mapping[str, str]], where: str) -> FoundSettings:
    """Which settings of an `airflow.cfg` mean something here.

    Raises:
        SettingsError: a number is none.
    """
    core = {**sections.get("core", {})}
    scheduler = {**sections.get("scheduler", {})}
    taken: dict[str, Any] = {}
    for theirs, ours in _NUMBERS.items():
        text = core.pop(theirs, "")
        if text:
            if not text.isdecimal():
                raise SettingsError(f"core.{theirs} = {text!r} is no number.", where=where)
            # 0 is "as many as there is room for".
            taken |= {ours: int(text)} if int(text) else {}
    if zone := core.pop("default_timezone", ""):
        taken["timezone"] = "UTC" if zone.lower() in ("utc", "system") else zone
    if syntax := core.pop("dag_ignore_file_syntax", ""):
        taken["ignore"] = syntax
    if catchup := scheduler.pop("catchup_by_default", ""):
        taken["catchup"] = catchup.strip().lower() in ("t", "true", "1")
    if core.get("plugins_folder", "").rstrip("/").rpartition("/")[2] == "plugins":
        del core["plugins_folder"]  # the folder of that name beside the DAGs is it here, too
    rest = {**sections, "core": {k: v for k, v in core.items() if k not in _OWN}, "scheduler": scheduler}
    told = {name: tuple(sorted(keys)) for name, keys in sorted(rest.items()) if keys}
    return FoundSettings(core.get("dags_folder"), taken, told, core.get("fernet_key", ""))
