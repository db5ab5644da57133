"""Rows of a stream into a table of the lake: each once, whatever dies when.

A broker and a database cannot commit together. So rows for a table are first committed with everything else of a
checkpoint, into a topic of the stream's own; from there they are loaded as batches, and how far that has come is a
bookmark which the transaction that publishes a batch moves. A batch is published with its bookmark, or it is not
there; a loader that was replaced loses the race for the bookmark, and has published nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidemill.flow.attempt import open_attempt
from tidemill.flow.publish import PublishConflict, publish_run
from tidemill.flow.run import MAX_ATTEMPTS, open_batch
from tidemill.flow.services import Services
from tidemill.flow.transform import build
from tidemill.model.batch import BatchKey
from tidemill.model.errors import Conflict, TidemillError, Unreachable
from tidemill.model.pipeline import PipelineSpec, TransformSpec
from tidemill.model.run import RunState
from tidemill.model.table import TableName, TableSpec
from tidemill.ports.clock import Clock
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import Partition, Reader, Topics

_log = logging.getLogger("tidemill")

#: Messages that are read at a time, and the bytes of rows that make a batch before its time.
_LIMIT = 1_000
LARGEST = 256 * 2**20
#: Seconds to wait for a message, and after something did not answer.
_WAIT = 0.2
_AGAIN = 1.0


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
    every: timedelta = timedelta(seconds=10)
    place: str = ""

    @property
    def source(self) -> str:
        """The name of the bookmark."""
        return f"{self.stream}>{self.table.name.table}"


class TableLoader:
    """Loads one table. `step` does what there is to do; `start` does so in a thread, until `stop`.

    Args:
        services: of the project.
        target: where rows go.
        topics: the broker.
        topic: in which the rows wait, in its only partition.
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
        self._services = services
        self._target = target
        self._topics = topics
        self._partition = Partition(topic, 0)
        self._unpack = unpack
        self._clock = clock
        self._reader: Reader | None = None
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._since = 0.0
        self._first = self._next = 0
        self._version = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        #: What ended the loader; nobody waits for its thread to tell.
        self.error: BaseException | None = None

    def start(self) -> None:
        """Work in a thread."""
        self._thread = threading.Thread(target=self._run, name=f"load-{self._target.table.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after what has begun; rows that wait are loaded by whoever comes next."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.step(_WAIT)
            except (Conflict, Unreachable) as error:
                _log.warning("%s: %s; going on from the bookmark.", self._target.source, error)
                self._close()
                self._stopping.wait(_AGAIN)
            except TidemillError as error:
                self.error = error
                return

    def step(self, wait: float, *, now: bool = False) -> int:
        """Read what there is, and publish a batch if it is time, or `now`. Gives how many rows were published."""
        reader = self._opened()
        for messages in reader.read(_LIMIT, wait):
            if not self._waiting:
                self._since = self._clock.monotonic()
            found = [value for value in messages.values if value is not None]
            self._waiting += found
            self._bytes += sum(map(len, found))
            self._next = messages.offsets[-1] + 1
        if not self._waiting:
            return 0
        late = self._clock.monotonic() - self._since >= self._target.every.total_seconds()
        return self._publish() if now or late or self._bytes >= LARGEST else 0

    def _opened(self) -> Reader:
        """The reader, at the bookmark."""
        if self._reader is None:
            with self._services.metadata.read() as tx:
                mark = tx.bookmarks.get(self._target.pipeline.name, self._target.source)
            self._version = mark.version
            self._first = self._next = int((mark.value or {}).get("offset", 0))  # type: ignore[union-attr]
            self._reader = self._topics.reader()
            self._reader.take({self._partition: self._first})
        return self._reader

    def _publish(self) -> int:
        rows = self._unpack(self._waiting)
        transform = TransformSpec(self._target.table, (), function=lambda: rows, place=self._target.place)
        key = BatchKey(self._target.pipeline.name, run_key=f"{self._target.source}@{self._first}")
        batch = open_batch(self._services, self._target.pipeline, key)
        lost_on: tuple[TableName, ...] = ()
        for number in range(1, MAX_ATTEMPTS + 1):
            with open_attempt(self._services, self._target.pipeline, batch, tickets=lost_on) as attempt:
                try:
                    build(attempt, transform)
                    publish_run(attempt, {}, also=lambda tx: self._advance(tx, batch.id))
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
        self._first = self._next
        self._waiting, self._bytes = [], 0
        return int(rows.height)

    def _advance(self, tx: Tx, batch_id: int) -> None:
        target = self._target
        tx.bookmarks.swap(target.pipeline.name, target.source, self._version, {"offset": self._next}, batch_id)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._waiting, self._bytes = [], 0
