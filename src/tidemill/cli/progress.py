"""What `run` shows while it goes on, on standard error: live on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tidemill.cli.text import count, duration, size
from tidemill.flow.observe import RunReport, Silent, TaskReport
from tidemill.model.batch import Batch
from tidemill.model.pipeline import Task
from tidemill.model.run import Run, TaskState

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Print = Callable[[str], None]


class Collector(Silent):
    """Keeps the reports of the runs, and which batch is being run."""

    def __init__(self, on_end: Callable[[RunReport], None]) -> None:
        self.batch: Batch | None = None
        self._on_end = on_end

    def run_started(self, batch: Batch, run: Run, tasks: Sequence[Task]) -> None:
        """Remember the batch, for the message of an interruption."""
        self.batch = batch

    def run_ended(self, report: RunReport) -> None:
        """Hand the report on."""
        self.batch = None
        self._on_end(report)

    def stop(self) -> None:
        """Take away what is live: something else is about to be written."""


class PlainProgress(Collector):
    """One line when a run begins, one when a task ends: for logs."""

    def __init__(self, on_end: Callable[[RunReport], None], write: Print) -> None:
        super().__init__(on_end)
        self._write = write
        self._width = 0

    def run_started(self, batch: Batch, run: Run, tasks: Sequence[Task]) -> None:
        """Say which batch."""
        super().run_started(batch, run, tasks)
        self._width = max((len(t.id) for t in tasks), default=0)
        self._write(f"batch {batch.id}: {batch.key}, attempt {run.attempt}, {count(len(tasks), 'tasks')}")

    def task_ended(self, report: TaskReport) -> None:
        """Say how it went."""
        done = [f"in {duration(report.seconds)}"] if report.state is not TaskState.UPSTREAM_FAILED else []
        told = ", ".join([*amounts(report), *done])
        self._write(f"  {report.task.id:<{self._width}}  {report.state:<7}  {told}".rstrip())

    def retried(self, reason: str) -> None:
        """Say why it begins again."""
        self._write(f"  begins again on a fresh fork: {reason}")


class LiveProgress(Collector):
    """A line for each running task, with rows, bytes and rate, and one for the run; gone when the run ends."""

    def __init__(self, on_end: Callable[[RunReport], None]) -> None:
        super().__init__(on_end)
        self._display: Progress | None = None
        self._whole: TaskID | None = None
        self._lines: dict[str, TaskID] = {}

    def run_started(self, batch: Batch, run: Run, tasks: Sequence[Task]) -> None:
        """Begin the display."""
        super().run_started(batch, run, tasks)
        self.stop()
        self._display = _display()
        self._display.start()
        title = f"batch {batch.id}  {batch.key}" + (f"  attempt {run.attempt}" if run.attempt > 1 else "")
        self._whole = self._display.add_task(title, total=len(tasks), amount="")

    def task_started(self, task: Task) -> None:
        """Add its line."""
        if self._display is not None:
            self._lines[task.id] = self._display.add_task(f"  {task.id}", total=None, amount="")

    def progress(self, task: Task, rows: int, bytes: int) -> None:
        """Rows and bytes so far, and how many a second."""
        if self._display is None or task.id not in self._lines:
            return
        line = self._lines[task.id]
        shown = next(t for t in self._display.tasks if t.id == line)
        self._display.update(line, amount=_rates(rows, bytes, shown.elapsed or 0.0))

    def task_ended(self, report: TaskReport) -> None:
        """Take its line away."""
        if self._display is None:
            return
        line = self._lines.pop(report.task.id, None)
        if line is not None:
            self._display.remove_task(line)
        if self._whole is not None:
            self._display.advance(self._whole)

    def run_ended(self, report: RunReport) -> None:
        """Clear the display, then hand the report on."""
        self.stop()
        super().run_ended(report)

    def stop(self) -> None:
        """Clear the display."""
        if self._display is not None:
            self._display.stop()
        self._display, self._whole = None, None
        self._lines.clear()


def _display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
    )
    # What is printed meanwhile (by users' functions) stays where it goes; a redirected stdout stays clean.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)


def amounts(report: TaskReport) -> list[str]:
    """What a task did, in numbers."""
    found = []
    if report.rows is not None:
        found.append(count(report.rows, "rows"))
    if report.bytes is not None:
        found.append(size(report.bytes))
    if report.rejected:
        found.append(f"{count(report.rejected)} rejected")
    if report.reused:
        found.append("already archived")
    if report.checks:
        passed = sum(c.passed for c in report.checks)
        found.append(f"{passed} of {count(len(report.checks), 'checks')} passed")
    return found


def _rates(rows: int, bytes: int, seconds: float) -> str:
    parts = []
    if rows:
        parts += [count(rows, "rows"), f"{count(round(rows / seconds))} rows/s" if seconds > 0.2 else ""]
    if bytes:
        parts += [size(bytes), f"{size(bytes / seconds)}/s" if seconds > 0.2 else ""]
    return "  ".join(p for p in parts if p)
