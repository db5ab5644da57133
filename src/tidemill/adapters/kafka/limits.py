"""What topics take: looked up when a writer first sends to one, and again now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource

from tidemill.adapters.kafka.errors import answer
from tidemill.adapters.kafka.offsets import Offsets
from tidemill.adapters.kafka.settings import KafkaSettings
from tidemill.model.errors import UnknownName

#: Seconds after which a topic is looked up again: it may have got more partitions, or another limit.
_AGAIN = 60.0
#: A broker's own limit of a batch, where it does not tell that of the topic.
_USUAL = 1_048_588
#: Bytes of a batch with one message, beside its key, value and headers.
_AROUND = 100


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """How many partitions a topic has, and how many bytes a message of it may have."""

    topic: str
    partitions: int
    bytes: int

    def check(self, topic: str, partitions: Sequence[int] | int | None) -> None:
        """Whether there are these partitions. Raises UnknownName."""
        if partitions is None:
            return
        numbers = (partitions,) if isinstance(partitions, int) else partitions
        if numbers and not 0 <= min(numbers) <= max(numbers) < self.partitions:
            wrong = next(number for number in numbers if not 0 <= number < self.partitions)
            raise UnknownName(
                f'There is no partition "{topic}[{wrong}]".', hint=f"it has {self.partitions}, numbered from 0"
            )


class Limits:
    """Looks them up.

    Args:
        settings: of the project.
        admin, offsets: ask.
    """

    def __init__(self, settings: KafkaSettings, admin: AdminClient, offsets: Offsets) -> None:
        self._settings = settings
        self._admin = admin
        self._offsets = offsets
        self._known: dict[str, tuple[TopicLimits, float]] = {}

    def of(self, topic: str) -> TopicLimits:
        """Those of a topic. Raises UnknownName, Unreachable."""
        found, until = self._known.get(topic, (None, 0.0))
        if found is not None and time.monotonic() < until:
            return found
        partitions = self._offsets.partitions(topic, led=False)  # those that are led take messages meanwhile
        if partitions is None:
            self._known.pop(topic, None)
            raise UnknownName.of("topic", topic, ())
        found = TopicLimits(topic, partitions, self._bytes(topic))
        self._known[topic] = (found, time.monotonic() + _AGAIN)
        return found

    def forget(self, topic: str) -> None:
        """It was deleted."""
        self._known.pop(topic, None)

    def _bytes(self, topic: str) -> int:
        asked = self._admin.describe_configs(
            [ConfigResource(ConfigResource.Type.TOPIC, topic)], request_timeout=self._settings.seconds
        )
        try:
            (future,) = asked.values()
            return int(answer(future, self._settings.seconds)["max.message.bytes"].value) - _AROUND
        except (KafkaException, KeyError):
            return _USUAL - _AROUND  # who may send may be forbidden to look at settings
