"""Rows of a stream into a table of the lake: a run each few seconds, its bookmark in the publish's own transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidemill.flow.attempt import Attempt, open_attempt
from tidemill.flow.publish import PublishConflict, publish_run
from tidemill.flow.run import MAX_ATTEMPTS, open_batch
from tidemill.flow.services import Services
from tidemill.flow.stream.loading import EVERY, Loader
from tidemill.flow.transform import build
from tidemill.model.batch import BatchKey
from tidemill.model.pipeline import PipelineSpec, TransformSpec
from tidemill.model.run import RunState
from tidemill.model.table import TableName, TableSpec
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import Topics


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go.

    Args:
        pipeline: the stream's, as runs know it.
        stream: the stream's name.
        table: what is written, and how.
        every: rows wait at most so long for others of their batch.
        place: of the stream, in the user's file.
    """

    pipeline: PipelineSpec
    stream: str
    table: TableSpec
    every: timedelta = EVERY
    place: str = ""

    @property
    def source(self) -> str:
        """The name of the bookmark."""
        return f"{self.stream}>{self.table.name.table}"


class TableLoader(Loader):
    """Loads one table.

    Args:
        services: of the project.
        target: where rows go.
        topics: the broker.
        topic: in which the rows wait.
        unpack: makes rows of messages' values.
        clock: the time.
    """

    def __init__(
        self,
        services: Services,
        target: Target,
        topics: Topics,
        topic: str,
        unpack: Callable[[list[bytes]], Any],
        clock: Clock,
    ) -> None:
        super().__init__(f"table {target.table.name}", topics, topic, unpack, clock, target.every)
        self._services = services
        self._target = target
        self._version = 0

    def begin(self) -> int:
        """By the bookmark."""
        with self._services.metadata.read() as tx:
            mark = tx.bookmarks.get(self._target.pipeline.name, self._target.source)
        self._version = mark.version
        return int((mark.value or {}).get("offset", 0))  # type: ignore[union-attr]  # as it is written below

    def publish(self, rows: Any, first: int, after: int) -> None:
        """Build the table on a branch, publish it with the bookmark; again where another run was first."""
        transform = TransformSpec(self._target.table, (), function=lambda: rows, place=self._target.place)
        key = BatchKey(self._target.pipeline.name, run_key=f"{self._target.source}@{first}")
        batch = open_batch(self._services, self._target.pipeline, key)
        lost_on: tuple[TableName, ...] = ()
        for number in range(1, MAX_ATTEMPTS + 1):
            with open_attempt(self._services, self._target.pipeline, batch, tickets=lost_on) as attempt:
                try:
                    build(attempt, transform)
                    self._publishing(attempt)
                    publish_run(attempt, {}, also=lambda tx: self._advance(tx, after, batch.id))
                    break
                except PublishConflict as conflict:
                    attempt.end(RunState.FAILED, conflict, keep=False)
                    if number == MAX_ATTEMPTS:
                        raise
                    lost_on = tuple(c.table for c in conflict.conflicts)
                except BaseException as error:
                    attempt.end(RunState.FAILED, error)
                    raise
        self._version += 1

    def _publishing(self, attempt: Attempt) -> None:
        with self._services.metadata.write() as tx:
            tx.runs.move(attempt.run.id, attempt.run.fence, RunState.PUBLISHING, now=self._services.clock.now())

    def _advance(self, tx: Tx, after: int, batch_id: int) -> None:
        target = self._target
        tx.bookmarks.swap(target.pipeline.name, target.source, self._version, {"offset": after}, batch_id)
