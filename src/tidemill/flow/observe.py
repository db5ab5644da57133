"""What a run tells while it goes on: to a terminal, to a log, to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tidemill.model.batch import Batch
from tidemill.model.pipeline import Task
from tidemill.model.run import Run, RunState, TaskState
from tidemill.model.table import TableName, WriteMode
from tidemill.ports.metadata import CheckRecord


@dataclass(frozen=True, slots=True)
class TaskReport:
    """How a task ended."""

    task: Task
    state: TaskState
    seconds: float
    #: Rows written (load, build) or checked; bytes archived (extract).
    rows: int | None = None
    bytes: int | None = None
    #: Input rows that went to quarantine.
    rejected: int = 0
    #: True where the archive already held what was asked for.
    reused: bool = False
    error: BaseException | None = None
    checks: tuple[CheckRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table that the run published."""

    name: TableName
    write: WriteMode | None
    #: Rows that this batch wrote.
    rows: int | None
    #: Rows that the table holds now.
    total: int | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended."""

    batch: Batch
    run: Run
    state: RunState
    seconds: float
    tasks: tuple[TaskReport, ...]
    tables: tuple[TableReport, ...] = ()
    error: BaseException | None = None

    @property
    def checks(self) -> tuple[CheckRecord, ...]:
        """The results of all checks of the run."""
        return tuple(c for t in self.tasks for c in t.checks)

    @property
    def ok(self) -> bool:
        """True where the run was published."""
        return self.state is RunState.SUCCESS

    @property
    def branch(self) -> str | None:
        """The branch that a failed run left behind."""
        return None if self.ok else self.run.branch


class Observer(Protocol):
    """Is told what a run does. Errors of an observer are errors of the run, so it had better not raise."""

    def run_started(self, batch: Batch, run: Run, tasks: Sequence[Task]) -> None:
        """An attempt begins."""
        ...

    def task_started(self, task: Task) -> None:
        """A task begins."""
        ...

    def progress(self, task: Task, rows: int, bytes: int) -> None:
        """A task has come so far: rows written, bytes archived or read."""
        ...

    def task_ended(self, report: TaskReport) -> None:
        """A task has ended."""
        ...

    def run_ended(self, report: RunReport) -> None:
        """The run has ended."""
        ...

    def retried(self, reason: str) -> None:
        """The run lost against another one and starts again on a fresh fork."""
        ...


class Silent:
    """An observer that says nothing."""

    def run_started(self, batch: Batch, run: Run, tasks: Sequence[Task]) -> None:
        """Nothing."""

    def task_started(self, task: Task) -> None:
        """Nothing."""

    def progress(self, task: Task, rows: int, bytes: int) -> None:
        """Nothing."""

    def task_ended(self, report: TaskReport) -> None:
        """Nothing."""

    def run_ended(self, report: RunReport) -> None:
        """Nothing."""

    def retried(self, reason: str) -> None:
        """Nothing."""
