"""Writers of embedded topics: what they send is packed outside of the transaction that makes it count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, update

from tidemill.adapters.sql.session import Session
from tidemill.adapters.sql.store import SqlTx
from tidemill.adapters.sql.topic_blocks import Block, joined, pack
from tidemill.adapters.sql.topics_member import SqlMember
from tidemill.adapters.sql.topics_schema import topic_blocks, topic_partitions, topic_writers
from tidemill.model.errors import DataError, Fenced, UnknownName
from tidemill.plan.partitioning import Columns, KnownPlaces, must_fit, split
from tidemill.ports.bell import Bell
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import LONGEST_NOTE, Headers, Member, Partition, Position

if TYPE_CHECKING:
    from tidemill.adapters.sql.topics import SqlTopics, Topic

_p = topic_partitions.c
_END = select(_p.end).where(_p.topic_id == bindparam("topic"), _p.number == bindparam("partition"))
_MOVE_END = update(topic_partitions).where(_p.topic_id == bindparam("of_topic"), _p.number == bindparam("of_partition"))
_MOVE_END = _MOVE_END.values(end=bindparam("new_end"))


def open_epoch(session: Session, identity: str) -> int:
    """Fence the writers of an identity; returns the epoch of the new one."""
    made = session.add(
        session.insert(topic_writers)
        .values(project=session.project, identity=identity, epoch=1)
        .on_conflict_do_update(index_elements=["project", "identity"], set_={"epoch": topic_writers.c.epoch + 1})
        .returning(topic_writers.c.epoch)
    )
    assert made is not None
    return int(made.epoch)


class SqlWriter:
    """The port's `Writer`.

    Args:
        topics: where to.
        identity: who writes.
        epoch: of an exactly-once writer; None: at-least-once.
    """

    def __init__(self, topics: SqlTopics, identity: str, epoch: int | None) -> None:
        self._topics = topics
        self._identity = identity
        self._epoch = epoch
        self._known: dict[str, tuple[Topic, KnownPlaces]] = {}
        self._sent: dict[tuple[int, Partition], list[Columns]] = {}
        self._turn = 0
        self._bell: Bell | None = None

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
        """Send messages, in columns; at least once: they are there when it returns. Raises UnknownName, DataError."""
        if not len(values):
            return
        if timestamps is None:
            timestamps = [self._now()] * len(values)
        # Copied: it waits for the commit, and the caller may use its lists again.
        listed = [None] * len(values) if keys is None else list(keys)
        columns = Columns(list(timestamps), listed, list(values), None if headers is None else list(headers))
        found, places = self._topic(topic)
        must_fit(columns, found.options, topic)
        if found.cleanup == "compact" and any(key is None for key in columns.keys):
            raise DataError(
                f'Topic "{topic}" keeps the newest message of each key: a message without one has no place.'
            )
        parts = split(columns, partitions, places, self._in_turn)
        if self._epoch is None:
            sent = {(found.id, Partition(topic, number)): [part] for number, part in parts.items()}
            try:
                self._send_at_once(sent)
            except UnknownName:
                # Deleted since it was first met. If it was made again, it is another topic now.
                self._known = {}
                self.send(topic, values, keys=keys, partitions=partitions, timestamps=timestamps, headers=headers)
            return
        for number, part in parts.items():
            self._sent.setdefault((found.id, Partition(topic, number)), []).append(part)

    def flush(self) -> None:
        """Nothing is on its way. Raises Fenced."""
        if self._epoch is not None:
            with self._topics.metadata.session(writing=False) as session:
                self._must_be_newest(session)

    def commit(
        self,
        positions: Mapping[Partition, Position],
        member: Member | None = None,
        also: Callable[[Tx], None] | None = None,
    ) -> None:
        """Make it all count, in one transaction. Raises Fenced, Unreachable."""
        for position in positions.values():
            if len(position.note.encode()) > LONGEST_NOTE:
                raise DataError(f"The note of a commit is longer than {LONGEST_NOTE} bytes.")
        packed = _packed(self._sent, self._now())
        try:
            with self._topics.metadata.session(writing=True) as session:
                self._must_be_newest(session)
                if member is not None:
                    assert isinstance(member, SqlMember), "a member of other topics"
                    member.check(session, positions)
                if also is not None:
                    also(SqlTx(session))
                _append(session, packed)
                if member is not None:
                    self._topics.move(session, member.group, positions)
        except (Fenced, UnknownName):
            self.abort()
            raise
        self._sent = {}
        if packed:
            self._ring()

    def abort(self) -> None:
        """Forget what was sent since the last commit."""
        self._sent = {}
        self._known = {}

    def close(self) -> None:
        """Let everything go."""
        self.abort()
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def _send_at_once(self, sent: Mapping[tuple[int, Partition], Sequence[Columns]]) -> None:
        packed = _packed(sent, self._now())
        with self._topics.metadata.session(writing=True) as session:
            _append(session, packed)
        self._ring()

    def _topic(self, name: str) -> tuple[Topic, KnownPlaces]:
        if name not in self._known:
            with self._topics.metadata.session(writing=False) as session:
                found = self._topics.topic(session, name)
            self._known[name] = (found, KnownPlaces(found.partitions))
        return self._known[name]

    def _must_be_newest(self, session: Session) -> None:
        if self._epoch is None:
            return
        c = topic_writers.c
        query = select(c.epoch).where(c.project == session.project, c.identity == self._identity)
        row = session.first(query, lock=True)
        if row is None or row.epoch != self._epoch:
            raise Fenced(f'A newer writer "{self._identity}" has taken over.')

    def _ring(self) -> None:
        if self._topics.bells is not None:
            self._bell = self._bell or self._topics.bells()
            self._bell.ring()

    def _now(self) -> int:
        return int(self._topics.clock.now().timestamp() * 1000)

    def _in_turn(self) -> int:
        self._turn += 1
        return self._turn


def _packed(
    sent: Mapping[tuple[int, Partition], Sequence[Columns]], now: int
) -> dict[tuple[int, Partition], list[Block]]:
    found = {key: pack(joined(parts)) for key, parts in sorted(sent.items())}
    # Messages without a timestamp are kept as long as if they had been made now.
    return {
        key: [block if block.newest >= 0 else replace(block, newest=now) for block in blocks]
        for key, blocks in found.items()
    }


def _append(session: Session, packed: Mapping[tuple[int, Partition], Sequence[Block]]) -> None:
    """Add blocks, in the order of partitions, so that no two writers wait for each other.

    The lock on a partition's row is held until the transaction ends: whoever comes later gets offsets, and shows
    them, after this one. A reader that saw an offset can therefore go on behind it without missing any.
    """
    rows: list[dict[str, object]] = []
    moves: list[dict[str, int]] = []
    for (topic, partition), blocks in packed.items():
        row = session.first(_END.params(topic=topic, partition=partition.number), lock=True)
        if row is None:
            raise UnknownName(f'Topic "{partition.topic}" was deleted while it was written.')
        end = row.end
        for block in blocks:
            rows.append(block_row(topic, partition.number, end, end + block.messages - 1, block))
            end += block.messages
        moves.append({"of_topic": topic, "of_partition": partition.number, "new_end": end})
    session.add_all(_MOVE_END, moves)
    session.add_all(session.insert(topic_blocks), rows)


def block_row(topic: int, number: int, first: int, last: int, block: Block) -> dict[str, object]:
    """The row of a block."""
    return {
        "topic_id": topic,
        "number": number,
        "first": first,
        "last": last,
        "messages": block.messages,
        "size": len(block.body),
        "newest": block.newest,
        "body": block.body,
    }
