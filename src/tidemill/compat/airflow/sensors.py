"""Airflow's sensors of the standard provider: ours, with the arguments that only Airflow's have."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tidemill.authoring.signals import FailTask, Reschedule, SensorTimeout, SkipTask
from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.hooks import FSHook
from tidemill.compat.airflow.task import BaseOperator
from tidemill.compat.airflow.values import WeekDay
from tidemill.operators import python, sensors, waiting
from tidemill.operators.process import Program, told_environment


class BaseSensorOperator(BaseOperator, sensors.BaseSensor):
    """Looks by `poke` until that returns something true.

    Args:
        deferrable: it gives its worker back between looks, as `mode="reschedule"` says it.
        never_fail: what is neither true nor false when the time is over skips.
        options: those of `BaseSensor`.
    """

    def __init__(self, *, deferrable: bool | None = None, never_fail: bool = False, **options: Any) -> None:
        if deferrable:
            options["mode"] = "reschedule"
        super().__init__(soft_fail=bool(options.pop("soft_fail", False) or never_fail), **options)


class PythonSensor(BaseSensorOperator, sensors.PythonSensor):
    """Asks a function."""

    def __init__(self, *, templates_dict: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        if templates_dict:
            self.op_kwargs = {**self.op_kwargs, "templates_dict": dict(templates_dict)}


class DecoratedSensor(python.Decorated, PythonSensor):
    """`@task.sensor`."""


class BashSensor(BaseSensorOperator):
    """Runs a command until it ends well.

    Args:
        bash_command, env: as those of `BashOperator`.
        retry_exit_code: any other code than 0 and this one fails the task; None: none does.
        output_encoding: accepted, and not heeded.
        options: those of every sensor.
    """

    template_fields = ("bash_command", "env")
    template_ext = (".sh", ".bash")

    def __init__(
        self,
        *,
        bash_command: str,
        env: Mapping[str, str] | None = None,
        retry_exit_code: int | None = None,
        output_encoding: str = "utf-8",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.bash_command = bash_command
        self.env = env
        self.retry_exit_code = retry_exit_code

    def poke(self, context: TaskContext) -> bool:
        """Run it."""
        program = Program()
        environment = told_environment(dict(os.environ), context["ti"])
        code = program.run(
            ["bash", "-c", self.bash_command],
            context.services.root,
            {**environment, **(self.env or {})},
            lambda line: self.log.info("%s", line),
        )
        if code and self.retry_exit_code is not None and code != self.retry_exit_code:
            raise FailTask(f"the command ended with {code}")
        return code == 0


class FileSensor(BaseSensorOperator, waiting.FileSensor):
    """Waits for a file.

    Args:
        fs_conn_id: a connection whose `path` relative paths begin at; without one, at the project.
        start_from_trigger, trigger_kwargs: accepted, and not heeded.
        options: those of `FileSensor`.
    """

    def __init__(
        self,
        *,
        filepath: str | Path,
        fs_conn_id: str | None = None,
        start_from_trigger: bool = False,
        trigger_kwargs: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(filepath=str(filepath), **options)
        self.fs_conn_id = fs_conn_id

    def execute(self, context: TaskContext) -> Any:
        """Look, below the connection's folder."""
        base = FSHook(self.fs_conn_id).get_path() if self.fs_conn_id else ""
        self.filepath = os.path.join(base, self.filepath)
        return super().execute(context)


class _UntilMoment(BaseSensorOperator):
    """Waits until a moment; its worker is free meanwhile. `timeout` counts here, as in Airflow."""

    moment: Callable[[TaskContext], datetime]

    def execute(self, context: TaskContext) -> Any:
        """Come back at the moment, or when the time to wait is over."""
        now, ti = context.services.clock.now(), context["ti"]
        moment = self.moment(context)
        if now >= moment:
            return
        state: Mapping[str, Any] = ti.xcom_pull(key=sensors.STATE) or {}
        began: datetime = state.get("began") or now
        if now >= began + self.timeout:
            what = f'"{self.task_id}" has waited for {now - began}, longer than {self.timeout}'
            raise SkipTask(what) if self.soft_fail else SensorTimeout(what)
        ti.xcom_push(sensors.STATE, {"began": began})
        raise Reschedule(min(moment, began + self.timeout))


class TimeSensor(_UntilMoment, waiting.TimeSensor):
    """Waits until a time of the day."""

    def __init__(self, *, start_from_trigger: bool = False, end_from_trigger: bool = False, **options: Any) -> None:
        super().__init__(**options)


class TimeDeltaSensor(_UntilMoment, waiting.TimeDeltaSensor):
    """Waits until some time after the end of the data interval; in a run without one, after it was asked for."""

    def __init__(self, *, end_from_trigger: bool = False, **options: Any) -> None:
        super().__init__(**options)


class WaitSensor(TimeDeltaSensor):
    """Waits for some time from its first look on."""

    def __init__(self, *, time_to_wait: timedelta | float, **options: Any) -> None:
        length = time_to_wait if isinstance(time_to_wait, timedelta) else timedelta(minutes=time_to_wait)
        super().__init__(delta=length, **options)

    def moment(self, context: TaskContext) -> datetime:
        """Until when it waits."""
        ti = context["ti"]
        first = ti.xcom_pull(key="_first")
        if first is None:
            first = context.services.clock.now()
            ti.xcom_push("_first", first)
        made: datetime = first + self.delta
        return made


class DateTimeSensor(_UntilMoment, waiting.DateTimeSensor):
    """Waits until a moment."""

    def __init__(self, *, start_from_trigger: bool = False, end_from_trigger: bool = False, **options: Any) -> None:
        super().__init__(**options)


class DayOfWeekSensor(BaseSensorOperator):
    """Waits for a day of the week.

    Args:
        week_day: a day, or several, by name or as `WeekDay`.
        use_task_logical_date, use_task_execution_day: the day of the run counts, instead of the present one.
        options: those of every sensor.
    """

    def __init__(
        self,
        *,
        week_day: Any,
        use_task_logical_date: bool = False,
        use_task_execution_day: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.week_day = WeekDay.of(week_day)
        self.of_run = use_task_logical_date or use_task_execution_day

    def poke(self, context: TaskContext) -> bool:
        """Whether it is that day, in UTC."""
        moment = context["logical_date"] if self.of_run else None
        now = (moment or context.services.clock.now()).astimezone(UTC)
        return WeekDay(now.isoweekday()) in self.week_day


class ExternalTaskSensor(BaseSensorOperator, waiting.ExternalTaskSensor):
    """Waits for the run of another DAG for the same interval, or for tasks of it.

    Args:
        check_existence, poll_interval: accepted, and not heeded.
        options: those of `ExternalTaskSensor`.
    """

    def __init__(
        self,
        *,
        external_task_ids: Collection[str] | None = None,
        allowed_states: Collection[str] | None = None,
        skipped_states: Collection[str] | None = None,
        failed_states: Collection[str] | None = None,
        check_existence: bool = False,
        poll_interval: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            external_task_ids=external_task_ids or (),
            allowed_states=allowed_states or ("success",),
            skipped_states=skipped_states or (),
            failed_states=failed_states or (),
            **options,
        )


class ExternalTaskMarker(BaseOperator):
    """Tells of a task elsewhere that depends on this one; clearing does not go there by itself."""

    kind = "empty"

    def __init__(
        self,
        *,
        external_dag_id: str,
        external_task_id: str,
        logical_date: Any = None,
        execution_date: Any = None,
        recursion_depth: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.external_dag_id = external_dag_id
        self.external_task_id = external_task_id
        self.logical_date = logical_date or execution_date
        self.recursion_depth = recursion_depth
