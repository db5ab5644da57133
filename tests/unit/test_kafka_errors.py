"""What the client's errors are told as: the code decides what to try."""

from __future__ import annotations

import pytest

confluent_kafka = pytest.importorskip("confluent_kafka")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("KAFKA_STORAGE_ERROR", "has the broker's disk room"),
        ("NOT_ENOUGH_REPLICAS_AFTER_APPEND", "min.insync.replicas"),
        ("_MSG_TIMED_OUT", "one whose disk is full ends itself"),
        ("_TRANSPORT", "is the address right?"),
    ],
)
def test_what_to_try_is_said_as_far_as_the_broker_says_what_is_wrong(code: str, hint: str) -> None:
    from tidemill.adapters.kafka.errors import told
    from tidemill.model.errors import Unreachable

    error = told(confluent_kafka.KafkaError(getattr(confluent_kafka.KafkaError, code)), "Messages were not sent", "k:9")
    assert isinstance(error, Unreachable)  # it is tried again
    assert hint in str(error.hint)
    assert str(error).startswith("Messages were not sent: ")
