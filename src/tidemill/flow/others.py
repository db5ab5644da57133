"""Other pipelines, as tasks reach them: ask for their runs, and look how these stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tidemill.flow.control import key_at, known, trigger
from tidemill.model.batch import BatchKey, BatchState, Interval
from tidemill.model.errors import Busy
from tidemill.model.run import RunKind, RunState, TaskRun, TaskState
from tidemill.model.table import TableName
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Metadata
from tidemill.ports.tasks import Pipelines

#: Batches among which the last good interval is looked for, newest first.
_MOST_BATCHES = 1_000


class OtherPipelines(Pipelines):
    """Pipelines of the project.

    Args:
        metadata: asked for when it is first needed.
        clock: the time.
        ring: wakes schedulers.
    """

    def __init__(self, metadata: Callable[[], Metadata], clock: Clock, ring: Callable[[], None]) -> None:
        self._metadata = metadata
        self._clock = clock
        self._ring = ring

    def trigger(
        self,
        pipeline: str,
        *,
        conf: Mapping[str, Any],
        logical_date: datetime | None = None,
        run_key: str | None = None,
        again: bool = False,
    ) -> int:
        """Ask for a run; the same key or date gives the first run again, begun anew if `again`."""
        metadata, now = self._metadata(), self._clock.now()
        with metadata.read() as tx:
            _, definition = known(tx, pipeline)
            key = BatchKey(pipeline, run_key=run_key) if run_key is not None else None
            if logical_date is not None:
                key = key_at(definition, logical_date)
            batch = tx.batches.find(key) if key is not None else None
            last = tx.runs.last(batch.id) if batch is not None else None
        if last is not None and not again:
            return last.id
        try:
            run = trigger(
                metadata,
                pipeline,
                now,
                interval=key.interval if key is not None else None,
                run_key=key.run_key if key is not None else None,
                conf=conf,
                kind=RunKind.TRIGGERED,
            )
        except Busy:
            if last is None:
                raise
            return last.id
        self._ring()
        return run.id

    def run_state(self, run_id: int) -> RunState | None:
        """The state of a run."""
        with self._metadata().read() as tx:
            return tx.runs.states([run_id]).get(run_id)

    def task_runs(self, run_id: int) -> list[TaskRun]:
        """The task instances of a run, as they are on record."""
        with self._metadata().read() as tx:
            return tx.runs.tasks(run_id)

    def state_at(self, pipeline: str, moment: datetime) -> RunState | None:
        """The state of the newest run of the interval that begins at a moment."""
        run_id = self._run_at(pipeline, moment)
        return None if run_id is None else self.run_state(run_id)

    def task_states_at(self, pipeline: str, task: str, moment: datetime) -> list[TaskState]:
        """The states of a task's instances there."""
        run_id = self._run_at(pipeline, moment)
        if run_id is None:
            return []
        with self._metadata().read() as tx:
            return [one.state for one in tx.runs.tasks(run_id) if one.task == task]

    def group_states_at(self, pipeline: str, group: str, moment: datetime) -> list[TaskState]:
        """The states of all instances of the tasks of a group there."""
        run_id = self._run_at(pipeline, moment)
        if run_id is None:
            return []
        with self._metadata().read() as tx:
            _, definition = known(tx, pipeline)
            within = {id_ for id_, info in definition.tasks.items() if group in info.group}
            return [one.state for one in tx.runs.tasks(run_id) if one.task in within]

    def published(self, table: str, interval: Interval | None) -> bool:
        """Whether a batch of the table was published: that of the interval, or any."""
        name = TableName.parse(table)
        with self._metadata().read() as tx:
            known(tx, name.namespace)
            if interval is None:
                return any(batch.published_at is not None for batch in tx.batches.recent(name.namespace, limit=100))
            batch = tx.batches.find(BatchKey(name.namespace, interval))
            return batch is not None and batch.published_at is not None

    def published_before(self, pipeline: str, interval: Interval) -> Interval | None:
        """The newest interval before another whose batch is published."""
        with self._metadata().read() as tx:
            batches = tx.batches.recent(pipeline, state=BatchState.PUBLISHED, limit=_MOST_BATCHES)
        found = [batch.key.interval for batch in batches if batch.key.interval is not None]
        return max((one for one in found if one < interval), default=None)

    def _run_at(self, pipeline: str, moment: datetime) -> int | None:
        with self._metadata().read() as tx:
            _, definition = known(tx, pipeline)
            batch = tx.batches.find(key_at(definition, moment))
            last = tx.runs.last(batch.id) if batch is not None else None
            return None if last is None else last.id
