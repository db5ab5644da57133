"""Port `installation`: what commands ask of an installation, here by its metadata store, elsewhere by its server.

Promises: both answer with the same facts, times as aware `datetime`s, and refuse with the same errors. Of one that is
elsewhere `Unreachable` (it does not answer) and `Refused` (the asker may not) come besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.backfill import BackfillState, Policy
from tidemill.model.batch import Interval
from tidemill.model.definition import Definition
from tidemill.model.graph import TaskKey
from tidemill.model.run import RunState, TaskState
from tidemill.ports.asked import AskedLake, AskedStreams, Facts
from tidemill.ports.tasklogs import LogPage, TryPlace


@dataclass(frozen=True, slots=True)
class Declared:
    """A pipeline by its newest definition.

    Args:
        definition: it.
        paused: its schedule begins nothing.
        newest: the newest interval that its schedule has begun a run for.
        seen_at: when its file was last read.
    """

    definition: Definition
    paused: bool
    newest: Interval | None
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class ToClear:
    """What clearing tasks of a run would do.

    Args:
        run_id: the run.
        tasks: that run again, in the order of the graph.
        attempt: the attempt in which they do.
        same_attempt: the run has not ended: it goes on.
        why: tasks that run again though nobody asked for them: why so.
    """

    run_id: int
    tasks: tuple[str, ...]
    attempt: int
    same_attempt: bool
    why: str


@dataclass(frozen=True, slots=True)
class ToFill:
    """A backfill as it is asked for: `when` is a date or a range, `2013-01-01..2013-01-31`, both ends included."""

    pipeline: str
    when: str
    policy: Policy = Policy.MISSING
    newest_first: bool = False
    concurrency: int = 1
    tasks: tuple[str, ...] = ()


class AskedPipelines(Protocol):
    """Its pipelines."""

    def listed(self, strip: int) -> Facts:
        """{"pipelines": all, by name, with their last `strip` runs, "errors": files that cannot be read}."""
        ...

    def one(self, name: str, strip: int) -> Facts:
        """One as in the list, with the "errors" of its file. Raises UnknownName."""
        ...

    def declared(self, name: str) -> Declared:
        """One by its newest definition. Raises UnknownName."""
        ...

    def upcoming(self, name: str, limit: int) -> Facts:
        """{"pipeline", "paused", "schedule", "next": [{"at", "interval"}]}. Raises UnknownName."""
        ...

    def pause(self, names: Sequence[str], paused: bool) -> None:
        """Pause schedules, or let them go on: all of them, or none where one is not there (UnknownName)."""
        ...


class AskedRuns(Protocol):
    """Its runs."""

    def listed(self, pipeline: str | None, state: RunState | None, limit: int | None) -> list[Facts]:
        """Runs, newest first. Raises UnknownName: there is no such pipeline."""
        ...

    def one(self, run_id: int) -> Facts:
        """A run with its "tasks", "past_tries" and open "questions". Raises UnknownName."""
        ...

    def has_ended(self, run_id: int) -> bool:
        """Whether it has. Raises UnknownName."""
        ...

    def begin(
        self, pipeline: str, *, interval: Interval | None, key: str | None, conf: Mapping[str, Any],
        only: Sequence[str], refetch: bool = False,
    ) -> Facts:  # fmt: skip
        """Ask schedulers for a run of a batch; `interval` or `key` tell it from others. `refetch`: its sources are
        asked again, whatever is archived. Raises UnknownName, Busy, Refused.
        """
        ...

    def cancel(self, run_id: int) -> None:
        """Ask for a run to be stopped. Raises UnknownName, Refused."""
        ...

    def preview_clearing(self, run_id: int, tasks: Sequence[str], *, downstream: bool) -> ToClear:
        """What clearing would do: of tasks by id, group or table; none: of what failed. Raises UnknownName, Refused."""
        ...

    def clear(self, what: ToClear) -> tuple[int, int]:
        """Let these tasks run again, and no others; gives their run, and its attempt. Raises Busy, Refused."""
        ...

    def mark(self, run_id: int, key: TaskKey, state: TaskState) -> tuple[int, int]:
        """Let a task count as ended; gives the run that goes on from there, and its attempt."""
        ...

    def questions(self) -> list[Facts]:
        """What tasks ask people, oldest first."""
        ...

    def answer(self, run_id: int, key: TaskKey, chosen: Sequence[str], form: Mapping[str, Any]) -> Facts:
        """Answer what a task asks: {"chosen", "form", "by", "at"}. Raises Refused, UnknownName, UserError."""
        ...


class AskedBackfills(Protocol):
    """Its backfills."""

    def listed(self, limit: int | None) -> list[Facts]:
        """Backfills, newest first, without their intervals."""
        ...

    def one(self, backfill_id: int) -> Facts:
        """One with its "intervals". Raises UnknownName."""
        ...

    def preview(self, what: ToFill) -> list[Interval]:
        """The intervals that it would run, in order. Raises UnknownName, UserError, Refused."""
        ...

    def begin(self, what: ToFill, conf: Mapping[str, Any]) -> tuple[int, list[Interval]]:
        """Begin it; gives its id and what it runs. Raises as `preview`, and UserError: there is nothing to run."""
        ...

    def move(self, backfill_id: int, state: BackfillState) -> None:
        """Pause it, go on with it, or cancel it. Raises UnknownName, Refused: it has ended."""
        ...


class AskedLogs(Protocol):
    """What tasks have said."""

    def tries(self, pipeline: str, run_id: int) -> list[TryPlace]:
        """The tries of a run that have said something, in order."""
        ...

    def read(self, place: TryPlace, offset: int = 0, limit: int = 1000) -> LogPage:
        """Up to `limit` lines from an offset on: 0, or what a page said."""
        ...


class Installation(Protocol):
    """An installation."""

    @property
    def pipelines(self) -> AskedPipelines:
        """Its pipelines."""
        ...

    @property
    def runs(self) -> AskedRuns:
        """Its runs."""
        ...

    @property
    def backfills(self) -> AskedBackfills:
        """Its backfills."""
        ...

    @property
    def logs(self) -> AskedLogs:
        """What its tasks have said."""
        ...

    @property
    def lake(self) -> AskedLake:
        """Its tables, branches and batches."""
        ...

    @property
    def streams(self) -> AskedStreams:
        """Its streams."""
        ...
