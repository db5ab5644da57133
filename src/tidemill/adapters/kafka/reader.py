"""Port `topic`, its reader: a consumer without a group, that is told what to read.

A consumer fetches ahead in threads of librdkafka; `fetching.py` takes what it has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tidemill.adapters.kafka.errors import UNKNOWN_TOPIC, error_of, told
from tidemill.adapters.kafka.fetching import Fetching, partition_of
from tidemill.adapters.kafka.offsets import Offsets
from tidemill.adapters.kafka.settings import KafkaSettings
from tidemill.model.errors import TidemillError, UnknownName
from tidemill.ports.topic import Messages, Partition

#: An unreachable broker is asked again at most so often, in seconds.
_PROBE = 2.0
#: Where nothing comes, it is looked so often whether the topics are still there.
_LOOK = 3.0


class KafkaReader:
    """Reads the partitions that it is told to.

    Args:
        settings: of the project.
        offsets: asks brokers for offsets.
        ahead: about so many messages are fetched ahead of `read`.
    """

    def __init__(self, settings: KafkaSettings, offsets: Offsets, ahead: int) -> None:
        self._settings = settings
        self._offsets = offsets
        ours = {
            "group.id": "tidemill-readers",  # never joined: librdkafka wants a name
            # With a second, its default, a reader that is faster than the fetcher waits for it: 0.36 million/s.
            "fetch.queue.backoff.ms": 5,
            # How long a broker waits for news, and so how late the end of a partition is known.
            "fetch.wait.max.ms": 100,
            # Of each partition, compressed: what a fetch unpacks is in memory at once.
            "fetch.message.max.bytes": max(16_384, min(1_048_576, ahead * 100)),
            # Of each partition. All together are bounded by bytes: 1 KB a message, and at most librdkafka's 64 MB.
            "queued.min.messages": max(1, ahead // 2),
            "queued.max.messages.kbytes": max(2_048, min(65_536, ahead)),
        }
        must = {
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
        self._consumer = settings.consumer(ours, must, self._trouble)
        self._fetching = Fetching(self._consumer, lambda partition: partition in self._next)
        #: Of each partition: the offset of the message that `read` gives next, at the least.
        self._next: dict[Partition, int] = {}
        #: Of partitions that were read up to their end: where that was, by the broker, after markers of transactions.
        self._at_end: dict[Partition, int] = {}
        #: Ends as they were when the partitions were taken; the client knows none before it has fetched.
        self._first_ends: dict[Partition, int] = {}
        self._lost: dict[Partition, tuple[int, int]] = {}
        self._paused: set[Partition] = set()
        #: What `read` raises once it has given the messages that came before.
        self._failed: TidemillError | None = None
        self._down_since: float | None = None
        self._probed = 0.0

    def take(self, positions: Mapping[Partition, int]) -> None:
        """Read these, too."""
        if not positions:
            return
        self._fetching.settle()
        bounds = self._offsets.bounds(list(positions))
        self.drop([partition for partition in positions if partition in self._next])
        for partition, wanted in positions.items():
            first, end = bounds[partition]
            if not first <= wanted <= end:
                self._lost[partition] = (wanted, first)
                wanted = first
            self._next[partition] = wanted
            self._first_ends[partition] = end
        self._consumer.incremental_assign([TopicPartition(p.topic, p.number, self._next[p]) for p in positions])

    def drop(self, partitions: Sequence[Partition]) -> None:
        """Read these no more."""
        self._fetching.settle()
        mine = [partition for partition in partitions if partition in self._next]
        self.resume(mine)  # librdkafka remembers a pause beyond the assignment
        if mine:
            self._consumer.incremental_unassign(_listed(mine))
        for partition in mine:
            self._fetching.held.forget(partition)
            for known in (self._next, self._at_end, self._first_ends):
                known.pop(partition, None)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Give none of these."""
        self._fetching.settle()
        self._paused |= set(partitions) & self._next.keys()
        self._consumer.pause(_listed(self._paused & set(partitions)))

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Go on with these."""
        self._fetching.settle()
        held = self._paused & set(partitions)
        self._paused -= held
        self._consumer.resume(_listed(held))

    def read(self, limit: int, timeout: float) -> list[Messages]:
        """What there is."""
        given = self._fetching.read(limit, timeout, self._paused)
        for messages in given:
            self._next[messages.partition] = messages.offsets[-1] + 1
        for event in self._fetching.held.told():
            self._event(event)
        if self._failed is not None and not given:
            failed, self._failed = self._failed, None
            raise failed
        if given:
            self._down_since = None
        elif self._down_since is not None:
            self._ask_whether_up()
        else:
            self._ask_whether_there()
        return given

    def ends(self) -> Mapping[Partition, int]:
        """Ends as far as they are known, without asking.

        Markers of transactions have offsets, too: after the last message of a partition may come some that nobody
        ever gets. A partition that was read to its end ends after its last message.
        """
        found: dict[Partition, int] = {}
        for partition, position in self._next.items():
            _, known = self._consumer.get_watermark_offsets(
                TopicPartition(partition.topic, partition.number), cached=True
            )
            end = max(known, self._first_ends[partition])
            found[partition] = position if self._at_end.get(partition, -1) >= end else max(end, position)
        return found

    def positions(self) -> Mapping[Partition, int]:
        """Where the reader is; at the end of a partition after the markers of its last transactions."""
        return {p: max(position, self._at_end.get(p, position)) for p, position in self._next.items()}

    def lost(self) -> Mapping[Partition, tuple[int, int]]:
        """What is no longer kept."""
        found, self._lost = self._lost, {}
        return found

    def close(self) -> None:
        """Let everything go."""
        self._fetching.close()
        self._next.clear()
        self._consumer.close()  # again: nothing

    def _event(self, event: Message) -> None:
        error, partition = event.error(), partition_of(event)
        assert error is not None
        if partition not in self._next:
            return
        if error.code() == KafkaError._PARTITION_EOF:
            self._at_end[partition] = event.offset() or 0
            self._down_since = None
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            paused = partition in self._paused
            self.take({partition: self._next[partition]})
            if paused:
                self.pause([partition])
        elif error.code() in UNKNOWN_TOPIC:
            self._failed = UnknownName.of("topic", partition.topic, ())
        elif not error.retriable():
            self._failed = told(error, f"{partition} cannot be read", self._settings.servers)

    def _trouble(self, error: KafkaError) -> None:
        """Called by the client, in `read`, for what concerns no partition."""
        if self._down_since is None and error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            self._down_since = time.monotonic()

    def _ask_whether_there(self) -> None:
        """A topic that was deleted is to the client one without news. Raises UnknownName."""
        now = time.monotonic()
        if not self._next or now - self._probed < _LOOK:
            return
        self._probed = now
        try:
            known = self._consumer.list_topics(timeout=_PROBE).topics
        except KafkaException:
            return  # that brokers are away is found out elsewhere
        gone = next((partition.topic for partition in self._next if partition.topic not in known), None)
        if gone is not None:
            raise UnknownName.of("topic", gone, ())

    def _ask_whether_up(self) -> None:
        """Brokers were lost, and nothing came since: there may be nothing to come. Raises Unreachable."""
        now = time.monotonic()
        assert self._down_since is not None
        if now - self._down_since < self._settings.seconds or now - self._probed < _PROBE:
            return
        self._probed = now
        try:
            self._consumer.list_topics(timeout=_PROBE)
        except KafkaException as error:
            raise told(error_of(error), "Nothing can be read", self._settings.servers) from None
        self._down_since = None


def _listed(partitions: Sequence[Partition] | set[Partition]) -> list[TopicPartition]:
    return [TopicPartition(partition.topic, partition.number) for partition in partitions]
