"""A run as a trace: made of its record when it has ended, so whoever drove it, and wherever its tasks ran.

run -> task (a span for each try, failed ones included)
"""

from __future__ import annotations

from datetime import datetime

from tidemill.model.run import Run, RunState, TaskState
from tidemill.ports.metadata import Tx
from tidemill.ports.telemetry import Attribute, Span


def run_span(tx: Tx, run_id: int) -> Span | None:
    """A run that has ended, with the tries of its tasks; None: it never began, or its record is gone."""
    run = tx.runs.get(run_id)
    if run is None or run.started_at is None or run.ended_at is None:
        return None
    batch = tx.batches.get(run.batch_id)
    facts: dict[str, Attribute] = {
        "tidemill.run_id": run.id,
        "tidemill.batch_id": run.batch_id,
        "tidemill.attempt": run.attempt,
        "tidemill.state": run.state.value,
    }
    if batch is not None:
        facts |= {"tidemill.pipeline": batch.key.pipeline, "tidemill.batch": str(batch.key)}
    error = (run.error or "failed") if run.state is RunState.FAILED else None
    return Span("run", run.started_at, _seconds(run.started_at, run.ended_at), facts, tuple(_tries(tx, run)), error)


def _tries(tx: Tx, run: Run) -> list[Span]:
    found = []
    for past in tx.runs.past_tries(run.id):
        if past.started_at is not None:
            facts = _facts(past.task, past.map_index, past.number, past.worker)
            error = past.error or "its worker went away"
            found.append(Span("task", past.started_at, _seconds(past.started_at, past.ended_at), facts, error=error))
    for task in tx.runs.tasks(run.id):
        if task.started_at is not None and task.ended_at is not None:
            # A run in one process tries each task once, and does not number that.
            facts = _facts(task.task, task.map_index, max(1, task.tries), task.worker)
            facts["tidemill.state"] = task.state.value
            if task.rows is not None:
                facts["tidemill.rows"] = task.rows
            failed = (task.error or "failed") if task.state is TaskState.FAILED else None
            found.append(Span("task", task.started_at, _seconds(task.started_at, task.ended_at), facts, error=failed))
    return sorted(found, key=lambda span: span.began)


def _facts(task: str, map_index: int, number: int, worker: str | None) -> dict[str, Attribute]:
    facts: dict[str, Attribute] = {"tidemill.task": task, "tidemill.try": number}
    if map_index >= 0:
        facts["tidemill.map_index"] = map_index
    if worker:
        facts["tidemill.worker"] = worker
    return facts


def _seconds(began: datetime, ended: datetime) -> float:
    return max(0.0, (ended - began).total_seconds())
