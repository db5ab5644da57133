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
    """Lines; the offset from which the next ones are read, and the one before which those before them end."""

    lines: Sequence[LogLine]
    offset: int
    begin: int = 0


#: Levels, the quietest first. One that is not among them counts as INFO.
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines of a log.

    Args:
        text: those that have it, in small or capital letters; empty: all.
        level: those of this level or a louder one; None: all.
    """

    text: str = ""
    level: str | None = None

    @property
    def levels(self) -> tuple[str, ...]:
        """The known levels that fit."""
        return LEVELS[LEVELS.index(self.level) :] if self.level is not None else LEVELS

    def fits(self, line: LogLine) -> bool:
        """Whether a line is one of them."""
        level = line.level if line.level in LEVELS else "INFO"
        return level in self.levels and self.text.lower() in line.text.lower()


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line, and the offset at which it begins."""

    line: LogLine
    offset: int


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Lines that fit, and the offset from which the search goes on; `whole`: it has come to the log's end."""

    lines: Sequence[FoundLine]
    offset: int
    whole: bool


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

    def tail(self, place: TryPlace, count: int = 100, before: int | None = None) -> LogPage:
        """The last lines; of those before an offset, where it is given: 0, or what a page said."""
        ...

    def find(self, place: TryPlace, wanted: Wanted, offset: int = 0, limit: int = 1000) -> FoundPage:
        """Up to `limit` lines that fit, from an offset on.

        One call looks through a bounded part of a log: the caller goes on from the page's offset until it is `whole`.
        """
        ...

    def tries(self, pipeline: str, run_id: int) -> list[TryPlace]:
        """The tries of a run that have said something, in order."""
        ...
