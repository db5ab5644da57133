"""Asks how far a group has come, as one of its members would.

The client has a way for administrators, which ends the whole process (librdkafka 2.16, its issue 5040) where a broker
answers that it does not coordinate the group: on a new cluster, and whenever brokers come and go.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tidemill.adapters.kafka.errors import error_of, told
from tidemill.adapters.kafka.settings import KafkaSettings
from tidemill.ports.topic import Partition

#: Seconds between two tries.
_AGAIN = 0.02


def ask_positions(settings: KafkaSettings, group: str, partitions: Sequence[Partition]) -> list[TopicPartition]:
    """The group's position in each partition, with its note; a negative offset: it has none.

    It does not join the group. What a transaction is about to commit is waited for.

    Raises:
        Unreachable: no broker has answered in time.
    """
    until = time.monotonic() + settings.seconds
    must = {"group.id": group, "isolation.level": "read_committed", "enable.auto.commit": False}
    client = settings.consumer({}, must)
    try:
        while True:
            asked = [TopicPartition(*partition) for partition in partitions]
            try:
                found = client.committed(asked, timeout=max(until - time.monotonic(), _AGAIN))
                wrong = next((one.error for one in found if one.error is not None), None)
                if wrong is not None:
                    raise KafkaException(wrong)
            except KafkaException as error:
                unstable = error_of(error).code() == KafkaError.UNSTABLE_OFFSET_COMMIT
                if unstable and time.monotonic() < until:
                    time.sleep(_AGAIN)  # a transaction that is committed is told to the group a moment later
                    continue
                doing = f'Group "{group}" was not asked for its positions'
                raise told(error_of(error), doing, settings.servers) from None
            return list(found)
    finally:
        client.close()
