"""Port `tasklogs`: what each try of a task has said, line by line, readable while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from tidemill.model.graph import WHOLE


@dataclass(frozen=True, slots=True, order=True)
class TryPlace:
    """A try of a task instance; `index` is WHOLE for one that is not mapped."""

    pipeline: str
    run_id: int
    task: str
    index: int = WHOLE
    number: int = 1


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that was said.

    Args:
        at: when.
        level: of `logging`: DEBUG, INFO, WARNING, ERROR, CRITICAL.
        source: "stdout", "stderr", or the logger's name.
        text: without its line's end; what a logger said may have several lines.
    """

    at: datetime
    level: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines, and the offset from which the next ones are read."""

    lines: Sequence[LogLine]
    offset: int


class LogWriter(Protocol):
    """The log of one try. Nothing is made before the first line. What was written can be read at once, and stays
    whatever becomes of the process.

    A log has a limit: the line that crosses it says so and is the last.
    """

    @property
    def full(self) -> bool:
        """Whether the limit is reached: what is written now is dropped."""
        ...

    def write(self, level: str, source: str, text: str) -> None:
        """Add a line, stamped with the time. A log that cannot be written (a full disk) never fails the task."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


class TaskLogs(Protocol):
    """The logs of a project."""

    def open(self, place: TryPlace) -> LogWriter:
        """A writer that adds to the log of a try."""
        ...

    def read(self, place: TryPlace, offset: int = 0, limit: int = 1000) -> LogPage:
        """Up to `limit` lines from an offset on: 0, or what a page said. None where there is nothing (yet)."""
        ...

    def tail(self, place: TryPlace, count: int = 100) -> LogPage:
        """The last lines."""
        ...

    def tries(self, pipeline: str, run_id: int) -> list[TryPlace]:
        """The tries of a run that have said something, in order."""
        ...
