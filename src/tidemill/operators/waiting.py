"""Sensors for what one most often waits for: files, times, other pipelines, tables."""

from __future__ import annotations

import glob
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tidemill.authoring.arguments import as_length
from tidemill.authoring.signals import FailTask, Reschedule, SkipTask
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError
from tidemill.model.run import RunState, TaskState
from tidemill.operators.sensors import BaseSensor


class FileSensor(BaseSensor):
    """Waits for a file, or for a folder that is not empty.

    Args:
        filepath: a path, relative to the project, with `*` and `**`; a template.
        recursive: `**` goes into folders.
        options: those of `BaseSensor`.
    """

    template_fields: Sequence[str] = ("filepath",)

    def __init__(self, *, filepath: str, recursive: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.filepath = filepath
        self.recursive = recursive

    def poke(self, context: TaskContext) -> bool:
        """Whether it is there."""
        found = glob.iglob(str(context.services.root / self.filepath), recursive=self.recursive)
        return any(_is_there(path) for path in found)


def _is_there(path: str) -> bool:
    from pathlib import Path

    place = Path(path)
    return place.is_file() or (place.is_dir() and any(one.is_file() for one in place.rglob("*")))


class _MomentSensor(BaseSensor):
    """Waits until a moment. It needs no worker for that, whatever its mode: it is asked again at that moment."""

    def execute(self, context: TaskContext) -> Any:
        """Come back at the moment."""
        moment, now = self.moment(context), context.services.clock.now()
        if now >= moment:
            return
        self.log.info("waits until %s", moment.isoformat())
        raise Reschedule(moment)

    def moment(self, context: TaskContext) -> datetime:
        """Until when it waits, in UTC."""
        return context.services.clock.now()


class DateTimeSensor(_MomentSensor):
    """Waits until a moment.

    Args:
        target_time: ISO text (a template, such as `{{ data_interval_end + macros.timedelta(hours=2) }}`) or a datetime.
        options: those of every task.
    """

    template_fields: Sequence[str] = ("target_time",)

    def __init__(self, *, target_time: str | datetime, **options: Any) -> None:
        super().__init__(**options)
        self.target_time = target_time

    def moment(self, context: TaskContext) -> datetime:
        """See `_MomentSensor`."""
        found = self.target_time
        if isinstance(found, str):
            try:
                found = datetime.fromisoformat(found)
            except ValueError:
                raise DefinitionError(
                    f'"{found}" is no moment.', where=self.place, hint="2026-01-31T08:00+00:00"
                ) from None
        zone = ZoneInfo(self.dag.zone) if self.dag else UTC
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


class TimeSensor(_MomentSensor):
    """Waits until a time of the day on which it is executed, in the DAG's zone.

    Args:
        target_time: a `datetime.time`.
        options: those of every task.
    """

    def __init__(self, *, target_time: time, **options: Any) -> None:
        super().__init__(**options)
        self.target_time = target_time

    def moment(self, context: TaskContext) -> datetime:
        """See `_MomentSensor`. The day is that of its first look: after midnight it is not another wait of a day."""
        zone = self.target_time.tzinfo or ZoneInfo(self.dag.zone if self.dag else "UTC")
        ti = context["ti"]
        day = ti.xcom_pull(key="_day")
        if day is None:
            day = context.services.clock.now().astimezone(zone).date()
            ti.xcom_push("_day", day)
        return datetime.combine(day, self.target_time.replace(tzinfo=None), zone).astimezone(UTC)


class TimeDeltaSensor(_MomentSensor):
    """Waits until some time after the end of the data interval.

    Args:
        delta: how long after it.
        options: those of every task.
    """

    def __init__(self, *, delta: timedelta, **options: Any) -> None:
        super().__init__(**options)
        self.delta = as_length(delta)

    def moment(self, context: TaskContext) -> datetime:
        """See `_MomentSensor`."""
        end: datetime | None = context["data_interval_end"]
        if end is None:
            raise DefinitionError(
                f'"{self.task_id}" counts from the end of the data interval, and this run has none.',
                where=self.place,
                hint='give the DAG a schedule, e.g. schedule="@daily"',
            )
        return (end.astimezone(UTC) + self.delta).astimezone(UTC)


class ExternalTaskSensor(BaseSensor):
    """Waits for the run of another pipeline for the same interval, or for tasks of it.

    Args:
        external_dag_id: the other pipeline.
        external_task_id, external_task_ids, external_task_group_id: its tasks, or all tasks of a group; left out, its
            run as a whole, which is good once published.
        allowed_states: by default success.
        skipped_states: the sensor is skipped on these.
        failed_states: the sensor fails on these.
        execution_delta: how much earlier the other interval begins.
        execution_date_fn: makes of the start of this interval that of the other; or a list of them.
        options: those of `BaseSensor`.
    """

    template_fields: Sequence[str] = ("external_dag_id", "external_task_ids")

    def __init__(
        self,
        *,
        external_dag_id: str,
        external_task_id: str | None = None,
        external_task_ids: Collection[str] = (),
        external_task_group_id: str | None = None,
        allowed_states: Collection[str] = ("success",),
        skipped_states: Collection[str] = (),
        failed_states: Collection[str] = (),
        execution_delta: timedelta | None = None,
        execution_date_fn: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if execution_delta is not None and execution_date_fn is not None:
            raise DefinitionError("execution_delta and execution_date_fn exclude each other.", where=self.place)
        self.external_dag_id = external_dag_id
        self.external_task_ids = [*([external_task_id] if external_task_id else ()), *external_task_ids]
        self.external_task_group_id = external_task_group_id
        if external_task_group_id and self.external_task_ids:
            raise DefinitionError("external_task_id and external_task_group_id exclude each other.", where=self.place)
        known = {str(state) for state in (*RunState, *TaskState)}
        for state in (*allowed_states, *skipped_states, *failed_states):
            if state not in known:
                raise DefinitionError(
                    f'There is no state "{state}".', where=self.place, hint="success, failed, skipped"
                )
        self.allowed_states = frozenset(map(str, allowed_states))
        self.skipped_states = frozenset(map(str, skipped_states))
        self.failed_states = frozenset(map(str, failed_states))
        self.execution_delta = execution_delta
        self.execution_date_fn = execution_date_fn

    def poke(self, context: TaskContext) -> bool:
        """Look at the states of all that is waited for."""
        states = [state for moment in self._moments(context) for state in self._states(context, moment)]
        if any(state in self.failed_states for state in states):
            raise FailTask(f"{self.external_dag_id} has {', '.join(map(str, states))}")
        if self.skipped_states and any(state in self.skipped_states for state in states):
            raise SkipTask(f"{self.external_dag_id} has {', '.join(map(str, states))}")
        return all(state in self.allowed_states for state in states)

    def _states(self, context: TaskContext, moment: datetime) -> list[str | None]:
        pipelines = context.services.need_pipelines()
        if self.external_task_group_id:
            return [*pipelines.group_states_at(self.external_dag_id, self.external_task_group_id, moment)] or [None]
        if not self.external_task_ids:
            return [pipelines.state_at(self.external_dag_id, moment)]
        made: list[str | None] = []
        for task in self.external_task_ids:
            made += pipelines.task_states_at(self.external_dag_id, task, moment) or [None]
        return made

    def _moments(self, context: TaskContext) -> list[datetime]:
        start = context["logical_date"]
        if start is None:
            raise DefinitionError(
                f'"{self.task_id}" waits for the same interval of another pipeline, and this run has none.',
                where=self.place,
                hint='give the DAG a schedule, e.g. schedule="@daily"',
            )
        if self.execution_delta is not None:
            return [(start.astimezone(UTC) - self.execution_delta).astimezone(start.tzinfo)]
        if self.execution_date_fn is None:
            return [start]
        found = self.execution_date_fn(start)
        return list(found) if isinstance(found, list | tuple) else [found]


class TableSensor(BaseSensor):
    """Waits until a batch of a table was published: that of this run's interval, or any.

    Args:
        table: `pipeline.table`; a template.
        any_batch: any batch will do.
        options: those of `BaseSensor`.
    """

    template_fields: Sequence[str] = ("table",)

    def __init__(self, *, table: str, any_batch: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.table = table
        self.any_batch = any_batch

    def poke(self, context: TaskContext) -> bool:
        """Whether it was."""
        interval = None if self.any_batch else context["interval"]
        return context.services.need_pipelines().published(self.table, interval)
