"""Building the context of a task: Airflow's names for what a try, its run and its interval are."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, cached_property, partial
from typing import Any
from urllib.parse import quote, urlencode

from tidemill.authoring.dag import DAG
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext, TaskServices
from tidemill.flow.handing import Handing
from tidemill.flow.standing import InstanceView, of_states
from tidemill.model.batch import Interval
from tidemill.model.errors import UnknownName
from tidemill.model.graph import WHOLE
from tidemill.model.run import RunInfo, RunKind, TaskRun, TaskState
from tidemill.plan.dates import Macros, interval_variables
from tidemill.plan.params import params_of
from tidemill.plan.partitions import RunKey, key_of
from tidemill.plan.schedule import interval_at, tick_at_or_before
from tidemill.ports.executor import Job
from tidemill.ports.xcoms import RETURNED


@dataclass(frozen=True)
class RunView:
    """The run, by Airflow's names for it: `dag_run`."""

    info: RunInfo
    run_id: str
    params: Mapping[str, Any]
    partition: RunKey | None = None
    #: Stands for the start of an interval where it has none.
    moment: datetime | None = None
    #: How it has ended, and when, once it has: for callbacks.
    state: str = "running"
    end_date: datetime | None = None
    standing: Callable[[int], Sequence[TaskRun]] = field(default=lambda _run_id: (), repr=False, compare=False)

    def get_state(self) -> str:
        """See `state`."""
        return self.state

    def get_task_instances(
        self, state: str | Collection[str | None] | None = None, **_session: Any
    ) -> list[InstanceView]:
        """Its task instances as they stand: all, or those in some states."""
        found = [InstanceView(one, self.dag_id, self.run_id) for one in self.standing(self.id)]
        return of_states(found, state)

    def get_task_instance(self, task_id: str, map_index: int = WHOLE, **_session: Any) -> InstanceView | None:
        """One of them; None: there is no record of it."""
        of_task = (one for one in self.get_task_instances() if one.task_id == task_id)
        return next((one for one in of_task if one.map_index == map_index), None)

    @property
    def partition_key(self) -> str | None:
        """The partition of assets that it is for."""
        return self.partition.key if self.partition else None

    @property
    def partition_date(self) -> datetime | None:
        """When that begins, where it is one of time."""
        return self.partition.date if self.partition else None

    @property
    def id(self) -> int:
        """Tidemill's own number of the run."""
        return self.info.id

    @property
    def dag_id(self) -> str:
        """The pipeline."""
        return self.info.pipeline

    @property
    def conf(self) -> Mapping[str, Any]:
        """What the run was given."""
        return self.info.conf

    @property
    def start_date(self) -> datetime | None:
        """When it began."""
        return self.info.began

    @property
    def run_type(self) -> str:
        """manual, scheduled, backfill, triggered or refetch."""
        return str(self.info.kind)

    @property
    def external_trigger(self) -> bool:
        """Whether somebody else than the schedule began it."""
        return self.info.kind not in (RunKind.SCHEDULED, RunKind.BACKFILL)

    @property
    def logical_date(self) -> datetime | None:
        """The start of its interval."""
        return self.info.interval.start if self.info.interval else self.moment

    execution_date = logical_date

    @property
    def data_interval_start(self) -> datetime | None:
        """See `logical_date`."""
        return self.logical_date

    @property
    def data_interval_end(self) -> datetime | None:
        """The end of its interval."""
        return self.info.interval.end if self.info.interval else self.moment


@dataclass
class TryView:
    """The try, by Airflow's names for it: `ti`. Values that it pushes are recorded with its end."""

    task: BaseOperator
    run: RunView
    map_index: int
    try_number: int
    handing: Handing
    start_date: datetime
    pages: str = ""
    #: How the try has ended, and when, once it has: for callbacks.
    state: TaskState = TaskState.RUNNING
    end_date: datetime | None = None
    pushed: dict[str, Any] = field(default_factory=dict)

    @property
    def task_id(self) -> str:
        """The task."""
        return self.task.task_id

    @property
    def dag_id(self) -> str:
        """The pipeline."""
        return self.run.dag_id

    @property
    def run_id(self) -> str:
        """The run, as Airflow would name it."""
        return self.run.run_id

    @property
    def dag_run(self) -> RunView:
        """The run."""
        return self.run

    @property
    def logical_date(self) -> datetime | None:
        """The start of the run's interval."""
        return self.run.logical_date

    execution_date = logical_date

    @property
    def duration(self) -> float | None:
        """Seconds that the try took; None: it has not ended."""
        return None if self.end_date is None else (self.end_date - self.start_date).total_seconds()

    @property
    def log_url(self) -> str:
        """The page that shows the task's log."""
        about = {"run": self.run.id, "task": self.task_id}
        return f"{self.pages}/pipelines/{quote(self.dag_id)}?{urlencode(about)}"

    def get_dagrun(self, **_session: Any) -> RunView:
        """The run."""
        return self.run

    @property
    def max_tries(self) -> int:
        """Further tries after the first."""
        return self.task.retries

    @property
    def operator(self) -> str:
        """The kind of task."""
        return type(self.task).__name__

    @property
    def hostname(self) -> str:
        """Where it runs."""
        return socket.gethostname()

    @property
    def pid(self) -> int:
        """The process that it runs in."""
        return os.getpid()

    @property
    def log(self) -> logging.Logger:
        """Where the task writes to."""
        return self.task.log

    @cached_property
    def key(self) -> str:
        """It, in one word."""
        index = "" if self.map_index == WHOLE else f"__{self.map_index}"
        return f"{self.dag_id}__{self.task_id}__{self.run_id}{index}"

    def xcom_push(self, key: str, value: Any) -> None:
        """Hand a value to other tasks, under a key."""
        self.handing.check(value, f'What "{self.task_id}" pushes as "{key}"')
        self.pushed[key] = value

    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        key: str = RETURNED,
        *,
        map_indexes: int | Iterable[int] | None = None,
        default: Any = None,
        **_airflow: Any,
    ) -> Any:
        """What a task handed over; `default` where there is nothing.

        Args:
            task_ids: one task, or several for a list of values; left out, this task itself.
            key: of the value; by default what the task returned.
            map_indexes: of a mapped task: one instance, or several; left out, a list of all of them, or within one
                mapped group that of the same index.
            default: stands for what is not there.
        """
        if task_ids is None:
            task_ids = self.task_id
        if isinstance(task_ids, str):
            return self.handing.pulled(self, task_ids, key, map_indexes, default)
        return [self.handing.pulled(self, one, key, map_indexes, default) for one in task_ids]


def context_of(dag: DAG, task: BaseOperator, job: Job, services: TaskServices, handing: Handing) -> TaskContext:
    """The context of a try.

    Raises:
        UserError: a parameter of the run does not fit.
    """
    info = job.run or RunInfo(job.run_id, job.run_id, 1, dag.name, "", "", run_key=str(job.run_id))
    params = params_of({**dag.params, **_schemas(task)}, info.conf, where=dag.place)
    name = _run_name(info)
    partition = key_of(dag.schedule, info.interval, info.conf)
    run = RunView(info, name, params, partition, standing=services.standing)
    ti = TryView(task, run, job.key[1], job.failed + 1, handing, services.clock.now(), services.pages)
    values: dict[str, Any] = {
        **dag.macros,
        "batch_id": info.batch_id,
        "conf": info.conf,
        "dag": dag,
        "dag_run": run,
        "exception": None,
        "inlets": list(task.inlets),
        "map_index": job.key[1],
        "outlets": list(task.outlets),
        "params": params,
        "partition_key": run.partition_key,
        "pipeline": dag.name,
        "run_id": name,
        "task": task,
        "task_instance": ti,
        "task_instance_key_str": ti.key,
        "test_mode": services.testing,
        "ti": ti,
        "try_number": job.failed + 1,
        "var": VariablesView(services),
        "conn": ConnectionsView(services),
    }
    if info.interval is None:
        values["run_key"] = info.run_key
        values |= dict.fromkeys(("interval", "logical_date", "data_interval_start", "data_interval_end"))
    return TaskContext(values, _later(dag, info.interval, services), services)


def _schemas(task: BaseOperator) -> dict[str, dict[str, Any]]:
    from tidemill.authoring.params import schemas_of

    return schemas_of(task.params)


def _run_name(info: RunInfo) -> str:
    if info.run_key is not None or info.interval is None:
        return info.run_key or f"{info.kind}__{info.id}"
    return f"{info.kind}__{info.interval.start.isoformat()}"


def _later(dag: DAG, interval: Interval | None, services: TaskServices) -> dict[str, Any]:
    """Values that are found only when they are asked for."""
    made: dict[str, Any] = {"macros": _macros}
    if interval is None:
        return made
    names = ("interval", "data_interval_start", "data_interval_end", "logical_date", "ds", "ds_nodash", "ts",
             "ts_nodash", "ts_nodash_with_tz")  # fmt: skip
    found = cache(partial(interval_variables, interval))
    made |= {name: _one_of(found, name) for name in names}
    made["execution_date"] = made["logical_date"]
    for name, days in (("yesterday", -1), ("tomorrow", 1)):
        made |= _dates(name, lambda days=days: interval.start + timedelta(days=days))
    made["prev_interval"] = lambda: neighbour(dag, interval, -1)
    made["next_interval"] = lambda: neighbour(dag, interval, 1)
    for name, step in (("prev", -1), ("next", 1)):
        made |= _dates(name, lambda step=step: _start(neighbour(dag, interval, step)))
        made[f"{name}_execution_date"] = lambda step=step: _start(neighbour(dag, interval, step))
    return made | _last_good(dag, interval, services)


def _last_good(dag: DAG, interval: Interval, services: TaskServices) -> dict[str, Any]:
    """The newest interval before this one whose run was good; None where there is none, or nothing is known of it."""

    @cache
    def found() -> Interval | None:
        others = services.pipelines
        return None if others is None else others.published_before(dag.name, interval)

    return {
        "prev_data_interval_start_success": lambda: _start(found()),
        "prev_data_interval_end_success": lambda: None if (good := found()) is None else good.end,
    }


def _one_of(several: Callable[[], Mapping[str, Any]], name: str) -> Callable[[], Any]:
    return lambda: several()[name]


def _dates(name: str, moment: Any) -> dict[str, Any]:
    def written(form: str) -> Any:
        def text() -> str | None:
            found = moment()
            return None if found is None else found.strftime(form)

        return text

    return {f"{name}_ds": written("%Y-%m-%d"), f"{name}_ds_nodash": written("%Y%m%d")}


def _start(interval: Interval | None) -> datetime | None:
    return interval.start if interval else None


def _macros() -> Any:
    return Macros()


def neighbour(dag: DAG, interval: Interval, step: int) -> Interval | None:
    """The interval before (-1) or after (1) another in a DAG's schedule; None where it has none there."""
    timetable = dag.schedule.timetable
    if timetable is not None:
        if step > 0:
            return interval_at(timetable, interval.end, dag.start)
        start = tick_at_or_before(timetable, interval.start - timedelta(microseconds=1), dag.start)
        return Interval(start, interval.start)
    known = list(dag.schedule.intervals)
    at = known.index(interval) + step if interval in known else -1
    return known[at] if 0 <= at < len(known) else None


class VariablesView:
    """`var.value.name`, `var.json.name.key` and `var.value.get("name", "other")` in templates."""

    def __init__(self, services: TaskServices) -> None:
        self.value = _Variables(services, as_json=False)
        self.json = _Variables(services, as_json=True)


class _Variables:
    def __init__(self, services: TaskServices, *, as_json: bool) -> None:
        self._services = services
        self._as_json = as_json

    def get(self, name: str, default: Any = None) -> Any:
        """A variable, or `default`."""
        found = self._services.variables.get(name) if self._services.variables is not None else None
        if found is None:
            return default
        return json.loads(found) if self._as_json else found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = self.get(name)
        if found is None:
            raise UnknownName.of("variable", name, ())
        return found

    __getitem__ = __getattr__


class ConnectionsView:
    """`conn.name.host` in templates; `conn.get("name", default)`."""

    def __init__(self, services: TaskServices) -> None:
        self._services = services

    def get(self, name: str, default: Any = None) -> Any:
        """A connection, or `default`."""
        found = self._services.connections.get(name) if self._services.connections is not None else None
        return default if found is None else found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = self.get(name)
        if found is None:
            raise UnknownName.of("connection", name, ())
        return found
