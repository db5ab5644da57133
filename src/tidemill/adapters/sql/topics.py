"""Port `topic` in the metadata database: the embedded default, so that a first stream needs no server.

A writer's commit is one transaction of that database, with whatever else it holds. Reading and writing go by blocks
of messages (`topic_blocks.py`); readers are in `topics_reader.py`, writers in `topics_writer.py`, members of groups
in `topics_member.py`, what is removed in `topics_tidy.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, select

from tidemill.adapters.sql.session import Session
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topic_blocks import unpack
from tidemill.adapters.sql.topics_member import SqlMember, live_members
from tidemill.adapters.sql.topics_reader import SqlReader
from tidemill.adapters.sql.topics_schema import topic_blocks, topic_partitions, topic_positions, topics
from tidemill.adapters.sql.topics_tidy import tidy, trim
from tidemill.adapters.sql.topics_writer import SqlWriter, open_epoch
from tidemill.model.errors import Busy, Refused, UnknownName
from tidemill.model.frame.topic import Cleanup
from tidemill.model.stream import Guarantee
from tidemill.plan.partitioning import largest
from tidemill.ports.bell import Bell
from tidemill.ports.clock import Clock
from tidemill.ports.runs import always
from tidemill.ports.topic import SESSION, Partition, Position, TaskInputs, TopicInfo, TopicSpec


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the database knows it; one that is deleted and made again has another id."""

    id: int
    name: str
    partitions: int
    cleanup: Cleanup
    options: Mapping[str, str]
    retention: int | None


class SqlTopics:
    """Topics in the metadata database. Threads may share it; readers, writers and members are for one thread each.

    Args:
        metadata: the database.
        clock: dates messages; the time of sessions on SQLite, whose processes share a computer. PostgreSQL has its
            own, the same for members on all computers, unless `own_time` is False.
        bells: makes a bell of the project's topics, which wakes waiting readers at once; without one they look 50
            times a second on SQLite, where that is cheap, and 5 times on PostgreSQL.
        holder: names this process. `alive`: whether the process of a holder may still run; of one that is known to be
            gone no group waits until its session is over.
    """

    in_metadata = True

    def __init__(
        self,
        metadata: SqlMetadata,
        clock: Clock,
        *,
        own_time: bool = True,
        bells: Callable[[], Bell] | None = None,
        holder: str = "",
        alive: Callable[[str], bool] = always,
    ) -> None:
        self.metadata = metadata
        self.clock = clock
        self._own_time = own_time
        self.bells = bells
        self.holder = holder
        self.alive = alive

    def create(self, spec: TopicSpec) -> TopicInfo:
        """Make a topic, or find it made. Raises Refused."""
        retention = None if spec.retention is None else spec.retention // timedelta(milliseconds=1)
        values = {"partitions": spec.partitions, "cleanup": spec.cleanup, "retention": retention}
        with self.metadata.session(writing=True) as session:
            made = session.add(
                session.insert(topics)
                .values(project=session.project, name=spec.name, options=dict(spec.options), **values)
                .on_conflict_do_nothing()
                .returning(topics.c.id)
            )
            if made is not None:
                zero = dict.fromkeys(("first", "end", "cleaned", "settling", "settled"), 0)
                rows = [{"topic_id": made.id, "number": number, **zero} for number in range(spec.partitions)]
                session.add_all(session.insert(topic_partitions), rows)
            found = self.topic(session, spec.name)
            if (found.partitions, found.cleanup) != (spec.partitions, spec.cleanup):
                raise Refused(
                    f'Topic "{spec.name}" is there with {found.partitions} partitions and clean-up '
                    f'"{found.cleanup}", not {spec.partitions} and "{spec.cleanup}".',
                    hint="delete it, or choose another name",
                )
            return self._info(session, found)

    def describe(self, name: str, timeout: float | None = None) -> TopicInfo | None:
        """A topic as it is now; None: there is none."""
        with self.metadata.session(writing=False) as session:
            found = self.find(session, name)
            return self._info(session, found) if found else None

    def names(self) -> list[str]:
        """All topics in order."""
        with self.metadata.session(writing=False) as session:
            return self._names(session)

    def delete(self, name: str) -> None:
        """Remove a topic with all messages, and how far groups have come in it. Raises UnknownName."""
        with self.metadata.session(writing=True) as session:
            found = self.topic(session, name)
            # Locked in the order of writers, who lock partitions by number, so that none waits for the other.
            parts = select(topic_partitions).where(topic_partitions.c.topic_id == found.id)
            ordered = parts.order_by(topic_partitions.c.number)
            session.all(ordered if session.dialect == "sqlite" else ordered.with_for_update())
            for table in (topic_blocks, topic_positions, topic_partitions):
                session.change(delete(table).where(table.c.topic_id == found.id))
            session.change(delete(topics).where(topics.c.id == found.id))

    def trim(self, upto: Mapping[Partition, int]) -> None:
        """Let whole blocks go that are before these offsets; in short transactions."""
        for partition, offset in upto.items():
            with self.metadata.session(writing=False) as session:
                found = self.partition_of(session, partition)
            if found.cleanup == "compact":
                raise Refused(f'Topic "{partition.topic}" compacts: what it keeps goes by key.')
            trim(self.metadata, found.id, partition.number, offset)

    def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        """By partition: the offset of the first message that is not older than `timestamp`; the end without one."""
        with self.metadata.session(writing=False) as session:
            found = self.topic(session, topic)
            ends = self._info(session, found).end
            return tuple(_first_since(session, found.id, number, timestamp, end) for number, end in enumerate(ends))

    def reader(self, *, ahead: int = 200_000) -> SqlReader:
        """Open a reader; about `ahead` messages, and 32 MiB, may wait in memory."""
        return SqlReader(self, ahead)

    def writer(self, identity: str, guarantee: Guarantee = "at-least-once") -> SqlWriter:
        """Open a writer; an exactly-once one fences those of the same identity."""
        epoch = None
        if guarantee == "exactly-once":
            with self.metadata.session(writing=True) as session:
                epoch = open_epoch(session, identity)
        return SqlWriter(self, identity, epoch)

    def member(
        self,
        group: str,
        tasks: int,
        *,
        session: timedelta = SESSION,
        inputs: Mapping[Partition, int] | None = None,
    ) -> SqlMember:
        """Join a group."""
        return SqlMember(self, group, TaskInputs(tasks, inputs), session)

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        """How far a group has come."""
        c = topic_positions.c
        of_group = (c.project == self.metadata.project, c.group_name == group)
        found: dict[Partition, Position] = {}
        with self.metadata.session(writing=False) as session:
            for name in dict.fromkeys(partition.topic for partition in partitions):
                if (topic := self.find(session, name)) is not None:
                    query = select(c.number, c.position, c.note).where(*of_group, c.topic_id == topic.id)
                    found |= {Partition(name, r.number): Position(r.position, r.note) for r in session.all(query)}
        return {partition: found[partition] for partition in partitions if partition in found}

    def reset(self, group: str, positions: Mapping[Partition, int | None]) -> None:
        """Set how far a group has come. Raises Busy."""
        with self.metadata.session(writing=True) as session:
            if live := live_members(session, group, self.now(session), self.alive):
                raise Busy(f'Group "{group}" has {len(live)} members.', hint="stop them first")
            kept = {one: Position(offset) for one, offset in positions.items() if offset is not None}
            self.move(session, group, kept)
            c = topic_positions.c
            for partition in positions.keys() - kept.keys():
                topic = self.topic(session, partition.topic)
                this = (c.topic_id == topic.id, c.number == partition.number)
                mine = (c.project == session.project, c.group_name == group)
                session.change(delete(topic_positions).where(*mine, *this))

    def tidy(self, now: datetime) -> int:
        """Remove old messages, and compact; in short transactions. Returns how many messages went."""
        return tidy(self.metadata, now)

    def close(self) -> None:
        """Nothing to let go: the database is its owner's."""

    # -- for readers, writers and members

    def find(self, session: Session, name: str) -> Topic | None:
        """A topic; None: there is none."""
        c = topics.c
        row = session.first(select(topics).where(c.project == session.project, c.name == name))
        if row is None:
            return None
        return Topic(row.id, row.name, row.partitions, row.cleanup, row.options, row.retention)

    def topic(self, session: Session, name: str) -> Topic:
        """A topic. Raises UnknownName."""
        found = self.find(session, name)
        if found is None:
            raise UnknownName.of("topic", name, self._names(session))
        return found

    def partition_of(self, session: Session, partition: Partition) -> Topic:
        """The topic of a partition. Raises UnknownName: one of them is not there."""
        found = self.topic(session, partition.topic)
        if not 0 <= partition.number < found.partitions:
            known = [f"{partition.topic}[{number}]" for number in range(found.partitions)]
            raise UnknownName.of("partition", str(partition), known)
        return found

    def move(self, session: Session, group: str, positions: Mapping[Partition, Position]) -> None:
        """Set how far a group has come."""
        rows = [
            {
                "project": session.project,
                "group_name": group,
                "topic_id": self.partition_of(session, partition).id,
                "number": partition.number,
                "position": position.offset,
                "note": position.note,
            }
            for partition, position in sorted(positions.items())
        ]
        statement = session.insert(topic_positions)
        changed = {"position": statement.excluded.position, "note": statement.excluded.note}
        key = ["project", "group_name", "topic_id", "number"]
        session.add_all(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)

    def now(self, session: Session) -> datetime:
        """The time of sessions."""
        if session.dialect == "sqlite" or not self._own_time:
            return self.clock.now()
        row = session.first(select(func.clock_timestamp().label("now")))
        assert row is not None
        moment: datetime = row.now
        return moment

    def _names(self, session: Session) -> list[str]:
        c = topics.c
        return sorted(row.name for row in session.all(select(c.name).where(c.project == session.project)))

    def _info(self, session: Session, topic: Topic) -> TopicInfo:
        c = topic_partitions.c
        rows = session.all(select(c.first, c.end).where(c.topic_id == topic.id).order_by(c.number))
        first, end = tuple(row.first for row in rows), tuple(row.end for row in rows)
        return TopicInfo(topic.name, first, end, topic.cleanup, largest(topic.options), str(topic.id))


_SINCE = (
    select(topic_blocks.c.first, topic_blocks.c.messages, topic_blocks.c.body)
    .where(
        topic_blocks.c.topic_id == bindparam("topic"),
        topic_blocks.c.number == bindparam("partition"),
        topic_blocks.c.newest >= bindparam("since"),
    )
    .order_by(topic_blocks.c.last)
    .limit(1)
)


def _first_since(session: Session, topic: int, number: int, timestamp: int, end: int) -> int:
    row = session.first(_SINCE.params(topic=topic, partition=number, since=timestamp))
    if row is None:
        return end
    offsets, columns = unpack(row.body, row.first, row.messages)
    return next(o for o, t in zip(offsets, columns.timestamps, strict=True) if t >= timestamp)
