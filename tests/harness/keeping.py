"""A task of a stream on topics in memory, for tests of what it keeps: steps to die between, and a store to spoil."""

from __future__ import annotations

import copy

from tidemill.adapters.memory.state import MemoryState
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.flow.stream.keeping import Kept
from tidemill.flow.stream.recovery import Recovering
from tidemill.model.errors import Unreachable
from tidemill.model.stream import Guarantee
from tidemill.ports.state import StateStore
from tidemill.ports.topic import Partition, TopicSpec, Writer
from tidemill.testing.clock import ManualClock

LOG = Partition("delays.changelog", 1)


class Task:
    """A task on topics in memory, with steps to die between."""

    def __init__(self, guarantee: Guarantee = "exactly-once", store: StateStore | None = None, cache: int = 2_000):
        self.clock = ManualClock()
        self.topics = MemoryTopics(self.clock)
        self.topics.create(TopicSpec(LOG.topic, partitions=2, cleanup="compact"))
        self.guarantee, self.cache = guarantee, cache
        self.store: StateStore = store or MemoryState()
        self.checkpoint = 0
        self.start()

    def start(self, **options: object) -> list[Recovering]:
        """What a new process does; whatever the old one had in memory is gone."""
        self.writer: Writer = self.topics.writer("task 1", self.guarantee)
        self.kept = Kept(self.store, LOG, self.clock, str(options.pop("topology", "v1")), cache=self.cache)
        told: list[Recovering] = []
        info = self.topics.describe(LOG.topic)
        assert info is not None
        done = self.kept.recover(self.topics.reader(), info, told=told.append, **options)  # type: ignore[arg-type]
        assert done or "stop" in options
        return told

    def commit(self) -> int:
        sent = self.kept.log(self.writer)
        self.writer.commit({})
        self.checkpoint += 1
        self.kept.committed(self.checkpoint)
        return sent

    def logged(self) -> list[tuple[bytes | None, bytes | None]]:
        reader = self.topics.reader()
        reader.take({LOG: 0})
        return [pair for m in reader.read(1_000_000, 0) for pair in zip(m.keys, m.values, strict=True)]

    def all(self) -> dict[bytes, bytes]:
        return dict(self.kept.scan())


class Full(MemoryState):
    """A store whose disk may be full; it knows how it was a while ago."""

    full = False

    def __init__(self) -> None:
        super().__init__()
        self.older: list[tuple[bytes | None, dict[bytes, bytes]]] = []

    def write(self, changes, mark) -> None:  # type: ignore[no-untyped-def]  # as the port has it
        if self.full:
            raise Unreachable("The disk is full.")
        self.older.append((self._mark, copy.copy(self._values)))
        super().write(changes, mark)

    def fall_back(self) -> None:
        self._mark, self._values = self.older[max(0, len(self.older) - 3)]
