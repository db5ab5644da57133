"""A client of Kafka that does not come back from a call: nobody waits for it for ever."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from confluent_kafka import KafkaException

from harness.topics import Place, values
from tidemill.adapters.kafka import errors
from tidemill.adapters.kafka.topics import KafkaTopics
from tidemill.model.errors import Unreachable


def test_a_client_that_stays_in_a_step_of_a_transaction_is_given_up(
    kafka_topics: Place, kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was seen to stay in a commit for ever: nobody waits for it, and whoever takes its place fences it."""
    place = kafka_topics
    topic, identity, stays = place.topic(), f"w-{uuid.uuid4().hex}", threading.Event()
    monkeypatch.setattr(errors, "_SLACK", 0.0)
    hasty = KafkaTopics({"bootstrap.servers": kafka_servers}, patience=timedelta(seconds=3))
    lost = hasty.writer(identity, "exactly-once")
    lost.send(topic, [b"lost"])
    lost._settings = replace(lost._settings, patience=timedelta(seconds=0.1))
    with pytest.raises(Unreachable, match="does not commit"):
        lost._transact(stays.wait, "does not commit")
    lost.close()
    place.writer("exactly-once", identity)
    stays.set()
    with pytest.raises(KafkaException):
        lost._producer.commit_transaction(20)
    after = place.writer("exactly-once", identity)
    after.send(topic, [b"kept"])
    after.commit({})
    assert values(place, topic, 1) == [b"kept"]
