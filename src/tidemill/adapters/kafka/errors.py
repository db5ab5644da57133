"""What librdkafka and the brokers complain about, as errors of ours: who is to blame, and whether to try again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

from tidemill.model.errors import DataError, Fenced, Refused, SettingsError, TidemillError, UnknownName, Unreachable

_Answer = TypeVar("_Answer")
#: Seconds after a question's time in which the client says that it has passed.
_SLACK = 5.0
#: Another writer of the identity, or another generation of the group, has taken over.
_FENCED = frozenset({
    KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.FENCED_INSTANCE_ID,
    KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.FENCED_MEMBER_EPOCH, KafkaError.REBALANCE_IN_PROGRESS, KafkaError._ASSIGNMENT_LOST,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
})  # fmt: skip
#: The settings let nobody in.
_SETTINGS = frozenset({
    KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError._INVALID_ARG, KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE, KafkaError.INVALID_SESSION_TIMEOUT, KafkaError.INVALID_TRANSACTION_TIMEOUT,
    KafkaError.SECURITY_DISABLED,
})  # fmt: skip
_DATA = frozenset({
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD,
    KafkaError.INVALID_MSG, KafkaError._INVALID_DIFFERENT_RECORD, KafkaError.INVALID_TIMESTAMP,
    KafkaError.OFFSET_METADATA_TOO_LARGE,
})  # fmt: skip
_REFUSED = frozenset({
    KafkaError.TOPIC_EXCEPTION, KafkaError.INVALID_PARTITIONS, KafkaError.INVALID_REPLICATION_FACTOR,
    KafkaError.INVALID_CONFIG, KafkaError.POLICY_VIOLATION, KafkaError.INVALID_REQUEST,
    KafkaError.INVALID_GROUP_ID, KafkaError.TOPIC_DELETION_DISABLED,
})  # fmt: skip
UP = "are the brokers up, and is the address right?"
#: Where messages were on their way: a broker whose disk is full mostly ends itself, and is merely away then.
UP_WITH_ROOM = "are the brokers up, and have their disks room? one whose disk is full ends itself"
#: What to try, where the code says more than that nobody answers.
_STORAGE: Mapping[int, str] = {
    KafkaError.KAFKA_STORAGE_ERROR: "has the broker's disk room, and is it whole? the broker's log names the folder",
    **dict.fromkeys(
        (KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND),
        "are all brokers up, and have their disks room? fewer hold the partition than min.insync.replicas asks for",
    ),
    **dict.fromkeys(
        (KafkaError._MSG_TIMED_OUT, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT,
         KafkaError._ALL_BROKERS_DOWN),
        UP_WITH_ROOM,
    ),
}  # fmt: skip
#: There is no such topic, or no such partition of it.
UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})


class Unanswered(KafkaException):  # type: ignore[misc]  # it has no types
    """A client that keeps to no time."""

    def __init__(self) -> None:
        super().__init__(KafkaError(KafkaError._TIMED_OUT, "the client never answered"))


def answer(future: Future[_Answer], seconds: float) -> _Answer:
    """What a client's question comes to, asked with a time of so many seconds.

    Raises:
        KafkaException: as the client says.
        Unanswered: it says nothing, long after that time: it has lost the question.
    """
    try:
        return future.result(seconds + _SLACK)
    except TimeoutError:
        raise Unanswered from None


def in_time(step: Callable[[], _Answer], seconds: float) -> _Answer:
    """Take a step that a client should end within so many seconds, in a thread of its own. Raises as `answer` does.

    The client was seen to stay in `commit_transaction` for ever, whatever limit it was given, after brokers had been
    away and the process had stood still. It is of no use then, and whoever waited for it would hold up everybody.
    """
    future: Future[_Answer] = Future()

    def take() -> None:
        try:
            future.set_result(step())
        except BaseException as error:  # raised by `answer`
            future.set_exception(error)

    threading.Thread(target=take, daemon=True, name="step-of-a-kafka-client").start()
    return answer(future, seconds)


def error_of(error: KafkaException) -> KafkaError:
    """The error in an exception."""
    found = error.args[0]
    return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL, str(found))


def told(error: KafkaError, doing: str, servers: str) -> TidemillError:
    """An error of ours for one of theirs.

    Their texts name brokers, topics and settings, but no setting's value: secrets stay where they are.

    Args:
        error: theirs.
        doing: what failed, as the beginning of a sentence: "The messages were not sent".
        servers: who was asked.
    """
    what = f"{doing}: {error.str() or error.name()}."
    code = error.code()
    if code in UNKNOWN_TOPIC:
        return UnknownName(what)
    if code in _FENCED:
        return Fenced(what, hint="another process has taken over this work")
    if code in _SETTINGS:
        return SettingsError(what, hint=f"check the settings for Kafka at {servers}")
    if code in _DATA:
        return DataError(what)
    if code in _REFUSED:
        return Refused(what)
    return Unreachable(f"{what.removesuffix('.')} (Kafka at {servers}).", hint=_STORAGE.get(code, UP))
