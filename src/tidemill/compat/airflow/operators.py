"""Airflow's operators of the standard provider: ours, with the arguments that only Airflow's have."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from tidemill.authoring.decorators import KINDS, TaskDecorator
from tidemill.authoring.signals import SkipTask
from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.events import Metadata
from tidemill.compat.airflow.finder import not_served
from tidemill.compat.airflow.providers import kind_of_provider
from tidemill.compat.airflow.task import BaseBranchOperator, BaseOperator
from tidemill.compat.airflow.values import WeekDay
from tidemill.model.errors import DefinitionError
from tidemill.operators import bash, branching, email, latest_only, python, trigger_dag_run, virtualenv

#: What a function in another Python may be handed of the context: plain values.
_PLAIN = (str, int, float, bool, datetime, dict, list)


class EmptyOperator(BaseOperator):
    """Does nothing."""

    kind = "empty"


class LatestOnlyOperator(BaseOperator, latest_only.LatestOnlyOperator):
    """Skips what follows in runs for the past."""


class BashOperator(BaseOperator, bash.BashOperator):
    """Runs a command; without another folder said by the environment, `AIRFLOW_HOME` is the project's."""

    def __init__(self, *, output_encoding: str = "utf-8", **options: Any) -> None:
        super().__init__(**options)

    def _environment(self, context: TaskContext) -> dict[str, str]:
        made = super()._environment(context)
        if self.env is None or self.append_env:
            made.setdefault("AIRFLOW_HOME", str(context.services.root))
        return made


class PythonOperator(BaseOperator, python.PythonOperator):
    """Calls a function, which may be an `async def`.

    Args:
        templates_exts: endings of texts in its templates that name a file.
        provide_context: accepted: the context is always there.
        options: those of `PythonOperator`.
    """

    def __init__(
        self, *, templates_exts: Sequence[str] | None = None, provide_context: bool | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        if templates_exts:
            self.template_ext = tuple(templates_exts)

    def call(self, context: TaskContext) -> Any:
        """Call it, and await it where it is to be awaited."""
        made = super().call(context)
        if inspect.isgenerator(made):
            return self._yielded(made, context)
        return asyncio.run(_awaited(made)) if inspect.isawaitable(made) else made

    def _yielded(self, made: Generator[Any, Any, Any], context: TaskContext) -> Any:
        """Take what a function says of its assets; what it returns is its result."""
        while True:
            try:
                said = next(made)
            except StopIteration as end:
                return end.value
            if isinstance(said, Metadata):
                context["outlet_events"].take(said)
            else:
                self.log.warning("what the task yields is heeded only if it is Metadata, not %r", said)


async def _awaited(made: Any) -> Any:
    return await made


class BranchPythonOperator(PythonOperator, python.BranchPythonOperator):
    """Decides by a function."""


class ShortCircuitOperator(PythonOperator, python.ShortCircuitOperator):
    """Skips what follows where a function returns something false."""


class _Elsewhere(PythonOperator):
    """Runs a function in another Python: parameters by the names of plain variables of the context are filled in.

    Args:
        use_dill, serializer, expect_airflow, expect_pendulum, venv_cache_path, string_args: accepted, and not heeded:
            values are pickled, and environments are kept in the project.
        options: those of `VirtualenvOperator`.
    """

    def __init__(
        self,
        *,
        use_dill: bool = False,
        serializer: str | None = None,
        expect_airflow: bool | None = None,
        expect_pendulum: bool | None = None,
        venv_cache_path: Any = None,
        string_args: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)

    def call(self, context: TaskContext) -> Any:
        """Call it there."""
        named = python.arguments_for(self.python_callable, self.op_args, self.op_kwargs, context)
        wanted = inspect.signature(self.python_callable).parameters
        self.op_kwargs = {
            name: value
            for name, value in named.items()
            if name in self.op_kwargs or (name in wanted and isinstance(value, _PLAIN))
        }
        return super().call(context)


class PythonVirtualenvOperator(_Elsewhere, virtualenv.VirtualenvOperator):
    """Runs a function in an environment with packages of its own."""


class BranchPythonVirtualenvOperator(PythonVirtualenvOperator):
    """Decides by a function that runs in an environment of its own."""

    decides = True

    def execute(self, context: TaskContext) -> Any:
        """Decide."""
        chosen = super().execute(context)
        branching.skip_all_except(context, chosen)
        return chosen


class ExternalPythonOperator(_Elsewhere, virtualenv.ExternalPythonOperator):
    """Runs a function in a Python that is there."""


class BranchExternalPythonOperator(ExternalPythonOperator):
    """Decides by a function that runs in another Python."""

    decides = True

    def execute(self, context: TaskContext) -> Any:
        """Decide."""
        chosen = super().execute(context)
        branching.skip_all_except(context, chosen)
        return chosen


class EmailOperator(BaseOperator, email.EmailOperator):
    """Sends a letter.

    Args:
        mime_subtype, mime_charset, custom_headers: accepted, and not heeded.
        options: those of `EmailOperator`.
    """

    def __init__(
        self, *, mime_subtype: str = "mixed", mime_charset: str = "utf-8", custom_headers: Any = None, **options: Any
    ) -> None:
        super().__init__(**{name: value for name, value in options.items() if value is not None})


class TriggerDagRunOperator(BaseOperator, trigger_dag_run.TriggerDagRunOperator):
    """Asks for a run of another DAG.

    Args:
        execution_date: an older name of `logical_date`.
        deferrable: accepted: waiting never keeps a worker.
        options: those of `TriggerDagRunOperator`.
    """

    def __init__(self, *, execution_date: Any = None, deferrable: bool | None = None, **options: Any) -> None:
        if execution_date is not None:
            options.setdefault("logical_date", execution_date)
        super().__init__(**options)


class _Choosing(BaseBranchOperator):
    """Decides between two lists of tasks by the time, or by that of the run."""

    def __init__(
        self,
        *,
        follow_task_ids_if_true: str | Collection[str],
        follow_task_ids_if_false: str | Collection[str],
        use_task_logical_date: bool = False,
        use_task_execution_date: bool = False,
        use_task_execution_day: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.follow_task_ids_if_true = follow_task_ids_if_true
        self.follow_task_ids_if_false = follow_task_ids_if_false
        self.of_run = use_task_logical_date or use_task_execution_date or use_task_execution_day

    def choose_branch(self, context: TaskContext) -> Any:
        """See `BaseBranchOperator`."""
        moment = context["logical_date"] if self.of_run else None
        now = (moment or context.services.clock.now()).astimezone(UTC)
        return self.follow_task_ids_if_true if self.holds(now) else self.follow_task_ids_if_false

    def holds(self, now: datetime) -> bool:
        """What it decides by; subclasses say it."""
        return False


class BranchDateTimeOperator(_Choosing):
    """Decides by whether the time is between two moments, or two times of the day."""

    def __init__(
        self,
        *,
        target_lower: datetime | time | None,
        target_upper: datetime | time | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if target_lower is None and target_upper is None:
            raise DefinitionError(f'"{self.task_id}" has no time to compare with.', where=self.place)
        self.target_lower = target_lower
        self.target_upper = target_upper

    def holds(self, now: datetime) -> bool:
        """Between the two, in UTC; a day's upper time that is before its lower one is of the next day."""
        lower, upper = _at(self.target_lower, now.date()), _at(self.target_upper, now.date())
        if lower and upper and upper < lower and isinstance(self.target_upper, time):
            upper += timedelta(days=1)
        return (lower is None or lower <= now) and (upper is None or now <= upper)


def _at(given: datetime | time | None, day: date) -> datetime | None:
    if given is None:
        return None
    made = given if isinstance(given, datetime) else datetime.combine(day, given)
    return made if made.tzinfo else made.replace(tzinfo=UTC)


class BranchDayOfWeekOperator(_Choosing):
    """Decides by the day of the week."""

    def __init__(self, *, week_day: Any, **options: Any) -> None:
        super().__init__(**options)
        self.week_day = WeekDay.of(week_day)

    def holds(self, now: datetime) -> bool:
        """One of the days, in UTC."""
        return WeekDay(now.isoweekday()) in self.week_day


class DecoratedPython(PythonOperator, python.DecoratedPython):
    """`@task`."""


class DecoratedBranch(DecoratedPython, BranchPythonOperator):
    """`@task.branch`."""


class DecoratedShortCircuit(DecoratedPython, ShortCircuitOperator):
    """`@task.short_circuit`."""


class DecoratedBash(BashOperator, bash.DecoratedBash):
    """`@task.bash`."""


class DecoratedVirtualenv(python.Decorated, PythonVirtualenvOperator):
    """`@task.virtualenv`."""


class DecoratedBranchVirtualenv(python.Decorated, BranchPythonVirtualenvOperator):
    """`@task.branch_virtualenv`."""


class DecoratedExternalPython(python.Decorated, ExternalPythonOperator):
    """`@task.external_python`."""


class DecoratedBranchExternalPython(python.Decorated, BranchExternalPythonOperator):
    """`@task.branch_external_python`."""


_HERE = "tidemill.compat.airflow.operators"


class AirflowTaskDecorator(TaskDecorator):
    """Airflow's `@task` and its kinds."""

    kinds: Mapping[str, tuple[str, str]] = {
        **KINDS,
        "python": (_HERE, "DecoratedPython"),
        "bash": (_HERE, "DecoratedBash"),
        "branch": (_HERE, "DecoratedBranch"),
        "short_circuit": (_HERE, "DecoratedShortCircuit"),
        "virtualenv": (_HERE, "DecoratedVirtualenv"),
        "branch_virtualenv": (_HERE, "DecoratedBranchVirtualenv"),
        "external_python": (_HERE, "DecoratedExternalPython"),
        "branch_external_python": (_HERE, "DecoratedBranchExternalPython"),
        "sensor": ("tidemill.compat.airflow.sensors", "DecoratedSensor"),
    }

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = kind_of_provider(name)
        if found is None:
            raise not_served(f"airflow.decorators.task.{name}")
        return found

    def external_python(self, function: Any = None, /, **options: Any) -> Any:
        """The function runs in a Python that is there."""
        return self._made("external_python", function, options)

    def branch_virtualenv(self, function: Any = None, /, **options: Any) -> Any:
        """The function decides, in an environment of its own."""
        return self._made("branch_virtualenv", function, options)

    def branch_external_python(self, function: Any = None, /, **options: Any) -> Any:
        """The function decides, in another Python."""
        return self._made("branch_external_python", function, options)

    def run_if(self, condition: Callable[[Any], Any], skip_message: str | None = None) -> Callable[[Any], Any]:
        """Skip the task unless a function of the context returns something true: `(bool, reason)` or a bool."""
        return self._conditional(condition, skip_message, wanted=True)

    def skip_if(self, condition: Callable[[Any], Any], skip_message: str | None = None) -> Callable[[Any], Any]:
        """Skip the task if a function of the context returns something true."""
        return self._conditional(condition, skip_message, wanted=False)

    def _conditional(self, condition: Callable[[Any], Any], told: str | None, *, wanted: bool) -> Callable[[Any], Any]:
        def check(context: Any) -> None:
            found = condition(context)
            holds, reason = found if isinstance(found, tuple) else (found, told)
            if bool(holds) is not wanted:
                raise SkipTask(str(reason or "its condition does not hold"))

        def mark(made: Any) -> Any:
            if not hasattr(made, "override"):
                raise DefinitionError(
                    "run_if and skip_if stand above @task, not below it.", hint="@task.run_if(...)\n@task\ndef f(): ..."
                )
            return made.override(pre_execute=check)

        return mark


#: The decorator itself.
task = AirflowTaskDecorator()
