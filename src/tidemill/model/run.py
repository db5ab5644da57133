"""Runs and tasks: their states, the one table of transitions, and the records of attempts.

A run is one attempt at a batch. Clearing a finished run opens the next attempt (rule 11); the attempt that
ended keeps its state for ever.

    run    queued -> running -> publishing -> success          success means published
                        |            '------> running          a conflict: tables run again on a fresh fork
                        '-> failed | cancelled
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tidemill.model.batch import Interval


class RunState(StrEnum):
    """The state of one attempt at a batch."""

    #: Known, not begun.
    QUEUED = "queued"
    #: Tasks are being driven by the owner of the lease.
    RUNNING = "running"
    #: Every task ended well; pointers, bookmarks and records are about to move in one transaction.
    PUBLISHING = "publishing"
    #: Published. Set by the transaction that moved the pointers, never otherwise.
    SUCCESS = "success"
    #: A task or a check failed; `main` never saw the run. The branch stays.
    FAILED = "failed"
    #: Stopped by a person; the branch stays.
    CANCELLED = "cancelled"


class TaskState(StrEnum):
    """The state of one task in one attempt; Airflow's names."""

    #: Not looked at yet.
    NONE = "none"
    #: Its upstreams allow it to run.
    SCHEDULED = "scheduled"
    #: Handed to an executor.
    QUEUED = "queued"
    #: A worker has it.
    RUNNING = "running"
    #: It ended well.
    SUCCESS = "success"
    #: It ended badly and has no try left.
    FAILED = "failed"
    #: A branch or short circuit decided against it.
    SKIPPED = "skipped"
    #: An upstream failed and its trigger rule asks for success.
    UPSTREAM_FAILED = "upstream_failed"
    #: It failed and waits for its next try.
    UP_FOR_RETRY = "up_for_retry"
    #: A sensor that gave back its worker until the next look.
    UP_FOR_RESCHEDULE = "up_for_reschedule"
    #: It waits for a trigger in the shared event loop.
    DEFERRED = "deferred"
    #: It was cleared while it ran and is being stopped.
    RESTARTING = "restarting"
    #: It left the DAG after the run began.
    REMOVED = "removed"


_R = RunState
#: Which state may follow which: the only place that says so.
RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    _R.QUEUED: frozenset({_R.RUNNING, _R.CANCELLED, _R.FAILED}),
    _R.RUNNING: frozenset({_R.PUBLISHING, _R.FAILED, _R.CANCELLED}),
    _R.PUBLISHING: frozenset({_R.SUCCESS, _R.RUNNING, _R.FAILED}),
    _R.SUCCESS: frozenset(),
    _R.FAILED: frozenset(),
    _R.CANCELLED: frozenset(),
}

_T = TaskState
_ENDS = frozenset({_T.SUCCESS, _T.FAILED, _T.SKIPPED, _T.UPSTREAM_FAILED, _T.REMOVED})
TASK_TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    # From NONE a person may mark any end; a task that cannot be expanded fails there.
    _T.NONE: frozenset({_T.SCHEDULED, _T.SUCCESS, _T.FAILED, _T.SKIPPED, _T.UPSTREAM_FAILED, _T.REMOVED}),
    _T.SCHEDULED: frozenset({_T.QUEUED, _T.SKIPPED, _T.UPSTREAM_FAILED, _T.REMOVED, _T.NONE}),
    _T.QUEUED: frozenset({_T.RUNNING, _T.SCHEDULED, _T.FAILED, _T.REMOVED}),
    _T.RUNNING: frozenset(
        {_T.SUCCESS, _T.FAILED, _T.SKIPPED, _T.UP_FOR_RETRY, _T.UP_FOR_RESCHEDULE, _T.DEFERRED, _T.RESTARTING,
         _T.SCHEDULED}
    ),
    _T.UP_FOR_RETRY: frozenset({_T.SCHEDULED, _T.FAILED, _T.REMOVED, _T.NONE}),
    _T.UP_FOR_RESCHEDULE: frozenset({_T.SCHEDULED, _T.FAILED, _T.REMOVED, _T.NONE}),
    _T.DEFERRED: frozenset({_T.SCHEDULED, _T.FAILED, _T.REMOVED, _T.NONE}),
    _T.RESTARTING: frozenset({_T.NONE, _T.FAILED, _T.REMOVED}),
    # Clearing within an attempt that still runs; after it ended, clearing opens the next attempt.
    **{end: frozenset({_T.NONE}) for end in _ENDS},
}  # fmt: skip

RUN_ENDS = frozenset(state for state, after in RUN_TRANSITIONS.items() if not after)
TASK_ENDS = _ENDS


class IllegalTransition(AssertionError):
    """Code asked for a transition that the table does not have: a defect of ours, never the user's."""


def check_run_transition(before: RunState, after: RunState) -> None:
    """Raise `IllegalTransition` unless a run may go from `before` to `after`."""
    if after not in RUN_TRANSITIONS[before]:
        raise IllegalTransition(f"run: {before} -> {after}")


def check_task_transition(before: TaskState, after: TaskState) -> None:
    """Raise `IllegalTransition` unless a task may go from `before` to `after`."""
    if after not in TASK_TRANSITIONS[before]:
        raise IllegalTransition(f"task: {before} -> {after}")


@dataclass(frozen=True, slots=True)
class Run:
    """The record of one attempt at a batch.

    `fence` is unique and grows; only the attempt that holds the newest fence of its batch may write (rule 5).
    """

    id: int
    batch_id: int
    attempt: int
    state: RunState
    fence: int
    created_at: datetime
    branch: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: str | None = None
    #: Who drives it, as `host:pid:start`, and until when that is believed without a sign of life.
    holder: str | None = None
    lease_until: datetime | None = None
    code_version: str | None = None


class RunKind(StrEnum):
    """Why there is a run."""

    MANUAL = "manual"
    SCHEDULED = "scheduled"
    BACKFILL = "backfill"
    #: Begun by a publish, by files that arrived, or by a task of another pipeline.
    TRIGGERED = "triggered"
    #: By hand, to ask the sources again, whatever is archived.
    REFETCH = "refetch"


@dataclass(frozen=True, slots=True)
class Order:
    """What schedulers are asked for with a run.

    Args:
        definition_id: what they go by.
        code: the version of the code that workers load.
        kind: why there is a run.
        conf: parameters that are given for it.
        backfill_id: the backfill that it is part of.
        only: tasks that it is restricted to; none: all.
        conflicts: how often in a row the batch's run was begun anew, because another published first.
        lost_on: the tables on which it lost so: it begins when it can have the publish tickets of all.
    """

    definition_id: int
    code: str
    kind: RunKind = RunKind.MANUAL
    conf: Mapping[str, Any] = field(default_factory=dict)
    backfill_id: int | None = None
    only: tuple[str, ...] = ()
    conflicts: int = 0
    lost_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a worker must know of a run, so that a task which touches nothing else needs no database.

    Args:
        id: the run. `batch_id` and `attempt` say of which batch it is which attempt.
        pipeline: its name.
        code: the version of the project's code (a content hash) that it began with.
        file: the pipeline's file, relative to the project.
        interval: the data interval; without one, `run_key` tells the batch from others.
        conf: parameters that were given for this run.
        began: when it began. `asked`: when its batch was asked for. None: it is not known.
    """

    id: int
    batch_id: int
    attempt: int
    pipeline: str
    code: str
    file: str
    kind: RunKind = RunKind.MANUAL
    interval: Interval | None = None
    run_key: str | None = None
    conf: Mapping[str, Any] = field(default_factory=dict)
    began: datetime | None = None
    asked: datetime | None = None


@dataclass(frozen=True, slots=True)
class TaskRun:
    """The record of one task instance in one attempt."""

    run_id: int
    task: str
    state: TaskState
    tries: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    rows: int | None = None
    bytes: int | None = None
    error: str | None = None
    #: Which instance of a mapped task; -1: it is one.
    map_index: int = -1
    queued_at: datetime | None = None
    #: When a wait for the next try, or the next look of a sensor, is over.
    due: datetime | None = None
    #: Who did the last try, as `host:pid`.
    worker: str | None = None

    @property
    def name(self) -> str:
        """The task, and which instance of it: `load[3]`."""
        return self.task if self.map_index < 0 else f"{self.task}[{self.map_index}]"


@dataclass(frozen=True, slots=True)
class PastTry:
    """A try that did not end its task: it failed and was tried again, or its worker went away."""

    task: str
    map_index: int
    number: int
    started_at: datetime | None
    ended_at: datetime
    error: str | None
    worker: str | None


@dataclass(frozen=True, slots=True)
class Read:
    """What a run read: (table, snapshot, scope), recorded for isolation and lineage (rule 2)."""

    table: str
    snapshot_id: int | None
    #: "batch", "partitions" or "whole".
    scope: str


@dataclass(frozen=True, slots=True)
class DeferredTask:
    """A task instance that waits in the shared loop: for what, as JSON text."""

    run_id: int
    task: str
    map_index: int
    tries: int
    trigger: str
