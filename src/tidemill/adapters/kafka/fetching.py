"""What the client has fetched, as columns: taken when asked for, or in a thread while what came before is worked on.

Polars and the client's own code run without Python's lock, so the next messages can be made columns beside them. Where
few come nothing is taken ahead: they would wait for the thread.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Message

from tidemill.adapters.kafka.columns import Columns, runs
from tidemill.ports.topic import Messages, Partition

#: Messages that are turned into columns at a time, see `columns.py`.
_BATCH = 8_192
#: Where a read gives so many, the next one is begun at once.
MANY = 4_096


@dataclass(slots=True)
class Fetched:
    """Messages by partition, and what the client says of partitions after them."""

    found: dict[Partition, Columns] = field(default_factory=dict)
    events: list[Message] = field(default_factory=list)

    def give(self, limit: int, without: Collection[Partition]) -> list[Messages]:
        """Take messages out: at most so many, none of some partitions."""
        given = []
        for partition in [one for one in self.found if one not in without]:
            if limit <= 0:
                break
            columns = self.found.pop(partition)
            if len(columns) > limit:
                self.found[partition] = columns.cut(limit)
            limit -= len(columns)
            given.append(columns.done(partition))
        return given

    def told(self) -> list[Message]:
        """Take those events out whose messages are given."""
        told = [one for one in self.events if partition_of(one) not in self.found]
        self.events = [one for one in self.events if partition_of(one) in self.found]
        return told

    def forget(self, partition: Partition) -> None:
        """Nothing of this partition counts."""
        self.found.pop(partition, None)
        self.events = [one for one in self.events if partition_of(one) != partition]


class Fetching:
    """Takes messages from a client.

    Args:
        consumer: the client.
        wanted: whether messages of a partition are. What was fetched before one was dropped may still come.
    """

    def __init__(self, consumer: Consumer, wanted: Callable[[Partition], bool]) -> None:
        self._consumer = consumer
        self._wanted = wanted
        self._thread: ThreadPoolExecutor | None = None
        self._begun: Future[Fetched] | None = None
        self.held = Fetched()

    def read(self, limit: int, timeout: float, without: Collection[Partition]) -> list[Messages]:
        """Messages, at most `limit`; waits up to `timeout` seconds for the first one."""
        self.settle()
        given = self.held.give(limit, without)
        if not given:
            self._hold(self._fetch(limit, timeout))
            given = self.held.give(limit, without)
        if sum(map(len, given)) >= MANY and not self.held.found:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "kafka-ahead")
            self._begun = self._thread.submit(self._fetch, limit, 0)
        return given

    def settle(self) -> None:
        """Wait for what is being taken: it does not wait for messages itself."""
        if self._begun is not None:
            begun, self._begun = self._begun, None
            self._hold(begun.result())

    def close(self) -> None:
        """End the thread; the client is no longer used."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = self._begun = None
        self.held = Fetched()

    def _hold(self, fetched: Fetched) -> None:
        # What is held meanwhile is of partitions that are paused: of these nothing else comes.
        for partition, columns in fetched.found.items():
            if partition in self.held.found:
                self.held.found[partition].join(columns)
            else:
                self.held.found[partition] = columns
        self.held.events += fetched.events

    def _fetch(self, limit: int, timeout: float) -> Fetched:
        fetched, count = Fetched(), 0
        with _uncollected():
            until = time.monotonic() + timeout
            while count < limit:
                batch = self._consumer.consume(min(_BATCH, limit - count), 0)
                if not batch and not count:
                    # With a number librdkafka waits until it has as many; one is enough to go on.
                    left = until - time.monotonic()
                    batch = self._consumer.consume(1, left) if left > 0 else []
                if not batch:
                    break
                if any(map(Message.error, batch)):
                    fetched.events += [message for message in batch if message.error() is not None]
                    batch = [message for message in batch if message.error() is None]
                count += len(batch)
                for partition, messages in runs(batch):
                    if self._wanted(partition):
                        fetched.found.setdefault(partition, Columns()).add(messages)
        return fetched


def partition_of(event: Message) -> Partition:
    """What an event is about."""
    return Partition(event.topic() or "", event.partition() or 0)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cyclic garbage collector, which looks at each 8,000 new objects a dozen times: 30 % of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
