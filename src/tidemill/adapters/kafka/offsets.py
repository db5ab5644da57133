"""Asks brokers for offsets, of many partitions at a time: one request to each broker."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicMetadata

from tidemill.adapters.kafka.errors import UNKNOWN_TOPIC, answer, error_of, told
from tidemill.adapters.kafka.settings import KafkaSettings
from tidemill.model.errors import UnknownName, Unreachable
from tidemill.ports.topic import Partition

#: Seconds between two tries.
_AGAIN = 0.05


class Offsets:
    """What offsets partitions have.

    Args:
        settings: of the project.
        admin: asks.
    """

    def __init__(self, settings: KafkaSettings, admin: AdminClient) -> None:
        self._settings = settings
        self._admin = admin

    def partitions(self, topic: str, *, led: bool = True) -> int | None:
        """How many a topic has; None: there is no such topic.

        Args:
            topic: its name.
            led: wait until each has a leader, without which nobody can ask it anything.

        Raises:
            Unreachable: also where a partition goes on being without a leader: its brokers are away.
        """
        until = time.monotonic() + self._settings.seconds
        while True:
            known = self._topics(f'Topic "{topic}" cannot be looked up').get(topic)
            if known is None or (known.error is not None and known.error.code() in UNKNOWN_TOPIC):
                return None
            without = [number for number, one in known.partitions.items() if one.leader < 0]
            if known.error is None and not (led and without):
                return len(known.partitions)
            if time.monotonic() > until:
                raise Unreachable(
                    f'Topic "{topic}" is there, and nobody leads its partitions {without or "all"}.',
                    hint="its brokers are away or beginning; look at them",
                )
            time.sleep(_AGAIN)  # a leader is being chosen, and nobody tells when that is done

    def all(self) -> list[Partition]:
        """The partitions of all topics. Raises Unreachable."""
        known = self._topics("Topics cannot be listed")
        return [Partition(name, number) for name, one in known.items() for number in one.partitions]

    def names(self) -> list[str]:
        """All topics. Raises Unreachable."""
        return list(self._topics("Topics cannot be listed"))

    def _topics(self, doing: str) -> dict[str, TopicMetadata]:
        """Asked for one topic, a cluster may make it; asked for all, never."""
        try:
            found: dict[str, TopicMetadata] = self._admin.list_topics(timeout=self._settings.seconds).topics
        except KafkaException as error:
            raise told(error_of(error), doing, self._settings.servers) from None
        return found

    def bounds(self, partitions: Sequence[Partition]) -> Mapping[Partition, tuple[int, int]]:
        """Of each: the offset of the oldest message, and that after the newest that can be read.

        Raises:
            UnknownName: there is no such partition.
        """
        first = self._ask(dict.fromkeys(partitions, OffsetSpec.earliest()))
        end = self._ask(dict.fromkeys(partitions, OffsetSpec.latest()))
        return {partition: (first[partition], end[partition]) for partition in partitions}

    def sent(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Of each: the offset after all that was sent, whether it counts or not. Raises UnknownName."""
        return self._ask(dict.fromkeys(partitions, OffsetSpec.latest()), IsolationLevel.READ_UNCOMMITTED)

    def at(self, partitions: Sequence[Partition], timestamp: int) -> Mapping[Partition, int]:
        """Of each: the offset of the first message that is not older; -1: there is none."""
        return self._ask(dict.fromkeys(partitions, OffsetSpec.for_timestamp(timestamp)))

    def _ask(
        self, wanted: Mapping[Partition, OffsetSpec], isolation: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> dict[Partition, int]:
        if not wanted:
            return {}
        until = time.monotonic() + self._settings.seconds
        while True:
            try:
                return self._once(wanted, isolation)
            except Unreachable:
                # The first seconds of a topic, or of a broker: leaders are known, and do not know it yet.
                if time.monotonic() > until:
                    raise
                time.sleep(_AGAIN)

    def _once(self, wanted: Mapping[Partition, OffsetSpec], isolation: IsolationLevel) -> dict[Partition, int]:
        futures = self._admin.list_offsets(
            {TopicPartition(*partition): spec for partition, spec in wanted.items()},
            isolation_level=isolation,
            request_timeout=self._settings.seconds,
        )
        found: dict[Partition, int] = {}
        for asked, future in futures.items():
            partition = Partition(asked.topic, asked.partition)
            try:
                found[partition] = answer(future, self._settings.seconds).offset
            except KafkaException as error:
                # A partition that does not exist is one without a leader, to librdkafka.
                if error_of(error).code() in UNKNOWN_TOPIC or self._missing(partition):
                    raise UnknownName.of("partition", str(partition), ()) from None
                doing = f"The offsets of {partition} are not known"
                raise told(error_of(error), doing, self._settings.servers) from None
        return found

    def _missing(self, partition: Partition) -> bool:
        try:
            known = self._admin.list_topics(timeout=self._settings.seconds).topics.get(partition.topic)
        except KafkaException:
            return False
        return known is None or partition.number not in known.partitions
