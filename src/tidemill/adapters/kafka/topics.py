"""Port `topic` on Apache Kafka: makes, describes and removes topics, and opens who reads, writes and takes part."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from tidemill.adapters.kafka.errors import UNKNOWN_TOPIC, answer, error_of, told
from tidemill.adapters.kafka.limits import Limits
from tidemill.adapters.kafka.login import see_login
from tidemill.adapters.kafka.member import TASKS, KafkaMember, positions_of, tasks_topic
from tidemill.adapters.kafka.offsets import Offsets
from tidemill.adapters.kafka.positions import ask_positions
from tidemill.adapters.kafka.reader import KafkaReader
from tidemill.adapters.kafka.settings import KafkaSettings, Options
from tidemill.adapters.kafka.writer import KafkaWriter
from tidemill.model.errors import Busy, Refused, TidemillError, UnknownName, Unreachable
from tidemill.model.frame.topic import Cleanup
from tidemill.model.stream import Guarantee
from tidemill.ports.topic import SESSION, Partition, Position, TaskInputs, TopicInfo, TopicSpec

_Result = TypeVar("_Result")
#: Seconds between two looks at whether a topic has come, or gone.
_LOOK = 0.02
#: Seconds that brokers may take to let messages go: who asks for it has other things to do.
_TRIMMING = 2.5
#: Answers of a group that has members.
_HAS_MEMBERS = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP, KafkaError.REBALANCE_IN_PROGRESS)


class KafkaTopics:
    """Topics of a cluster. Nothing is connected before it is used.

    Args:
        options: librdkafka's, by its names: `bootstrap.servers`, `security.protocol`, `sasl.username` ...
        patience: how long brokers may not answer before they are called unreachable.

    Raises:
        SettingsError: an option is wrong, or there is no address.
    """

    def __init__(self, options: Options, *, patience: timedelta = timedelta(seconds=30)) -> None:
        self._settings = KafkaSettings(dict(options), patience)
        self._client: AdminClient | None = None
        self._let_in = False

    @property
    def in_metadata(self) -> bool:
        """A commit is Kafka's own transaction."""
        return False

    def create(self, spec: TopicSpec) -> TopicInfo:
        """Make a topic, or find it made; it can be used when this returns."""
        # Timestamps are event times: Kafka 4 refuses those that are an hour ahead of its clock.
        any_time = {"message.timestamp.after.max.ms": str(2**63 - 1)}
        settings = {"cleanup.policy": spec.cleanup, "retention.ms": "-1", **any_time, **spec.options}
        if spec.retention is not None:
            settings["retention.ms"] = str(int(spec.retention.total_seconds() * 1000))
        made = NewTopic(spec.name, spec.partitions, spec.replicas or -1, config=settings)

        def is_there() -> bool:
            try:
                self._wait(self._admin.create_topics([made], request_timeout=self._settings.seconds))
            except KafkaException as error:
                found = error_of(error)
                # A broker that has just begun, or that is too busy to say that it lives, is fenced for a while.
                if found.code() == KafkaError.INVALID_REPLICATION_FACTOR and "fenced" in found.str():
                    return False
                if found.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise self._told(error, f'Topic "{spec.name}" cannot be made') from None
            return True

        self._until(is_there, f'topic "{spec.name}" cannot be made: all brokers are fenced')
        seen: list[TopicInfo] = []

        def appears() -> bool:
            # Brokers hear of a topic one after the other: one that leads a partition may not know it yet.
            found = self.describe(spec.name)
            seen.extend([] if found is None else [found])
            return bool(seen)

        self._until(appears, f'topic "{spec.name}" does not appear')
        found = seen[0]
        if (found.partitions, found.cleanup) != (spec.partitions, spec.cleanup):
            raise Refused(
                f'Topic "{spec.name}" is there with {found.partitions} partitions and cleanup "{found.cleanup}", '
                f'not {spec.partitions} and "{spec.cleanup}".',
                hint="use it as it is, or choose another name",
            )
        return found

    def describe(self, name: str, timeout: float | None = None) -> TopicInfo | None:
        """A topic as it is now."""
        if timeout is not None:
            return self._hasty(timeout).describe(name)
        count = self._offsets.partitions(name)
        if count is None:
            return None
        try:
            partitions = [Partition(name, number) for number in range(count)]
            sent = self._offsets.sent(partitions)  # before the ends: all up to here is over where these are no less
            bounds = self._offsets.bounds(partitions)
            policy, largest = self._options(name)
            id_ = self._id(name)
        except UnknownName:
            return None  # it went between two questions
        first, end = zip(*bounds.values(), strict=True)
        return TopicInfo(name, first, end, policy, largest, id_, tuple(map(max, sent.values(), end)))

    def names(self) -> list[str]:
        """All topics in order, without Kafka's own and those that stand for tasks."""
        return sorted(name for name in self._offsets.names() if not name.startswith("__") and not name.endswith(TASKS))

    def delete(self, name: str) -> None:
        """Remove a topic; it is gone when this returns."""
        try:
            self._wait(self._admin.delete_topics([name], request_timeout=self._settings.seconds))
        except KafkaException as error:
            if error_of(error).code() in UNKNOWN_TOPIC:
                raise UnknownName.of("topic", name, self.names()) from None
            raise self._told(error, f'Topic "{name}" cannot be removed') from None
        self._until(lambda: self._offsets.partitions(name) is None, f'topic "{name}" does not go')

    def trim(self, upto: Mapping[Partition, int]) -> None:
        """Have brokers delete records before these offsets."""
        hasty = self._hasty(_TRIMMING)
        for topic in {partition.topic for partition in upto}:  # the client waits long for one that is not there
            if hasty._offsets.partitions(topic) is None:
                raise UnknownName.of("topic", topic, self.names())
        asked = [TopicPartition(*partition, offset) for partition, offset in upto.items()]
        for where, future in self._admin.delete_records(asked, request_timeout=hasty._settings.seconds).items():
            try:
                answer(future, hasty._settings.seconds)
            except KafkaException as error:
                if error_of(error).code() == KafkaError.POLICY_VIOLATION:
                    raise Refused(f'Topic "{where.topic}" compacts: what it keeps goes by key.') from None
                raise self._told(error, f"Messages of {where.topic}[{where.partition}] cannot be deleted") from None

    def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        """Offsets of the first messages that are not older."""
        count = self._offsets.partitions(topic)
        if count is None:
            raise UnknownName.of("topic", topic, self.names())
        partitions = [Partition(topic, number) for number in range(count)]
        found = self._offsets.at(partitions, timestamp)
        bounds = self._offsets.bounds(partitions)
        return tuple(found[one] if found[one] >= 0 else bounds[one][1] for one in partitions)

    def reader(self, *, ahead: int = 200_000) -> KafkaReader:
        """Open a reader."""
        return KafkaReader(self._settings, self._offsets, ahead)

    def writer(self, identity: str, guarantee: Guarantee = "at-least-once") -> KafkaWriter:
        """Open a writer. Its identity is Kafka's `transactional.id`."""
        return KafkaWriter(self._settings, Limits(self._settings, self._admin, self._offsets), identity, guarantee)

    def member(
        self,
        group: str,
        tasks: int,
        *,
        session: timedelta = SESSION,
        inputs: Mapping[Partition, int] | None = None,
    ) -> KafkaMember:
        """Join a group. Raises Refused: it has members that share another number of tasks."""
        self._make_tasks(group, tasks)
        return KafkaMember(self._settings, group, TaskInputs(tasks, inputs), session)

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        """How far a group has come."""
        if not partitions:
            return {}
        return positions_of(ask_positions(self._seen, group, partitions))

    def reset(self, group: str, positions: Mapping[Partition, int | None]) -> None:
        """Set how far a group has come."""
        if self._has_members(group):
            raise self._busy(group)
        if None in positions.values():
            self._forget(group, {partition for partition, offset in positions.items() if offset is None})
        kept = [TopicPartition(*partition, offset) for partition, offset in positions.items() if offset is not None]
        self._set(group, kept)

    def close(self) -> None:
        """Let everything go."""
        self._client = None

    def _hasty(self, seconds: float) -> KafkaTopics:
        """The same cluster, for who cannot wait for long."""
        patience = min(self._settings.patience, timedelta(seconds=seconds))
        other = KafkaTopics(self._settings.options, patience=patience)
        other._client, other._let_in = self._admin, True
        return other

    @property
    def _seen(self) -> KafkaSettings:
        """The settings, once they were let in."""
        if not self._let_in:
            see_login(self._settings)
            self._let_in = True
        return self._settings

    @property
    def _admin(self) -> AdminClient:
        if self._client is None:
            self._client = self._seen.admin()
        return self._client

    @property
    def _offsets(self) -> Offsets:
        return Offsets(self._settings, self._admin)

    def _make_tasks(self, group: str, tasks: int) -> None:
        """Have the topic that stands for the group's tasks."""
        name = tasks_topic(group)
        there = self._offsets.partitions(name)
        if there is not None and there != tasks:
            if self._has_members(group):
                raise Refused(
                    f'Group "{group}" has members that share {there} tasks, not {tasks}.', hint="stop them first"
                )
            if there < tasks:
                more = self._admin.create_partitions([NewPartitions(name, tasks)])
                try:
                    self._wait(more)
                except KafkaException as error:
                    raise self._told(error, f'Group "{group}" cannot have {tasks} tasks') from None
                self._until(lambda: self._offsets.partitions(name) == tasks, f'topic "{name}" does not grow')
                return
            self.delete(name)
        self.create(TopicSpec(name, tasks, options={"segment.bytes": "1048576"}))

    def _has_members(self, group: str) -> bool:
        try:
            found = self._wait(self._admin.describe_consumer_groups([group], request_timeout=self._settings.seconds))
        except KafkaException as error:
            if error_of(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return False
            raise self._told(error, f'Group "{group}" cannot be looked up') from None
        return bool(found.members)

    def _forget(self, group: str, partitions: set[Partition]) -> None:
        """The client can forget a whole group only: what shall stay is set again."""
        known = [one for one in ask_positions(self._seen, group, self._offsets.all()) if one.offset >= 0]
        try:
            self._wait(self._admin.delete_consumer_groups([group], request_timeout=self._settings.seconds))
        except KafkaException as error:
            code = error_of(error).code()
            if code in _HAS_MEMBERS:
                raise self._busy(group) from None
            if code != KafkaError.GROUP_ID_NOT_FOUND:
                raise self._told(error, f'Group "{group}" cannot forget') from None
        self._set(group, [one for one in known if Partition(one.topic, one.partition) not in partitions])

    def _set(self, group: str, positions: list[TopicPartition]) -> None:
        if not positions:
            return
        asked = ConsumerGroupTopicPartitions(group, positions)
        try:
            done = self._wait(self._admin.alter_consumer_group_offsets([asked], request_timeout=self._settings.seconds))
            wrong = next((one.error for one in done.topic_partitions or () if one.error is not None), None)
            if wrong is not None:
                raise KafkaException(wrong)
        except KafkaException as error:
            code = error_of(error).code()
            if code in _HAS_MEMBERS:
                raise self._busy(group) from None
            if code in UNKNOWN_TOPIC:
                raise UnknownName.of("topic", positions[0].topic, self.names()) from None
            raise self._told(error, f'Group "{group}" cannot be set') from None

    def _id(self, name: str) -> str:
        try:
            found = self._wait(
                self._admin.describe_topics(TopicCollection([name]), request_timeout=self._settings.seconds)
            )
        except KafkaException as error:
            if error_of(error).code() in UNKNOWN_TOPIC:
                raise UnknownName.of("topic", name, ()) from None
            raise self._told(error, f'Topic "{name}" cannot be described') from None
        return str(found.topic_id)

    def _options(self, name: str) -> tuple[Cleanup, int]:
        """How it is cleaned up, and the largest message that it takes."""
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name)]
        try:
            found = self._wait(self._admin.describe_configs(asked, request_timeout=self._settings.seconds))
        except KafkaException as error:
            if error_of(error).code() in UNKNOWN_TOPIC:
                raise UnknownName.of("topic", name, ()) from None
            raise self._told(error, f'Topic "{name}" cannot be described') from None
        policy: Cleanup = "compact" if "compact" in found["cleanup.policy"].value else "delete"
        return policy, int(found["max.message.bytes"].value)

    def _until(self, reached: Callable[[], bool], trouble: str) -> None:
        until = time.monotonic() + self._settings.seconds
        while not reached():
            if time.monotonic() > until:
                raise Unreachable(f"Kafka at {self._settings.servers}: {trouble}.")
            time.sleep(_LOOK)

    def _wait(self, futures: Mapping[Any, Future[_Result]]) -> _Result:
        """What the one future gives. Raises KafkaException."""
        (future,) = futures.values()
        return answer(future, self._settings.seconds)

    def _told(self, error: KafkaException, doing: str) -> TidemillError:
        return told(error_of(error), doing, self._settings.servers)

    @staticmethod
    def _busy(group: str) -> Busy:
        return Busy(f'Group "{group}" has members.', hint="stop them first")
