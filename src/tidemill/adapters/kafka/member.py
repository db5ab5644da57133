"""Port `topic`, its member: a consumer of a topic without messages, one partition a task, so that Kafka's groups share
out the tasks.

The positions of what the tasks read are committed under the name of the same group: the usual tools show its lag.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tidemill.adapters.kafka.errors import error_of, told
from tidemill.adapters.kafka.settings import KafkaSettings
from tidemill.model.errors import Fenced, TidemillError
from tidemill.ports.topic import Partition, Position, TaskInputs

#: Ends the names of topics that are shared out instead of tasks.
TASKS = ".__tasks"
_LONGEST_NAME = 249
#: While tasks are moved the members' number changes, and the broker knows the new one some milliseconds before them:
#: the next try has it. A member that is out is told otherwise.
_MOVING = (KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
#: Brokers forget a position that was not committed for a week, where its topic is not subscribed to: so what stays
#: where it is is committed again each day.
_AGAIN = 86_400.0
#: What was found at the start may be old already.
_AGAIN_AT_FIRST = 60.0
#: librdkafka leaves a group by itself after this many seconds more than a member may be silent: here it is known first.
_SLACK = 1.0


def tasks_topic(group: str) -> str:
    """The topic that stands for a group's tasks."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", group)
    if plain != group or len(plain) + len(TASKS) > _LONGEST_NAME:
        plain = f"{plain[:200]}-{zlib.crc32(group.encode()):08x}"
    return plain + TASKS


class KafkaMember:
    """A process in a group.

    Args:
        settings: of the project.
        group: its name.
        tasks: what it shares.
        session: who is silent for so long is out.
    """

    def __init__(self, settings: KafkaSettings, group: str, tasks: TaskInputs, session: timedelta) -> None:
        self.group = group
        self._settings = settings
        self._inputs = tasks
        self._session = session.total_seconds()
        milliseconds = int(self._session * 1000)
        must = {
            "group.id": group,
            "session.timeout.ms": milliseconds,
            # The group hears that it must share anew when its members ask; at the default of 3 s that takes as long.
            "heartbeat.interval.ms": max(50, min(1_000, milliseconds // 10)),
            "max.poll.interval.ms": milliseconds + int(_SLACK * 1000),
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            # Positions are told when no transaction is about to change them.
            "isolation.level": "read_committed",
        }
        self._consumer = settings.consumer({}, must)
        self._tasks: frozenset[int] = frozenset()
        self._polled = time.monotonic()
        self._failed: BaseException | None = None
        self._taken: Callable[[frozenset[int]], None] = _nothing
        self._given_up: Callable[[frozenset[int]], None] = _nothing
        #: Whether the tasks in `_tasks` are somebody else's already.
        self._out = False
        #: Positions that hold, and when they are to be committed again.
        self._standing: dict[Partition, tuple[Position, float]] = {}
        self._subscribe()

    def poll(
        self, taken: Callable[[frozenset[int]], None], given_up: Callable[[frozenset[int]], None], timeout: float
    ) -> None:
        """Take part."""
        self._taken, self._given_up = taken, given_up
        if self._tasks and time.monotonic() - self._polled >= self._session:
            self._begin_anew()
        message = self._consumer.poll(timeout)
        self._polled = time.monotonic()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        if message is not None:
            error = message.error()
            # Who was silent too long is told so; the tasks are given up by then, or will be by the next call.
            if error is not None and error.code() != KafkaError._MAX_POLL_EXCEEDED and not error.retriable():
                raise told(error, f'Group "{self.group}" cannot be followed', self._settings.servers)
        self._commit_standing()

    @property
    def tasks(self) -> frozenset[int]:
        """The member's tasks."""
        return self._tasks

    def committed(self, partitions: Sequence[Partition], timeout: float | None = None) -> Mapping[Partition, Position]:
        """How far the group has come."""
        if not partitions:
            return {}
        asked = [TopicPartition(*partition) for partition in partitions]
        try:
            found = self._consumer.committed(asked, timeout=self._settings.seconds if timeout is None else timeout)
            wrong = next((one.error for one in found if one.error is not None), None)
            if wrong is not None:
                raise KafkaException(wrong)
        except KafkaException as error:
            raise self._told(error, "was not asked for its positions") from None
        positions = positions_of(found)
        due = time.monotonic() + _AGAIN_AT_FIRST
        for partition, position in positions.items():
            if self._inputs.of(partition) in self._tasks:  # what others have committed is theirs to commit again
                self._standing.setdefault(partition, (position, due))
        return positions

    def close(self) -> None:
        """Leave."""
        self._taken = self._given_up = _nothing
        self._consumer.close()
        self._tasks = frozenset()

    def __del__(self) -> None:
        # Nobody left: the client, if it is collected while it is open, was seen to wait for callbacks of its own
        # without end, and it holds the interpreter meanwhile. Closing lets go of it.
        with suppress(Exception):
            self._consumer.close()

    def check(self, positions: Mapping[Partition, Position]) -> None:
        """Whether the member may commit these. Raises Fenced.

        The broker refuses a member that is out; but who was silent so long that the client left the group would commit
        as somebody without a group, and a task that went to another member is the same to the broker as one's own.
        """
        silent = time.monotonic() - self._polled
        if self._out or silent >= self._session or not self._consumer.memberid():
            raise Fenced(
                f'A member of group "{self.group}" has lost its place: it was silent for {silent:.1f} s.',
                hint="poll, and go on with its tasks",
            )
        self._inputs.see(positions, self._tasks)

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """Commit these. Raises Fenced, Unreachable."""
        self.check(positions)
        if not positions:
            return
        until = time.monotonic() + self._settings.seconds
        while True:
            try:
                done = self._consumer.commit(offsets=listed(positions), asynchronous=False)
                errors = [one.error for one in done or () if one.error is not None]
                if errors:
                    raise KafkaException(errors[0])
            except KafkaException as error:
                found = error_of(error)
                if (found.code() in _MOVING or found.retriable()) and time.monotonic() < until:
                    time.sleep(0.05)
                    self.check(positions)
                    continue
                raise self._told(error, "did not commit") from None
            self.stands(positions)
            return

    def stands(self, positions: Mapping[Partition, Position]) -> None:
        """These are committed."""
        due = time.monotonic() + _AGAIN
        self._standing.update({partition: (position, due) for partition, position in positions.items()})

    @property
    def consumer(self) -> Consumer:
        """Who a transaction must name, so that it fails with the member's place."""
        return self._consumer

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            [tasks_topic(self.group)], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _begin_anew(self) -> None:
        """Silent for too long: all tasks are lost, whatever the client, whose threads went on, has yet to tell."""
        self._out = True
        self._give_up(self._tasks)
        self._out = False
        self._consumer.unsubscribe()
        self._subscribe()

    def _commit_standing(self) -> None:
        now = time.monotonic()
        due = {
            partition: position
            for partition, (position, when) in self._standing.items()
            if when <= now and self._inputs.of(partition) in self._tasks
        }
        if due:
            self.commit(due)

    def _told(self, error: KafkaException, doing: str) -> TidemillError:
        return told(error_of(error), f'Group "{self.group}" {doing}', self._settings.servers)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._polled = time.monotonic()
        # With an offset none is asked for, and paused nothing is fetched: there are no messages.
        consumer.incremental_assign([TopicPartition(one.topic, one.partition, 0) for one in partitions])
        if partitions:
            consumer.pause(partitions)
        numbers = frozenset(one.partition for one in partitions)
        self._tasks |= numbers
        self._call(self._taken, numbers)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._polled = time.monotonic()
        self._give_up(frozenset(one.partition for one in partitions))

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._out = True
        self._give_up(frozenset(one.partition for one in partitions))
        self._out = False

    def _give_up(self, numbers: frozenset[int]) -> None:
        numbers &= self._tasks
        self._call(self._given_up, numbers)
        self._tasks -= numbers
        self._standing = {p: found for p, found in self._standing.items() if self._inputs.of(p) not in numbers}

    def _call(self, back: Callable[[frozenset[int]], None], numbers: frozenset[int]) -> None:
        """Librdkafka's threads cannot carry an exception through: `poll` raises it."""
        if not numbers:
            return
        try:
            back(numbers)
        except BaseException as error:  # raised by poll
            self._failed = self._failed or error


def _nothing(tasks: frozenset[int]) -> None:
    """Whoever leaves has no more to do."""


def listed(positions: Mapping[Partition, Position]) -> list[TopicPartition]:
    """Positions as the client has them."""
    return [
        TopicPartition(partition.topic, partition.number, position.offset, position.note)
        for partition, position in positions.items()
    ]


def positions_of(found: Sequence[TopicPartition]) -> dict[Partition, Position]:
    """Positions as the port has them; a negative offset is none."""
    return {
        Partition(one.topic, one.partition): Position(one.offset, one.metadata or "")
        for one in found
        if one.offset >= 0
    }
