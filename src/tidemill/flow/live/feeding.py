"""Feeding a topic from elsewhere: each message once, whatever dies when.

    member: one process feeds a topic     reading -> Taken: messages, position
                                                       |          |
    writer, fenced by its successor      <- topic <----'          '----> <topic>.source      one commit
                                                                          '-> where the next one begins

What a source gives and how far it then is are committed in one step, so they stand together or not at all. A process
that has lost its place cannot commit: whoever takes it over has opened a writer of the same identity before it asked
how far the source is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tidemill.flow.live.aside import ReadAside
from tidemill.flow.live.progress import Progress, identity_of, progress_of, progress_topic
from tidemill.flow.stream.outages import Outage
from tidemill.model.errors import Conflict, TidemillError, Unreachable
from tidemill.ports.clock import Clock
from tidemill.ports.live import LiveSource, Taken
from tidemill.ports.topic import Headers, Member, Topics, Writer

_log = logging.getLogger("tidemill")

#: A turn waits at most so long, in seconds: the task may come and go, and it may be time to stop.
WAIT = 0.2
#: A rest of a wait that is no more than what clocks round off.
LEAST = 1e-3
#: A source that has failed is opened again after so many seconds, the later the more often it has failed in a row.
BACK_OFF = (1.0, 2.0, 5.0, 15.0, 60.0)


@dataclass(frozen=True, slots=True)
class Written:
    """Messages as the topic has them, in columns."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None] | None = None
    timestamps: Sequence[int] | None = None
    headers: Sequence[Headers] | None = None


@dataclass(slots=True)
class FeedCounts:
    """What a feeding has done since it began."""

    messages: int = 0
    commits: int = 0
    failures: int = 0
    #: Of the failures: in a row, without a message between.
    falls: int = field(default=0, repr=False)


class Feeding:
    """One process's part in feeding one topic. Call `run`, or `turn` again and again and `close` at the end.

    Args:
        topic: its name. It is there, and so is `progress_topic`.
        called: which source this is.
        source: gives the messages.
        write: makes messages of what it gives.
        topics: the broker.
        clock: the time.
        told: is told each error of the source.
    """

    def __init__(
        self,
        topic: str,
        called: str,
        source: LiveSource,
        write: Callable[[Taken], Written],
        topics: Topics,
        clock: Clock,
        told: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.topic = topic
        self.called = called
        self.counts = FeedCounts()
        #: The source's last error, until it gives something again.
        self.error: Exception | None = None
        self.error_at: datetime | None = None
        self._source = source
        self._write = write
        self._topics = topics
        self._clock = clock
        self._told = told
        self._mine = False
        self._again_at = 0.0
        self._progress: Progress | None = None
        self._member: Member | None = None
        self._writer: Writer | None = None
        self._reading: ReadAside[Written] | None = None
        #: Called in each turn.
        self.looked_at: Callable[[Feeding], None] = lambda _: None

    @property
    def is_at_work(self) -> bool:
        """Whether this process is the one that feeds the topic."""
        return self._mine

    @property
    def is_waiting(self) -> bool:
        """Whether the source takes longer for an answer than a turn waits."""
        return self._reading is not None and self._reading.is_asked

    def run(self, stopping: Callable[[], bool]) -> None:
        """Feed until it is time to stop; errors of the source are told, and it is tried again."""
        outage = Outage(f"{self.topic} from {self.called}", self._clock)
        try:
            while not stopping():
                try:
                    self.turn()
                    outage.look()
                except (Conflict, Unreachable) as error:
                    pause = outage.met(error, "going back to the last commit")
                    self._let_go()
                    self._clock.sleep(pause)
        finally:
            self.close()

    def turn(self) -> int:
        """One round: whose it is, what there is, a commit. Gives how many messages there were.

        Raises:
            Conflict, Unreachable: of the broker; what is not committed does not count.
        """
        if self._member is None:
            self._member = self._topics.member(f"source.{self.topic}", 1)
        self._member.poll(self._taken, self._given_up, 0 if self._mine else WAIT)
        self.looked_at(self)
        if not self._mine:
            return 0
        left = self._again_at - self._clock.monotonic()
        if self._reading is None and left > LEAST:
            self._clock.sleep(min(left, WAIT))
            return 0
        self._begin()
        if self._reading is None:
            position = None if self._progress is None else self._progress.position
            name = f"{self.topic} from {self.called}"
            self._reading = ReadAside(self._source, position, self._write, WAIT, name)
        try:
            found = self._reading.take(2 * WAIT)
        except Exception as error:  # whatever a source raises
            self._fell(error)
            return 0
        return 0 if found is None else self._commit(*found)

    def close(self) -> None:
        """Let the source go, and leave the group."""
        self._let_go()

    def abandon(self) -> None:
        """Let everything fall, as if the process had died: nothing is committed, nobody is told."""
        self._stop_reading()
        self._member = self._writer = None
        self._mine = False

    # Parts

    def _taken(self, _: frozenset[int]) -> None:
        self._mine = True

    def _given_up(self, _: frozenset[int]) -> None:
        """Whoever comes next reads on from what was committed."""
        self._mine = False
        self._stop_reading()
        self._close_writer()

    def _begin(self) -> None:
        """Fence whoever fed the topic before, and then see how far it came."""
        if self._writer is not None:
            return
        self._writer = self._topics.writer(identity_of(self.topic), "exactly-once")
        found = progress_of(self._topics, self._clock, self.topic)
        if found is not None and found.source != self.called:
            _log.warning("%s was fed from %s, and is fed from %s now.", self.topic, found.source, self.called)
            found = None
        self._progress = found

    def _commit(self, taken: Taken, written: Written) -> int:
        assert self._writer is not None
        assert self._reading is not None
        count = len(written.values)
        before = 0 if self._progress is None else self._progress.messages
        progress = Progress(self.called, taken.position, before + count, self._clock.now())
        key, value = progress.record()
        try:
            if count:
                self._writer.send(
                    self.topic, written.values, keys=written.keys, timestamps=written.timestamps,
                    headers=written.headers,
                )  # fmt: skip
            self._writer.send(progress_topic(self.topic).name, [value], keys=[key], partitions=0)
            self._writer.commit({})
        except (Conflict, Unreachable):
            raise
        except TidemillError as error:  # a message that the topic does not take
            self._close_writer()
            self._fell(error)
            return 0
        self._progress = progress
        self.counts.messages += count
        self.counts.commits += 1
        self.counts.falls = 0
        self.error = self.error_at = None
        self._reading.committed()
        return count

    def _fell(self, error: Exception) -> None:
        """The source, or what it gave, is no good now: it is opened again later, at the last commit."""
        self.counts.failures += 1
        self._again_at = self._clock.monotonic() + BACK_OFF[min(self.counts.falls, len(BACK_OFF) - 1)]
        self.counts.falls += 1
        self._stop_reading()
        self.error, self.error_at = error, self._clock.now()
        self._told(error)

    def _stop_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        self._progress = None
        if writer is not None:
            writer.close()

    def _let_go(self) -> None:
        self._mine = False
        self._stop_reading()
        try:
            self._close_writer()
        finally:
            member, self._member = self._member, None
            if member is not None:
                member.close()
