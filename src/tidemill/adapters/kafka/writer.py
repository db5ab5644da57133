"""Port `topic`, its writer: an idempotent producer, and with exactly-once one of transactions."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from tidemill.adapters.kafka.errors import UP_WITH_ROOM, Unanswered, error_of, in_time, told
from tidemill.adapters.kafka.limits import Limits
from tidemill.adapters.kafka.member import KafkaMember, listed
from tidemill.adapters.kafka.settings import KafkaSettings
from tidemill.model.errors import Fenced, LimitError, TidemillError, Unreachable
from tidemill.model.stream import Guarantee
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import Headers, Member, Partition, Position

#: Messages that are handed over at a time: between two, errors are heard of.
_BATCH = 10_000
_WAITING = 400_000
#: In place of a partition: the key says it.
_BY_KEY = -1
#: Forgotten on purpose, see `abort`.
_PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class KafkaWriter:
    """Sends messages and commits positions.

    Args:
        settings: of the project.
        limits: what topics take.
        identity: names whoever writes.
        guarantee: of the port.

    Raises:
        Unreachable: the broker does not let it begin.
    """

    def __init__(self, settings: KafkaSettings, limits: Limits, identity: str, guarantee: Guarantee) -> None:
        self._settings = settings
        self._limits = limits
        self._exactly = guarantee == "exactly-once"
        milliseconds = int(settings.seconds * 1000)
        ours = {
            "linger.ms": 5,
            "compression.type": "lz4",
            "batch.num.messages": 100_000,
            "queue.buffering.max.messages": _WAITING,
            "queue.buffering.max.kbytes": 256 * 1024,
            "message.timeout.ms": milliseconds,
            **({"transaction.timeout.ms": max(60_000, milliseconds)} if self._exactly else {}),
        }
        must = {
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            # How large a message may be is the topic's affair.
            "message.max.bytes": 1_000_000_000,
            # Of 0.9 million messages a second only those are told to Python that failed.
            "delivery.report.only.error": True,
            "on_delivery": self._delivered,
            **({"transactional.id": identity} if self._exactly else {}),
        }
        self._producer = settings.producer(ours, must, self._trouble)
        self._failed: KafkaError | None = None
        self._open = False
        self._over = self._closed = False
        #: Whether the client is in a step that does not end.
        self._lost = False
        #: Of each topic: the partition that the next message without a key goes to.
        self._turns: dict[str, int] = {}
        if self._exactly:
            self._transact(self._take_identity, "cannot begin")

    def send(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        partitions: Sequence[int] | int | None = None,
        timestamps: Sequence[int] | None = None,
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Send messages."""
        self._check()
        there = self._limits.of(topic)
        self._fits(topic, there.bytes, values, keys, headers)
        there.check(topic, partitions)
        if not values:
            return
        self._begin()
        if partitions is None and (keys is None or None in keys):
            partitions = self._in_turn(topic, there.partitions, keys, len(values))
        if timestamps is not None or (headers is not None and any(headers)):
            self._send_each(topic, values, keys, partitions, timestamps, headers)
            return
        for number, own_values, own_keys in _shares(values, keys, partitions):
            for start in range(0, len(own_values), _BATCH):
                some = slice(start, start + _BATCH)
                self._put(topic, _rows(own_values[some], own_keys and own_keys[some]), number)

    def flush(self) -> None:
        """Wait until everything is durable."""
        until = time.monotonic() + self._settings.seconds
        while self._producer.flush(0.5):
            self._check()
            if time.monotonic() > until:
                raise self._unreachable("does not take the messages")
        self._check()

    def commit(
        self,
        positions: Mapping[Partition, Position],
        member: Member | None = None,
        also: Callable[[Tx], None] | None = None,
    ) -> None:
        """Make what was sent, and the positions, count."""
        assert also is None, "Kafka has no transaction of the metadata database"
        assert member is None or isinstance(member, KafkaMember), "a member of another technology"
        if not self._exactly:
            if member is not None:
                member.check(positions)
            self.flush()
            if member is not None:
                member.commit(positions)
            return
        self._check()
        if member is not None:
            try:
                member.check(positions)
            except Fenced:
                self.abort()
                raise
        if not self._open and not (positions and member):
            return
        self._begin()
        seconds = self._settings.seconds
        if member is not None and positions:
            group = member.consumer.consumer_group_metadata()
            self._transact(
                lambda: self._producer.send_offsets_to_transaction(listed(positions), group, seconds), "does not commit"
            )
        self._transact(lambda: self._producer.commit_transaction(seconds), "does not commit")
        self._open = False
        if member is not None:
            member.stands(positions)

    def abort(self) -> None:
        """Forget what was sent since the last commit."""
        if not self._exactly:
            self._producer.purge(in_queue=True, in_flight=False, blocking=True)
            self._producer.poll(0)
            self._failed = None
        elif self._open:
            self._transact(lambda: self._producer.abort_transaction(self._settings.seconds), "does not abort")
            self._open, self._failed = False, None

    def close(self) -> None:
        """Let everything go."""
        if self._closed:
            return
        self._closed = True
        try:
            if not self._over:
                self.abort()
        except (Fenced, Unreachable):
            pass  # then the broker aborts it: the successor has begun, or the transaction's time ends
        if self._lost:  # who is in a step cannot be closed
            return
        if self._open:
            # The client aborts it once more before it ends, and waits for the broker without a limit: seen to last
            # minutes after the broker was back. Whoever is next with this name ends the wait, as it fences this one.
            threading.Thread(target=self._end, daemon=True, name="end-of-a-kafka-writer").start()
        else:
            self._end()

    def _end(self) -> None:
        self._producer.purge()
        # One that is fenced already says so again.
        with contextlib.suppress(KafkaException):
            self._producer.close()

    def _begin(self) -> None:
        if self._exactly and not self._open:
            self._transact(self._producer.begin_transaction, "cannot begin")
            self._open = True

    def _in_turn(self, topic: str, partitions: int, keys: Sequence[bytes | None] | None, size: int) -> Sequence[int]:
        """Partitions for messages of which some have no key."""
        at = self._turns.get(topic, 0)
        if keys is None:
            self._turns[topic] = (at + size) % partitions
            return [number % partitions for number in range(at, at + size)]
        chosen = []
        for key in keys:
            chosen.append(at if key is None else _BY_KEY)
            at = (at + 1) % partitions if key is None else at
        self._turns[topic] = at
        return chosen

    def _put(self, topic: str, rows: list[dict[str, Any]], partition: int) -> None:
        """Hand rows over; what does not fit waits for room, in order."""
        until = time.monotonic() + self._settings.seconds
        while True:
            taken = self._producer.produce_batch(topic, rows, partition=partition)
            self._producer.poll(0)
            self._check()
            if taken == len(rows):
                return
            # The queue takes a beginning of what is offered: after the first that it refuses, all are.
            first = rows[taken]
            error = first["_error"]
            if error.code() != KafkaError._QUEUE_FULL:
                raise told(error, f'Messages cannot be sent to "{topic}"', self._settings.servers)
            if taken:
                until = time.monotonic() + self._settings.seconds
            elif time.monotonic() > until:
                raise self._unreachable("takes no message")
            rows = rows[taken:]
            self._producer.poll(0.005)

    def _send_each(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        partitions: Sequence[int] | int | None,
        timestamps: Sequence[int] | None,
        headers: Sequence[Headers] | None,
    ) -> None:
        """One by one: the client's batches have neither timestamps nor headers. 0.6 million/s instead of 0.9."""
        numbers = (
            partitions if isinstance(partitions, Sequence) else repeat(_BY_KEY if partitions is None else partitions)
        )
        own = repeat(None) if headers is None else map(list, headers)
        produce = self._producer.produce
        # To the client 0 is now; the first millisecond of 1970 is sent as the second.
        times = repeat(0) if timestamps is None else (one or 1 for one in timestamps)
        rows = zip(values, keys or repeat(None), numbers, times, own, strict=False)
        for at, (value, key, partition, timestamp, names) in enumerate(rows):
            try:
                produce(topic, value, key, partition, None, None, timestamp, names)
            except BufferError:
                self._wait_for_room(topic, (value, key, partition, None, None, timestamp, names))
            except KafkaException as error:
                raise self._told(error_of(error)) from None
            if at % _BATCH == 0:
                self._producer.poll(0)
        self._check()

    def _wait_for_room(self, topic: str, message: tuple[Any, ...]) -> None:
        until = time.monotonic() + self._settings.seconds
        while time.monotonic() < until:
            self._producer.poll(0.005)
            self._check()
            try:
                self._producer.produce(topic, *message)
            except BufferError:
                continue
            except KafkaException as error:
                raise self._told(error_of(error)) from None
            return
        raise self._unreachable("takes no message")

    def _take_identity(self) -> None:
        """Be the one who has it. A client that has no connection yet finds its coordinator half a second later."""
        until = time.monotonic() + self._settings.seconds
        with contextlib.suppress(KafkaException):  # what is wrong is told by the step itself
            self._producer.list_topics(timeout=self._settings.seconds / 2)
        self._producer.init_transactions(until - time.monotonic())

    def _transact(self, step: Callable[[], object], doing: str) -> None:
        """Take a step of a transaction; again while it may still succeed. Raises Fenced, Unreachable, DataError."""
        until = time.monotonic() + self._settings.seconds
        while True:
            try:
                self._take(step)
            except KafkaException as error:
                found = error_of(error)
                if found.retriable() and time.monotonic() < until:
                    continue
                # Of messages that failed the transaction says only that they did; the first of them says why.
                why = (found.code() == KafkaError._INCONSISTENT and self._failed) or found
                if found.txn_requires_abort():
                    self._give_back()
                else:
                    # What became of it is not known: no other step is possible.
                    self._over = True
                    self._failed = found
                raise told(why, f"The writer {doing}", self._settings.servers) from None
            else:
                return

    def _take(self, step: Callable[[], object]) -> None:
        """Take a step. Raises KafkaException."""
        try:
            in_time(step, self._settings.seconds)
        except Unanswered:
            self._lost = True
            raise

    def _give_back(self) -> None:
        """Abort a transaction that has failed; the failure is told already."""
        try:
            self._take(lambda: self._producer.abort_transaction(self._settings.seconds))
        except KafkaException as error:
            self._over = True
            self._failed = error_of(error)
        else:
            self._open, self._failed = False, None

    def _check(self) -> None:
        """Raises what became known of earlier messages; until `abort`, so that no position is committed past a loss."""
        if self._failed is not None:
            raise self._told(self._failed)

    def _told(self, error: KafkaError) -> TidemillError:
        return told(error, "Messages were not sent", self._settings.servers)

    def _unreachable(self, what: str) -> Unreachable:
        return Unreachable(
            f"Kafka at {self._settings.servers} {what} for {self._settings.seconds:g} s.",
            hint=UP_WITH_ROOM,
        )

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        """Called by the client, in `poll`, for messages that failed."""
        if error is not None and error.code() not in _PURGED:
            self._failed = self._failed or error

    def _trouble(self, error: KafkaError) -> None:
        """Called by the client, in `poll`, for what concerns no message; what ends it is final."""
        if error.fatal():
            self._over = True
            self._failed = error

    def _fits(
        self,
        topic: str,
        limit: int,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        headers: Sequence[Headers] | None,
    ) -> None:
        """Raises LimitError."""
        if _longest(values) + (_longest(keys) if keys else 0) <= limit and not headers:
            return
        for at, value in enumerate(values):
            key = keys[at] if keys else None
            own = sum(len(name.encode()) + len(content or b"") for name, content in headers[at]) if headers else 0
            size = len(value or b"") + len(key or b"") + own
            if size > limit:
                raise LimitError(
                    f'A message of {size:,} bytes is larger than topic "{topic}" takes ({limit:,}).',
                    where=f"message {at + 1} of {len(values)}",
                    hint="raise the topic's max.message.bytes",
                )


def _longest(contents: Sequence[bytes | None]) -> int:
    try:
        return max(map(len, contents), default=0)  # type: ignore[arg-type]  # None raises, and is rare
    except TypeError:
        return max((len(one) for one in contents if one is not None), default=0)


def _shares(
    values: Sequence[bytes | None], keys: Sequence[bytes | None] | None, partitions: Sequence[int] | int | None
) -> Iterator[tuple[int, Sequence[bytes | None], Sequence[bytes | None] | None]]:
    """Messages by partition: a batch of the client has one partition for all, whatever its messages say."""
    if not isinstance(partitions, Sequence):
        yield _BY_KEY if partitions is None else partitions, values, keys
        return
    where: dict[int, list[int]] = {}
    for at, number in enumerate(partitions):
        where.setdefault(number, []).append(at)
    for number, places in where.items():
        own_keys = None if keys is None else [keys[at] for at in places]
        yield number, [values[at] for at in places], own_keys


def _rows(values: Sequence[bytes | None], keys: Sequence[bytes | None] | None) -> list[dict[str, bytes | None]]:
    """Rows as the client takes them, 90 ns a message."""
    if keys is None:
        return [{"value": value} for value in values]
    return [{"value": value, "key": key} for value, key in zip(values, keys, strict=True)]
