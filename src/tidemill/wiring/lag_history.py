"""How far behind streams were, in the last hour: kept in memory by the server of pages, and gone when it ends.

facts of processes, offsets -> a sample every five seconds -> charts

It goes by what processes have told, without the users' code. So a stream has a history from the first start on that
this server saw, also while it is stopped.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from tidemill.flow.stream.facts import ProcessFacts
from tidemill.flow.stream.lag import Lag, lag_by_facts, loaded_until
from tidemill.model.errors import TidemillError
from tidemill.ports.topic import Partition
from tidemill.wiring.topics import open_topics

if TYPE_CHECKING:
    from tidemill.ports.clock import Clock
    from tidemill.ports.metadata import Metadata
    from tidemill.ports.topic import Topics
    from tidemill.wiring.settings import Settings

_log = logging.getLogger("tidemill")

#: Seconds between two samples: processes tell as often.
EVERY = 5.0
#: Samples of a stream that are kept: an hour.
KEPT = 720
#: Partitions of a stream that are kept, the first ones by name; and streams. All full, that is some 2 MB a stream.
MOST_PARTITIONS = 64
_MOST_STREAMS = 200
#: Seconds that a sample may still take when the server ends.
_PATIENCE = 3.0


@dataclass(frozen=True, slots=True)
class LagSample:
    """How a stream stood at a moment.

    Args:
        at: when.
        behind: messages that wait, by the partitions of its history.
        state_bytes: of what its tasks remember, about.
        rate: messages a second, of late.
    """

    at: datetime
    behind: tuple[int, ...]
    state_bytes: int
    rate: float


@dataclass(slots=True)
class StreamHistory:
    """The last hour of a stream.

    Args:
        partitions: whose lag is kept, in the order of the samples' `behind`; later ones come last.
        left_out: how many more it reads.
        samples: oldest first; the first ones may know fewer partitions.
    """

    partitions: list[Partition] = field(default_factory=list)
    left_out: int = 0
    samples: deque[LagSample] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, at: datetime, lags: Iterable[Lag], told: Iterable[ProcessFacts]) -> None:
        """One more sample."""
        found = {lag.partition: lag.behind for lag in lags}
        new = sorted(found.keys() - set(self.partitions))
        self.partitions += new[: MOST_PARTITIONS - len(self.partitions)]
        self.left_out = len(found.keys() - set(self.partitions))
        live = [one for one in told if one.is_live(at)]
        behind = tuple(found.get(partition, 0) for partition in self.partitions)
        state = sum(one.state_bytes for one in live)
        self.samples.append(LagSample(at, behind, state, round(sum(one.rate for one in live), 1)))


class LagHistory:
    """The last hour of all streams. Threads may share it. Close it at the end.

    Args:
        settings: the project.
        metadata: its database.
        clock: the time.
    """

    def __init__(self, settings: Settings, metadata: Metadata, clock: Clock) -> None:
        self._settings = settings
        self._metadata = metadata
        self._clock = clock
        self._lock = threading.Lock()
        self._streams: dict[str, StreamHistory] = {}
        #: What was told of each stream last: of one that has ended as it should nothing is on record any more.
        self._told: dict[str, list[ProcessFacts]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @cached_property
    def _topics(self) -> Topics:
        return open_topics(self._settings, self._metadata, self._clock)

    def start(self) -> None:
        """Take samples from now on, in a thread."""
        self._thread = threading.Thread(target=self._run, name="lag-history", daemon=True)
        self._thread.start()

    def streams(self) -> list[str]:
        """Those of which something is known."""
        with self._lock:
            return sorted(self._streams)

    def of(self, stream: str) -> StreamHistory:
        """A copy of a stream's last hour; empty where nothing is known."""
        with self._lock:
            found = self._streams.get(stream, StreamHistory())
            return StreamHistory(list(found.partitions), found.left_out, deque(found.samples))

    def sample(self) -> None:
        """Take one of each stream that is known.

        Raises:
            Unreachable, Conflict: the database or the broker does not answer.
        """
        with self._metadata.read() as tx:
            told: dict[str, list[ProcessFacts]] = {}
            for found in tx.streams.told():
                one = ProcessFacts.from_json(found)
                told.setdefault(one.stream, []).append(one)
        self._told |= told
        for stream in list(self._told)[:_MOST_STREAMS]:
            lags = lag_by_facts(self._told[stream], self._topics, self._loaded)
            with self._lock:
                history = self._streams.setdefault(stream, StreamHistory())
                history.add(self._clock.now(), lags, told.get(stream, ()))

    def close(self) -> None:
        """End the thread, and let go of the broker; the database is the caller's."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        if "_topics" in self.__dict__ and not (self._thread and self._thread.is_alive()):
            self._topics.close()

    def _loaded(self, stream: str, table: str) -> int:
        with self._metadata.read() as tx:
            return loaded_until(tx, stream, table)

    def _run(self) -> None:
        from tidemill.adapters.sql.store import SqlMetadata

        assert isinstance(self._metadata, SqlMetadata)
        stir = self._metadata.stir()
        failing = False
        try:
            while not self._stop.wait(EVERY):
                try:
                    # Where nothing was committed, nobody works; only a broker of its own may have got messages.
                    if stir.changed() or (self._told and not self._topics.in_metadata):
                        self.sample()
                    failing = False
                except TidemillError as error:
                    if not failing:
                        _log.warning("charts of lag have a gap: %s", error)
                    failing = True
        finally:
            stir.close()
