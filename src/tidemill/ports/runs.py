"""Part of port `metadata`: the runs of batches, their tasks, and what both have read.

What makes a run is guarded: by its state, by the fence of its attempt, by the lease of whoever drives it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from tidemill.model.batch import Interval
from tidemill.model.run import DeferredTask, Order, PastTry, Read, Run, RunKind, RunState, TaskRun, TaskState


def always(_holder: str) -> bool:
    """Believe that a holder lives until its lease is over: all that can be known of other computers."""
    return True


class Runs(Protocol):
    """Attempts at batches, and their tasks."""

    def start(
        self,
        batch_id: int,
        *,
        holder: str,
        now: datetime,
        lease_until: datetime,
        code_version: str | None = None,
        alive: Callable[[str], bool] = always,
    ) -> Run:
        """Open the next attempt in state RUNNING with a new fence, and end an abandoned one as FAILED, its tasks in
        hand too. From then on every fence of older attempts is stale.

        An attempt is abandoned when its lease is over or `alive(holder)` is false: the caller may know at once
        that a process of this computer is gone.

        Raises:
            Busy: an attempt of the batch is live (state RUNNING or PUBLISHING, not abandoned). `where` of the
                error names its holder.
            UnknownName: there is no such batch.
        """
        ...

    def end_abandoned(self, batch_id: int, now: datetime, alive: Callable[[str], bool] = always) -> Run | None:
        """End the newest attempt at a batch as FAILED, as `start` does, where it is abandoned.

        From then on all that the attempt writes is refused (Fenced). What it wrote before is known after this call.

        Returns:
            The newest attempt as it then is; None: there is none.
        """
        ...

    def queue(self, batch_id: int, order: Order, now: datetime, *, keep: Iterable[str] = ()) -> Run:
        """Ask schedulers for the next attempt, in state QUEUED.

        Args:
            batch_id: the batch.
            order: what is asked for.
            now: the time.
            keep: tasks whose ends, and what they handed on, are taken over from the attempt before.

        Raises:
            Busy: an attempt of the batch has not ended.
            UnknownName: there is no such batch.
        """
        ...

    def order(self, run_id: int) -> Order | None:
        """What schedulers were asked for; None: it is no run of theirs."""
        ...

    def cancel(self, run_id: int, now: datetime) -> bool:
        """Ask for a run to be stopped; False where it has ended, or no scheduler drives it."""
        ...

    def renew(self, run_id: int, fence: int, lease_until: datetime) -> None:
        """Prolong the lease. Raises Fenced."""
        ...

    def check(self, run_id: int, fence: int) -> None:
        """Raise `Fenced` unless that attempt is the newest of its batch, has that fence, and has not ended."""
        ...

    def move(self, run_id: int, fence: int, to: RunState, *, now: datetime, error: str | None = None) -> None:
        """Change the state along RUN_TRANSITIONS; an end also ends the lease. Raises Fenced."""
        ...

    def set_branch(self, run_id: int, fence: int, branch: str) -> None:
        """Note the branch that the attempt writes. Raises Fenced."""
        ...

    def get(self, run_id: int) -> Run | None:
        """The attempt of that id."""
        ...

    def last(self, batch_id: int) -> Run | None:
        """The newest attempt at a batch."""
        ...

    def recent(
        self,
        *,
        batch_id: int | None = None,
        pipeline: str | None = None,
        state: RunState | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Attempts, newest first."""
        ...

    def set_task(self, run_id: int, fence: int, task: str, to: TaskState, *, now: datetime, **values: Any) -> None:
        """Create or change a task's record along TASK_TRANSITIONS; values: tries, rows, bytes, error. Raises Fenced.

        A new record may begin at any state up to RUNNING, or be decided against (skipped, upstream_failed,
        removed); the same state again only sets values. RUNNING begins a try: it sets `started_at` and clears
        what the try before left; NONE clears all.
        """
        ...

    def tasks(self, run_id: int) -> list[TaskRun]:
        """The tasks of an attempt, in the order in which they were first seen."""
        ...

    def pools(self, slots: Mapping[str, int]) -> None:
        """Set the slots of pools; others stay as they are."""
        ...

    def deferred(self, run_id: int | None = None) -> list[DeferredTask]:
        """Task instances that wait in the shared loop; of one run, or of all."""
        ...

    def change_trigger(self, one: DeferredTask, to: str) -> bool:
        """Note what has become of what a deferred instance waits for; False: by now it does not wait for that."""
        ...

    def past_tries(self, run_id: int) -> list[PastTry]:
        """Tries of an attempt that did not end their task: by task, in order."""
        ...

    def listed(
        self,
        *,
        pipelines: Collection[str] | None = None,
        states: Collection[RunState] | None = None,
        kind: RunKind | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        run_ids: Collection[int] | None = None,
        limit: int | None = None,
    ) -> list[ListedRun]:
        """Attempts with their batches, newest first.

        Args:
            pipelines: only of these.
            states: only in these.
            kind: only of this one.
            since: only of intervals that begin then or later.
            until: only of intervals that begin before it.
            before: only those with smaller ids.
            run_ids: only of these; at most some hundreds.
            limit: at most so many.
        """
        ...

    def strips(self, pipelines: Iterable[str], limit: int) -> dict[str, list[tuple[int, RunState]]]:
        """Ids and states of the newest attempts of each pipeline, newest first; a pipeline without any is left out."""
        ...

    def newest_of(self, batch_ids: Iterable[int]) -> dict[int, Run]:
        """The newest attempt at each of some batches, by batch."""
        ...

    def row_counts(self, run_ids: Iterable[int]) -> dict[int, dict[str, int]]:
        """Of some attempts, by id: the tasks that have counted rows, and how many; instances together."""
        ...

    def standings(self, run_ids: Iterable[int]) -> list[TaskStanding]:
        """The state of each task instance of some attempts, by run, in the order in which they were first seen."""
        ...

    def under_way(self, pipeline: str | None = None) -> list[UnderWay]:
        """Runs of schedulers that have not ended, oldest first; of one pipeline, or of all."""
        ...

    def watched(self, after: int, run_ids: Iterable[int]) -> list[WatchedRun]:
        """Runs with greater ids than `after`, and those of `run_ids`, by id: for whoever watches runs come and go."""
        ...

    def task_counts(self) -> Mapping[tuple[str, str], int]:
        """How many tasks of runs that have not ended there are, by pipeline and state."""
        ...

    def late(self, run_id: int, now: datetime) -> None:
        """Note that it was told that the run is late."""
        ...

    def states(self, run_ids: Iterable[int]) -> dict[int, RunState]:
        """The states of runs."""
        ...

    def last_of(self, pipeline: str, since: datetime, until: datetime) -> dict[Interval, RunState]:
        """The state of the newest attempt at each interval that begins between two times; a batch that is published
        counts as success, whatever was tried afterwards.
        """
        ...

    def add_reads(self, run_id: int, reads: Iterable[Read]) -> None:
        """Record what the attempt read; the same read twice is kept once."""
        ...

    def reads(self, run_id: int) -> list[Read]:
        """What the attempt read."""
        ...


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A run of schedulers that has not ended."""

    run_id: int
    batch_id: int
    pipeline: str
    definition_id: int
    state: RunState
    created_at: datetime
    interval: Interval | None
    late_at: datetime | None


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """A run, as whoever watches sees it."""

    run_id: int
    pipeline: str
    state: RunState
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run with what tells its batch from others.

    Args:
        run: it.
        pipeline: whose.
        interval: of its batch; without one, `run_key` tells it from others.
        kind: why there is one; None: it was begun by hand, in the process of whoever did.
        conf: parameters that were given for it.
        backfill_id: the backfill that it is part of.
    """

    run: Run
    pipeline: str
    interval: Interval | None
    run_key: str | None
    kind: RunKind | None
    conf: Mapping[str, Any]
    backfill_id: int | None


class TaskStanding(NamedTuple):
    """How a task instance stands; `index` is -1 for one that is not mapped. A tuple: a grid has 22,500."""

    run_id: int
    task: str
    index: int  # type: ignore[assignment]
    state: TaskState
    tries: int
