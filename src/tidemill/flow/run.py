"""Run: one batch from its sources to `main`, in this process.

open the batch -> open an attempt -> tasks in order -> publish        all, or nothing that anybody sees
^                                |
'---- conflict: fresh fork ------'
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace

from tidemill.flow.attempt import Attempt, open_attempt
from tidemill.flow.chain import absorbed, may_step_aside, settled, step_aside, unpublished
from tidemill.flow.observe import Observer, RunReport, Silent, TaskReport
from tidemill.flow.publish import PublishConflict
from tidemill.flow.services import Services
from tidemill.flow.work import Work
from tidemill.model.batch import Batch, BatchKey, BatchState
from tidemill.model.errors import CheckFailed, Fenced, Refused, RunFailed
from tidemill.model.graph import WHOLE
from tidemill.model.instance import Begun, Dispatched, Ended, Event, Failed, Succeeded
from tidemill.model.pipeline import PipelineSpec, Task, graph_of, tasks_of
from tidemill.model.place import told
from tidemill.model.run import RUN_ENDS, Run, RunState, TaskState
from tidemill.model.table import TableName
from tidemill.plan.decide import RunBook, Step
from tidemill.plan.select import cleared
from tidemill.plan.when import when_of
from tidemill.ports.metadata import Tx

#: How often a run starts again on a fresh fork because another one published first (rule 4).
MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run.

    `refetch` asks the sources again. `start` names tasks or tables: only they and what depends on them run, and all
    other tables come from `main` (rule 11); empty: everything runs. `observer` is told what happens.
    """

    refetch: bool = False
    observer: Observer = field(default_factory=Silent)
    start: tuple[str, ...] = ()


def run_batch(
    services: Services, pipeline: PipelineSpec, key: BatchKey, options: RunOptions | None = None
) -> RunReport:
    """Run a pipeline for one batch until it is published or has failed.

    Raises:
        Busy: another live run has the batch.
        Refused: an earlier batch of a bookmark chain is not published, or the batch was absorbed.
    """
    options = options or RunOptions()
    batch = open_batch(services, pipeline, key)
    lost_on: tuple[TableName, ...] = ()
    for number in range(1, MAX_ATTEMPTS + 1):
        with open_attempt(services, pipeline, batch, tickets=lost_on) as attempt:
            driver = _Driver(attempt, options, last_try=number == MAX_ATTEMPTS)
            try:
                return driver.drive()
            except PublishConflict as conflict:
                lost_on = tuple({*lost_on, *(c.table for c in conflict.conflicts)})
                options.observer.retried(conflict.what)
                # Asking the sources again was done by the attempt that lost.
                options = replace(options, refetch=False)
    raise AssertionError("the last attempt reports its conflict as a failure")


def open_batch(services: Services, pipeline: PipelineSpec, key: BatchKey) -> Batch:
    """The batch of a key; for bookmark sources after looking at the chain of earlier batches (rule 6)."""
    now = services.clock.now()
    with services.metadata.write() as tx:
        batch = tx.batches.open(key, now)
        if batch.state is BatchState.ABSORBED:
            raise absorbed(batch)
        if pipeline.bookmarked and batch.published_at is None:
            _check_chain(services, tx, pipeline, batch)
    return batch


def _check_chain(services: Services, tx: Tx, pipeline: PipelineSpec, batch: Batch) -> None:
    """Wait for earlier batches of the chain that were begun and not published, or let them step aside."""
    for earlier, last in unpublished(tx, pipeline.name):
        if earlier.id >= batch.id:
            continue
        earlier, last = settled(tx, earlier, last, services.clock.now(), services.alive)
        if not may_step_aside(earlier, last, absorb=pipeline.absorbs, bookmarks_only=pipeline.bookmarks_only):
            raise _waits(earlier, last, batch, pipeline)
        step_aside(tx, earlier, last)


def _waits(earlier: Batch, last: Run, batch: Batch, pipeline: PipelineSpec) -> Refused:
    if last.state in RUN_ENDS:
        again = f"tidemill run {pipeline.name} {shlex.quote(when_of(earlier.key, pipeline))}"
        why, hint = "its bookmark is not known yet", f'{again}, or declare the source with on_failure="absorb"'
    elif last.state is RunState.QUEUED:
        why, hint = f"run {last.id} waits for a scheduler", "tidemill up"
    else:
        why, hint = f"run {last.id} goes on in {last.holder}", "wait for it, or stop that process"
    what = f"Batch {earlier.id} ({earlier.key}) comes before batch {batch.id} and is not published: {why}."
    return Refused(what, where=pipeline.place, hint=hint)


class _Driver:
    """Drives the tasks of one attempt, one after another."""

    def __init__(self, attempt: Attempt, options: RunOptions, *, last_try: bool) -> None:
        self.attempt = attempt
        self.services = attempt.services
        self.options = options
        self.last_try = last_try
        self.tasks = {t.id: t for t in tasks_of(attempt.pipeline)}
        graph = graph_of(self.tasks.values())
        self.cleared = cleared(graph, self.tasks.values(), options.start) if options.start else frozenset(self.tasks)
        self.book = RunBook(graph.only(self.cleared), f"run {attempt.run.id}")
        self.states: dict[str, TaskState] = {}
        self.reports: list[TaskReport] = []
        self.work = Work(attempt, options.observer, refetch=options.refetch)
        self.began = self.services.clock.monotonic()

    def drive(self) -> RunReport:
        """Run every task that can run, then publish."""
        self.options.observer.run_started(self.attempt.batch, self.attempt.run, list(self.tasks.values()))
        try:
            for task in self.tasks.values():
                if task.id not in self.cleared:
                    self._set(task, TaskState.SKIPPED)
            ready: list[Task] = []
            step = self._apply(Begun(), ready)
            while step.end is None:
                step = self._run(ready.pop(0), ready)
            return self._publish() if step.end is RunState.PUBLISHING else self._fail(self._first_error())
        except PublishConflict as conflict:
            if self.last_try or self.attempt.outside_effects:
                return self._fail(conflict)
            self.attempt.end(RunState.FAILED, conflict, keep=False)
            raise
        except KeyboardInterrupt as stop:
            self.attempt.end(RunState.CANCELLED, stop)
            raise
        except Fenced:
            raise
        except BaseException as error:
            self.attempt.end(RunState.FAILED, error)
            raise

    def _apply(self, event: Event, ready: list[Task]) -> Step:
        """Decide by an event; those that may run now are added to `ready`, in the order of the tasks."""
        step = self.book.apply(event, self.services.clock.now())
        for change in step.changes:
            if change.after.state in (TaskState.UPSTREAM_FAILED, TaskState.SKIPPED):
                self._give_up(self.tasks[change.key[0]], change.after.state)
        ready += [self.tasks[id_] for id_, _ in step.ready]
        order = list(self.tasks)
        ready.sort(key=lambda task: order.index(task.id))
        return step

    # -- tasks -----------------------------------------------------------------------------------------------

    def _run(self, task: Task, ready: list[Task]) -> Step:
        """Run a task; what that makes ready is added to `ready`."""
        key = (task.id, WHOLE)
        self.book.apply(Dispatched(key), self.services.clock.now())
        self._set(task, TaskState.SCHEDULED, TaskState.QUEUED, TaskState.RUNNING)
        self.options.observer.task_started(task)
        began = self.services.clock.monotonic()
        try:
            report = self.work.execute(task)
        except (Fenced, PublishConflict):
            raise
        except Exception as error:
            checks = tuple(getattr(error, "records", ()))
            report = TaskReport(task, TaskState.FAILED, 0.0, error=error, checks=checks)
        report = replace(report, seconds=self.services.clock.monotonic() - began)
        self._set(
            task,
            report.state,
            rows=report.rows,
            bytes=report.bytes,
            error=None if report.error is None else told(report.error),
        )
        self.reports.append(report)
        self.options.observer.task_ended(report)
        good = report.state is TaskState.SUCCESS
        if good:
            self.work.publish_table(task, lambda id_: self.states.get(id_) is TaskState.SUCCESS)
        outcome = Succeeded() if good else Failed(again=False)
        return self._apply(Ended(key, self.book.instances[key].tries, outcome), ready)

    def _give_up(self, task: Task, state: TaskState) -> None:
        self._set(task, state)
        report = TaskReport(task, state, 0.0)
        self.reports.append(report)
        self.options.observer.task_ended(report)

    def _set(self, task: Task, *states: TaskState, **values: object) -> None:
        """Move a task along its transitions, in one transaction that checks the fence."""
        run = self.attempt.run
        now = self.services.clock.now()
        with self.services.metadata.write() as tx:
            for state in states:
                tx.runs.set_task(run.id, run.fence, task.id, state, now=now, **values)
        self.states[task.id] = states[-1]

    # -- the end ---------------------------------------------------------------------------------------------

    def _publish(self) -> RunReport:
        self._move(RunState.PUBLISHING)
        try:
            self.work.publish()
        except CheckFailed as error:
            return self._fail(error)
        report = RunReport(
            self.attempt.batch,
            self.attempt.run,
            RunState.SUCCESS,
            self._seconds(),
            tuple(self.reports),
            tuple(self.work.tables()),
        )
        self.options.observer.run_ended(report)
        return report

    def _fail(self, error: BaseException) -> RunReport:
        self.attempt.end(RunState.FAILED, error)
        report = RunReport(
            self.attempt.batch, self.attempt.run, RunState.FAILED, self._seconds(), tuple(self.reports), (), error
        )
        self.options.observer.run_ended(report)
        return report

    def _first_error(self) -> BaseException:
        return next((r.error for r in self.reports if r.error is not None), RunFailed("A task failed."))

    def _move(self, state: RunState) -> None:
        run = self.attempt.run
        with self.services.metadata.write() as tx:
            tx.runs.move(run.id, run.fence, state, now=self.services.clock.now())
        self.attempt.run = replace(run, state=state)

    def _seconds(self) -> float:
        return self.services.clock.monotonic() - self.began
