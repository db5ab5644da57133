"""What is told of runs: their batch, their tasks and tries, and a pipeline's tasks by its last runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidemill.model.errors import UnknownName
from tidemill.model.run import PastTry, TaskRun, TaskState
from tidemill.ports.metadata import Tx
from tidemill.ports.runs import ListedRun, TaskStanding

_TASK = (
    "task", "map_index", "state", "tries", "queued_at", "started_at", "ended_at", "rows", "bytes", "worker", "error",
)  # fmt: skip
_TRY = ("task", "map_index", "number", "started_at", "ended_at", "error", "worker")

#: A letter for each state of a task: a grid is strings of these.
LETTERS: Mapping[TaskState, str] = {
    TaskState.NONE: ".", TaskState.SCHEDULED: "c", TaskState.QUEUED: "q", TaskState.RUNNING: "r",
    TaskState.SUCCESS: "s", TaskState.FAILED: "f", TaskState.SKIPPED: "k", TaskState.UPSTREAM_FAILED: "u",
    TaskState.UP_FOR_RETRY: "y", TaskState.UP_FOR_RESCHEDULE: "w", TaskState.DEFERRED: "d",
    TaskState.RESTARTING: "t", TaskState.REMOVED: "x",
}  # fmt: skip
#: Of a mapped task's instances the one with the first of these states speaks for all.
_LOUDEST = (
    TaskState.FAILED, TaskState.UP_FOR_RETRY, TaskState.RUNNING, TaskState.RESTARTING, TaskState.QUEUED,
    TaskState.SCHEDULED, TaskState.DEFERRED, TaskState.UP_FOR_RESCHEDULE, TaskState.NONE,
    TaskState.UPSTREAM_FAILED, TaskState.SUCCESS, TaskState.SKIPPED, TaskState.REMOVED,
)  # fmt: skip
_RANK = {state: rank for rank, state in enumerate(_LOUDEST)}
#: No instance of a task is recorded for a run.
ABSENT = " "


def listed_run(tx: Tx, run_id: int) -> ListedRun:
    """One run. Raises UnknownName."""
    found = tx.runs.listed(run_ids=[run_id])
    if not found:
        raise UnknownName.of("run", str(run_id), (str(one.id) for one in tx.runs.recent(limit=50)))
    return found[0]


def run_facts(one: ListedRun) -> dict[str, Any]:
    """One run in a list."""
    run = one.run
    return {
        "run_id": run.id,
        "batch_id": run.batch_id,
        "attempt": run.attempt,
        "pipeline": one.pipeline,
        "when": str(one.interval or one.run_key),
        "interval": [one.interval.start, one.interval.end] if one.interval else None,
        "run_key": one.run_key,
        "state": run.state.value,
        "kind": one.kind.value if one.kind else "by hand",
        "conf": dict(one.conf),
        "backfill_id": one.backfill_id,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "branch": run.branch,
        "code_version": run.code_version,
        "holder": run.holder,
        "error": run.error,
    }


def task_facts(tasks: Iterable[TaskRun], tries: Iterable[PastTry]) -> dict[str, Any]:
    """The task instances of a run, and their tries that did not end them."""
    return {
        "tasks": [{name: getattr(task, name) for name in _TASK} for task in tasks],
        "past_tries": [{name: getattr(one, name) for name in _TRY} for one in tries],
    }


def grid(tasks: Sequence[str], run_ids: Sequence[int], standings: Iterable[TaskStanding]) -> list[str]:
    """A string for each run, with a letter for each task; a space where the run has no record of it.

    Instances of a mapped task share a letter: that of the state that most asks for a look.
    """
    place = {task: at for at, task in enumerate(tasks)}
    loudest: dict[int, dict[int, int]] = {run_id: {} for run_id in run_ids}
    for one in standings:
        at = place.get(one.task)
        if at is not None:
            row, rank = loudest[one.run_id], _RANK[one.state]
            row[at] = min(row.get(at, rank), rank)
    letters = [LETTERS[state] for state in _LOUDEST]
    made = []
    for run_id in run_ids:
        row = loudest[run_id]
        made.append("".join(letters[row[at]] if at in row else ABSENT for at in range(len(tasks))))
    return made
