"""Takes over from Airflow how far its schedules are, and its newest runs, as records of runs that have ended."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import datetime

from tidemill.model.batch import BatchKey, BatchState
from tidemill.model.definition import Definition
from tidemill.model.errors import Refused
from tidemill.model.graph import WHOLE
from tidemill.model.run import Order, RunKind, RunState, TaskState
from tidemill.plan.airflow_move import Past, PastRun, interval_of, newest_of
from tidemill.ports.definitions import PipelineRecord
from tidemill.ports.metadata import Tx
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import Settings


def take_over(settings: Settings, past: Past) -> int:
    """Let the schedules of pipelines that are on record here go on where Airflow's have ended.

    A run that is here already stays as it is, and a schedule that is further stays there.

    Returns:
        How many runs were taken over.
    """
    clock = system_clock()
    taken = 0
    with closing(open_metadata(settings, clock)) as metadata:
        for dag in past.dags.values():
            with metadata.write() as tx:
                record = tx.definitions.pipeline(dag.name)
                definition = tx.definitions.get(record.definition_id) if record is not None and record.active else None
                if record is None or definition is None:
                    continue
                fresh = record.newest is None and not tx.runs.recent(pipeline=dag.name, limit=1)
                if fresh and dag.paused and not record.paused:
                    tx.definitions.pause(dag.name, True, clock.now())
                newest = newest_of(definition, dag.until) if dag.until is not None else None
                if newest is not None and (record.newest is None or record.newest < newest):
                    tx.definitions.advance(dag.name, newest, clock.now())
                taken += sum(_take(tx, record, definition, run, clock.now()) for run in dag.recent)
    return taken


def _take(tx: Tx, record: PipelineRecord, definition: Definition, run: PastRun, now: datetime) -> bool:
    """One run; False: it is here, or the schedule has no such interval."""
    interval = interval_of(definition, run)
    if interval is None and definition.schedule.timetable is not None and run.kind != "manual":
        return False
    key = BatchKey(record.name, interval) if interval is not None else BatchKey(record.name, run_key=_key(run.run_id))
    try:
        batch = tx.batches.open(key, run.began or now)
    except Refused:
        return False
    if tx.runs.last(batch.id) is not None:
        return False
    began, ended = run.began or now, run.ended or run.began or now
    kind = {"scheduled": RunKind.SCHEDULED, "backfill": RunKind.BACKFILL}.get(run.kind, RunKind.MANUAL)
    made = tx.runs.queue(batch.id, Order(record.definition_id, record.code, kind), began)
    tx.runs.move(made.id, made.fence, RunState.RUNNING, now=began)
    states = {str(state): state for state in TaskState}
    for task in run.tasks:
        state = states.get(task.state or "")
        if task.map_index != WHOLE or state is None:
            continue
        if state in (TaskState.SUCCESS, TaskState.FAILED):
            tx.runs.set_task(made.id, made.fence, task.task_id, TaskState.RUNNING, now=task.began or began)
            tx.runs.set_task(made.id, made.fence, task.task_id, state, now=task.ended or ended, tries=task.tries)
        elif state in (TaskState.SKIPPED, TaskState.UPSTREAM_FAILED, TaskState.REMOVED):
            tx.runs.set_task(made.id, made.fence, task.task_id, state, now=task.ended or ended)
    if run.state == "success":
        tx.runs.move(made.id, made.fence, RunState.PUBLISHING, now=ended)
        tx.runs.move(made.id, made.fence, RunState.SUCCESS, now=ended)
        tx.batches.update(batch.id, state=BatchState.PUBLISHED, published_at=ended)
    else:
        tx.runs.move(made.id, made.fence, RunState.FAILED, now=ended, error="it failed under Airflow")
    return True


def _key(run_id: str) -> str:
    """The run's id as a key here."""
    return re.sub(r"[^A-Za-z0-9_.:+-]", "-", run_id)
