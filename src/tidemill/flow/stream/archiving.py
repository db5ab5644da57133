"""Archiving a topic's raw messages as they come: one task for a topic, of a group of the topic's own.

However many streams and processes read a topic, one of them archives it, a batch every minute or so. What dies when is
told in `topic_archive.py`: how far it has come is a bookmark, so there is nothing to commit to the group.
"""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from tidemill.flow.stream.outages import Outage
from tidemill.flow.stream.topic_archive import Archived, TopicArchives
from tidemill.model.errors import Conflict, UnknownName, Unreachable
from tidemill.ports.clock import Clock
from tidemill.ports.topic import Member, Messages, Partition, Reader, Topics

_log = logging.getLogger("tidemill")

#: Messages that are read at a time, and what makes a batch before its time: bytes, with those that a message takes
#: besides its key and value. It is in memory until then.
_LIMIT = 10_000
LARGEST = 64 * 2**20
_EACH = 100
#: Seconds to wait for a message.
_WAIT = 0.2


class TopicArchiver:
    """Archives one topic. `step` does what there is to do; `start` does so in a thread, until `stop`.

    Args:
        archives: of the project.
        topics: the broker.
        topic: its name.
        every: messages wait at most so long for others of their batch.
        clock: the time.
        group: of those that share the work. Its name has the project's: another one archives the topic for itself.
    """

    def __init__(
        self, archives: TopicArchives, topics: Topics, topic: str, every: timedelta, clock: Clock, group: str
    ) -> None:
        self._archives = archives
        self._topics = topics
        self._topic = topic
        self._every = every.total_seconds()
        self._clock = clock
        self._group = group
        self._member: Member | None = None
        self._mine = False
        self._reader: Reader | None = None
        self._known = Archived()
        self._waiting: list[Messages] = []
        self._lost: dict[int, tuple[int, int]] = {}
        self._partitions = 0
        self._bytes = 0
        self._since = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work in a thread."""
        self._thread = threading.Thread(target=self._run, name=f"archive-{self._topic}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, after what has begun; messages that wait stay in the topic for whoever comes next."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.close()

    def close(self) -> None:
        """Leave the group."""
        self._let_go()
        if self._member is not None:
            self._member.close()
        self._member, self._mine = None, False

    def _run(self) -> None:
        outage = Outage(f"archive of {self._topic}", self._clock)
        while not self._stopping.is_set():
            try:
                self.step(_WAIT)
                outage.look()
            except (Conflict, Unreachable, UnknownName) as error:
                self._wait_again(outage.met(error, "going on from the bookmark"))
            except Exception as error:
                # Streams go on without it, as long as the topic keeps what they need; and so does the next try.
                self._wait_again(10 * outage.met(f"{type(error).__name__}: {error}", "trying again", trace=True))

    def _wait_again(self, seconds: float) -> None:
        self._let_go()
        self._stopping.wait(seconds)

    def step(self, wait: float, *, now: bool = False) -> int:
        """Read what there is, and archive a batch if it is time, or `now`. Gives how many messages it has."""
        if self._member is None:
            self._member = self._topics.member(self._group, 1)
        self._member.poll(self._taken, self._given_up, 0.0 if self._mine else wait)
        reader = self._opened() if self._mine else None
        if reader is None:
            self._clock.sleep(wait if self._mine else 0)
            return 0
        for messages in reader.read(_LIMIT, wait):
            if not self._waiting:
                self._since = self._clock.monotonic()
            self._waiting.append(messages)
            self._bytes += _EACH * len(messages)
            for column in (messages.keys, messages.values):
                self._bytes += sum(map(len, filter(None, column)))
        self._look_for_losses(reader)
        if not self._waiting:
            return 0
        late = self._clock.monotonic() - self._since >= self._every
        return self._archive(reader) if now or late or self._bytes >= LARGEST else 0

    def _taken(self, _tasks: frozenset[int]) -> None:
        self._mine = True

    def _given_up(self, _tasks: frozenset[int]) -> None:
        self._mine = False
        self._let_go()

    def _opened(self) -> Reader | None:
        """The reader, at the bookmark; None: there is no topic yet."""
        if self._reader is None:
            info = self._topics.describe(self._topic)
            if info is None:
                return None
            self._known = self._archives.of(self._topic)
            if any(end > info.end[n] for n, end in self._known.end.items() if n < info.partitions):
                self._known = self._known.anew()
            self._reader = self._topics.reader()
            self._partitions = 0
            self._take(self._reader, info.first)
        return self._reader

    def _take(self, reader: Reader, first: tuple[int, ...]) -> None:
        """Read partitions that are not being read yet."""
        numbers = range(self._partitions, len(first))
        reader.take({Partition(self._topic, n): self._known.end.get(n, first[n]) for n in numbers})
        self._partitions = len(first)

    def _look_for_losses(self, reader: Reader) -> None:
        for partition, (wanted, oldest) in reader.lost().items():
            if oldest < wanted:
                raise Conflict(f"{partition} was made again.")
            span = self._lost.get(partition.number, (wanted, oldest))
            self._lost[partition.number] = (span[0], oldest)
            _log.warning(
                "archive of %s: messages %d to %d were removed before they were archived.",
                partition,
                wanted,
                oldest - 1,
            )

    def _archive(self, reader: Reader) -> int:
        stretches = sorted(self._waiting, key=lambda one: (one.partition.number, one.offsets[0]))
        got = {one.partition.number for one in stretches}
        lost = {number: span for number, span in self._lost.items() if number in got}
        came = self._known.with_messages(stretches, lost, reader.positions())
        known = self._archives.add(self._topic, self._known, stretches, came)
        if known != came:
            # A batch that was sealed before: what was read is not exactly what it has.
            self._let_go()
            return 0
        self._known = known
        count = sum(map(len, stretches))
        self._waiting, self._bytes = [], 0
        self._lost = {number: span for number, span in self._lost.items() if number not in got}
        info = self._topics.describe(self._topic)
        if info is not None and info.partitions > self._partitions:
            self._take(reader, info.first)
        return count

    def _let_go(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._waiting, self._lost, self._bytes = [], {}, 0
