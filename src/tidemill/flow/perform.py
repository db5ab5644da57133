"""Performing one try of a task, in the worker: from a job to its outcome and what it leaves.

find the task -> context -> own values of a mapped one -> results of others -> templates -> execute
                                                                                             |
          outcome and report  <-  callbacks  <-  xcoms, length, skips  <-------- result or exception
"""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from tidemill.authoring.dag import DAG
from tidemill.authoring.mapping import MappedOperator
from tidemill.authoring.signals import Defer, FailTask, Reschedule, SkipTask
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext, TaskServices, enter_context, within_context
from tidemill.flow.context import TryView, context_of
from tidemill.flow.handing import Handing
from tidemill.flow.resolve import Resolver
from tidemill.flow.templates import render_task
from tidemill.model.errors import DataError, DefinitionError, TidemillError
from tidemill.model.graph import WHOLE
from tidemill.model.instance import Deferred, Failed, Outcome, Report, Rescheduled, Skipped, Succeeded
from tidemill.model.place import told
from tidemill.model.run import TaskState
from tidemill.ports.executor import Job, TaskTimeout
from tidemill.ports.xcoms import RETURNED

#: The operator that this process executes, for `stop_current`.
_executing: list[BaseOperator] = []


def perform(dag: DAG, job: Job, services: TaskServices) -> tuple[Outcome, Report]:
    """Perform a try. Never raises what a task raises: that is its outcome.

    Args:
        dag: as its file made it, in the version of the run.
        job: the try.
        services: what the task can reach.
    """
    begun = services.clock.monotonic()
    task = dag.task_dict.get(job.key[0])
    if task is None:
        return Failed(f'DAG "{dag.name}" has no task "{job.key[0]}".', again=False), Report()
    attempt = _Try(dag, task, job, services)
    outcome, xcoms = attempt.run()
    seconds = services.clock.monotonic() - begun
    worker = f"{socket.gethostname()}:{os.getpid()}"
    return outcome, Report(xcoms=xcoms, rows=attempt.rows, seconds=seconds, worker=worker)


def stop_current() -> None:
    """Let the task that this process executes clean up (`on_kill`), from another thread than the task's."""
    for task in list(_executing):
        try:
            task.on_kill()
        except Exception:
            task.log.exception("on_kill failed")


class _CannotHandOver(Exception):
    """What a task returned cannot be handed over."""

    def __init__(self, error: TidemillError) -> None:
        super().__init__(str(error))
        self.error = error


class _Try:
    """One try, step by step."""

    def __init__(self, dag: DAG, task: BaseOperator, job: Job, services: TaskServices) -> None:
        self._dag = dag
        self._task = task
        self._job = job
        self._services = services
        self._handing = Handing(dag, job.run_id, services)
        self._context: TaskContext | None = None

    @property
    def rows(self) -> int | None:
        """How many rows the task says that it wrote."""
        return self._context.rows if self._context is not None else None

    def run(self) -> tuple[Outcome, tuple[tuple[str, str], ...]]:
        """Execute; then write down what it hands over, and tell who wants to know."""
        task = self._task
        error: BaseException | None = None
        xcoms: tuple[tuple[str, str], ...] = ()
        outcome: Outcome
        try:
            task, context = self._prepared()
        except SkipTask as skip:
            return self._told(self._skipped(skip), None), ()
        except Exception as caught:
            # The same code and the same inputs will do the same again.
            task.log.error("%s", told(caught))
            return self._told(Failed(told(caught), again=False), caught), ()
        enter_context(context)
        _executing.append(task)
        try:
            self._call("execute")
            outcome, xcoms = self._succeeded(task, context["ti"], task.perform(context))
        except SkipTask as skip:
            outcome, xcoms = self._skipped(skip), self._pushed()
        except Reschedule as wait:
            outcome, xcoms = Rescheduled(wait.at), self._pushed()
        except Defer as wait:
            outcome, xcoms = Deferred(wait.trigger, wait.arguments, wait.timeout), self._pushed()
        except _CannotHandOver as refused:
            error = refused.error
            task.log.error("%s", told(error))
            outcome = Failed(told(error), again=False)
        except TaskTimeout as late:
            # It is a failure like others to those who want to know; the worker says how the try ended.
            self._told(Failed(told(late) or "timed out"), late)
            raise
        except (Exception, SystemExit) as caught:  # `sys.exit()` ends the task, not the worker
            task.log.exception("%s", told(caught))
            outcome, error, xcoms = self._failed(caught), caught, self._pushed()
        finally:
            _executing.remove(task)
            enter_context(None)
        return self._told(outcome, error), xcoms

    def _prepared(self) -> tuple[BaseOperator, TaskContext]:
        """What is to be executed, with everything in its place."""
        self._context = context = context_of(self._dag, self._task, self._job, self._services, self._handing)
        resolver = Resolver(context, self._handing)
        # A copy: a worker performs the same task again and again, and each try has its own values.
        task = copy.copy(resolver.instance(self._task))
        context.add(task=task)
        context["ti"].task = task
        task.prepare(context)
        render_task(self._dag, task, context, self._services.root, resolver.found)
        for name in task.template_fields:
            setattr(task, name, resolver.resolved(getattr(task, name, None)))
        return task, context

    # -- how it ends

    def _succeeded(self, task: BaseOperator, ti: TryView, result: Any) -> tuple[Succeeded, tuple[tuple[str, str], ...]]:
        values: dict[str, Any] = dict(ti.pushed)
        try:
            return self._handed_over(task, values, result)
        except TidemillError as refused:
            # The same result will be refused again.
            raise _CannotHandOver(refused) from None

    def _handed_over(
        self, task: BaseOperator, values: dict[str, Any], result: Any
    ) -> tuple[Succeeded, tuple[tuple[str, str], ...]]:
        mapped = self._job.key[1] != WHOLE
        if task.multiple_outputs and result is not None:
            values |= _entries(result, task)
        # An instance of a mapped task hands over None, too: the list of all instances' results has no holes.
        if self._task.do_xcom_push and (result is not None or mapped):
            values[RETURNED] = result
        length = None if mapped else self._length(result)
        written = self._handing.written(self._task.task_id, values)
        assert self._context is not None
        return Succeeded(length, self._skips(tuple(self._context.skipped))), written

    def _length(self, result: Any) -> int | None:
        """How many elements the result has, where a task is mapped over it.

        Raises:
            DataError: it has none.
        """
        if isinstance(result, list | tuple | dict):
            return len(result)
        over = next((other for other in self._task.downstream_list if self._task.task_id in _mapped_over(other)), None)
        if over is None:
            return None
        raise DataError(
            f'"{over.task_id}" is mapped over what "{self._task.task_id}" returns, and that is '
            f"{type(result).__name__} {str(result)[:60]!r}.",
            where=self._task.place,
            hint="return a list or a dictionary",
        )

    def _skips(self, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """Tasks that it decided against; an instance in a mapped group decides for its own index only."""
        scope = self._task.task_group.mapped_group() if self._task.task_group is not None else None
        if scope is None:
            return wanted
        inside = {task.task_id for task in scope.iter_tasks()}
        return tuple(id_ for id_ in wanted if id_ in inside)

    def _pushed(self) -> tuple[tuple[str, str], ...]:
        """What it has handed over before it ended otherwise than well."""
        assert self._context is not None
        try:
            return self._handing.written(self._task.task_id, self._context["ti"].pushed)
        except Exception:  # the store of large values: how the try ended counts for more
            self._task.log.exception("what it has pushed could not be kept")
            return ()

    def _skipped(self, skip: SkipTask) -> Skipped:
        self._task.log.info("skipped%s", f": {skip}" if str(skip) else "")
        return Skipped()

    def _failed(self, error: BaseException) -> Failed:
        task = self._task
        final = isinstance(error, (FailTask, *task.no_retry_on))
        if task.retry_on is not None and not isinstance(error, task.retry_on):
            final = True
        if isinstance(error, DefinitionError) and task.retry_on is None:
            final = True  # what is written wrongly will be so again
        delay = getattr(error, "retry_after", None)
        wait = timedelta(seconds=delay) if isinstance(delay, int | float) and delay >= 0 else None
        return Failed(told(error), again=not final, delay=wait)

    # -- who wants to know

    def _told(self, outcome: Outcome, error: BaseException | None) -> Outcome:
        event, state = self._ended(outcome)
        if self._context is not None:
            self._context.add(exception=error)
            self._context["ti"].state, self._context["ti"].end_date = state, self._services.clock.now()
        if event:
            self._call(event)
        return outcome

    def _ended(self, outcome: Outcome) -> tuple[str, TaskState]:
        """The event that is told, if any, and the state that the task is in then."""
        if isinstance(outcome, Failed):
            again = outcome.again and self._job.failed < self._task.retries
            return ("retry", TaskState.UP_FOR_RETRY) if again else ("failure", TaskState.FAILED)
        if isinstance(outcome, Succeeded):
            return "success", TaskState.SUCCESS
        if isinstance(outcome, Skipped):
            return "skipped", TaskState.SKIPPED
        return "", TaskState.DEFERRED if isinstance(outcome, Deferred) else TaskState.UP_FOR_RESCHEDULE

    def _call(self, event: str) -> None:
        call_all(self._task.hearers(event), self._context, self._task.log.exception)


def call_all(functions: Iterable[Callable[..., Any]], context: TaskContext | None, tell: Callable[..., None]) -> None:
    """Call callbacks, for which the context is the current one; what they raise is told, and changes nothing.

    Without a context, as it could not be made, they are handed an empty one.
    """
    for function in functions:
        try:
            with within_context(context):
                function({} if context is None else context)
        except Exception:
            tell("the callback %s failed", getattr(function, "__name__", function))


def _mapped_over(task: BaseOperator) -> tuple[str, ...]:
    """The tasks over whose results a task, or its group, is mapped."""
    group = task.task_group.mapped_group() if task.task_group is not None else None
    if group is not None and group.mapped is not None:
        return group.mapped.lengths().sources
    return task.lengths.sources if isinstance(task, MappedOperator) else ()


def _entries(result: Any, task: BaseOperator) -> dict[str, Any]:
    """The entries of a dictionary, to be handed over one by one. Raises DataError."""
    if not isinstance(result, Mapping) or not all(isinstance(key, str) for key in result):
        raise DataError(
            f'"{task.task_id}" has multiple_outputs and returns {type(result).__name__} {str(result)[:60]!r}.',
            where=task.place,
            hint="a dictionary whose keys are texts, or multiple_outputs=False",
        )
    return dict(result)
