"""Rows that a stream loads somewhere: each once, whatever dies when.

A broker and a database cannot commit together. So rows are first committed with everything else of a checkpoint, into
a topic of the stream's own; from there they are loaded as batches, and how far that has come is a position which the
transaction that makes a batch visible moves. A batch is there with its position, or not at all; a loader that was
replaced loses the race for the position, and has loaded nothing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tidemill.flow.stream.outages import Outage
from tidemill.flow.stream.trimming import try_to_trim
from tidemill.model.errors import Conflict, RunFailed, Unreachable
from tidemill.ports.clock import Clock
from tidemill.ports.topic import Partition, Reader, Topics

#: Messages that are read at a time, and the bytes of rows that make a batch before its time.
_LIMIT = 1_000
LARGEST = 256 * 2**20
#: Rows wait at most so long for others of their batch.
EVERY = timedelta(seconds=10)
#: Seconds to wait for a message.
_WAIT = 0.2


class Loader(ABC):
    """Loads what waits in one topic. `step` does what there is to do; `start` does so in a thread, until `stop`.

    Args:
        name: what people call it.
        topics: the broker.
        topic: in which rows wait, in its only partition.
        unpack: makes rows of messages' values.
        clock: the time.
        every: rows wait at most so long for others of their batch.
    """

    def __init__(
        self,
        name: str,
        topics: Topics,
        topic: str,
        unpack: Callable[[list[bytes]], Any],
        clock: Clock,
        every: timedelta = EVERY,
    ) -> None:
        self.name = name
        self._topics = topics
        self._partition = Partition(topic, 0)
        self._unpack = unpack
        self._clock = clock
        self._outage = Outage(name, clock)
        self._every = every.total_seconds()
        self._reader: Reader | None = None
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._since = 0.0
        self._first = self._next = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        #: What ended the loader; nobody waits for its thread to tell.
        self.error: BaseException | None = None

    @abstractmethod
    def begin(self) -> int:
        """How far loading has come: the offset of the first message that is not loaded."""

    @abstractmethod
    def publish(self, rows: Any, first: int, after: int) -> None:
        """Load the rows of messages from `first` up to, not including, `after`; and move the position.

        Raises:
            Conflict, Unreachable: whether it is done, `begin` tells.
        """

    def start(self) -> None:
        """Work in a thread."""
        self._thread = threading.Thread(target=self._run, name=f"load-{self.name}", daemon=True)
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
                wait = self._outage.met(error, "going on from where it was")
                self._close()
                self._stopping.wait(wait)
            except Exception as error:  # the stream's own thread raises it
                self.error = error
                return

    def step(self, wait: float, *, now: bool = False) -> int:
        """Read what there is, and load a batch if it is time, or `now`. Gives how many rows were loaded."""
        reader = self._opened()
        stretches = reader.read(_LIMIT, wait)
        for partition, (wanted, oldest) in reader.lost().items():
            raise RunFailed(
                f"Rows for {self.name} went before they were loaded: messages {wanted} to {oldest - 1} of "
                f"{partition}. Nobody but this stream removes any.",
                hint="see who changed that topic; its retention must be unlimited",
            )
        for messages in stretches:
            if not self._waiting:
                self._since = self._clock.monotonic()
            found = [value for value in messages.values if value is not None]
            self._waiting += found
            self._bytes += sum(map(len, found))
            self._next = messages.offsets[-1] + 1
        if not self._waiting:
            return 0
        late = self._clock.monotonic() - self._since >= self._every
        return self._load() if now or late or self._bytes >= LARGEST else 0

    def _opened(self) -> Reader:
        if self._reader is None:
            self._first = self._next = self.begin()
            self._trim()
            self._reader = self._topics.reader()
            self._reader.take({self._partition: self._first})
        return self._reader

    def _load(self) -> int:
        rows = self._unpack(self._waiting)
        # Offsets that nobody gets, of markers, are behind the last message: they would be told as lag for ever.
        after = max(self._next, self._opened().positions().get(self._partition, self._next))
        self.publish(rows, self._first, after)
        self._outage.over()
        self._first = self._next = after
        self._waiting, self._bytes = [], 0
        self._trim()
        return int(rows.height)

    def _trim(self) -> None:
        """What is loaded need not stay."""
        if self._first:
            try_to_trim(self._topics, {self._partition: self._first})

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._waiting, self._bytes = [], 0
