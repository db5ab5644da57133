"""What goes from embedded topics: messages older than the retention, and all but the newest of each key.

The maintenance loop calls it. Each transaction takes few blocks, so that writers wait for milliseconds; a death
between two of them leaves a partition that is right and partly tidied.

Compaction keeps tombstones for a while (`delete.retention.ms`, as in Kafka): a reader that rebuilds its state may
have seen the value already, and must still come upon the tombstone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, func, select, update

from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topic_blocks import BLOCK_BYTES, BLOCK_MESSAGES, joined, pack, unpack
from tidemill.adapters.sql.topics_schema import topic_blocks, topic_partitions, topics
from tidemill.adapters.sql.topics_writer import block_row
from tidemill.plan.partitioning import Columns

#: Blocks that one transaction deletes, and bytes that one rewrites.
_DELETED, _REWRITTEN = 500, 16 << 20
#: Keys that are known at a time, of those that were written since the last compaction: about 150 MB.
_KEYS = 1_000_000
#: The option for how long tombstones stay, and its default.
TOMBSTONES_OPTION, TOMBSTONES = "delete.retention.ms", 24 * 3_600_000
_b, _p = topic_blocks.c, topic_partitions.c


def tidy(metadata: SqlMetadata, now: datetime) -> int:
    """Tidy all topics of the project; returns how many messages went."""
    c = topics.c
    gone = 0
    with metadata.session(writing=False) as session:
        columns = (c.id, c.cleanup, c.retention, c.options)
        found = session.all(
            select(*columns, _p.number)
            .select_from(topics.join(topic_partitions))
            .where(c.project == session.project)
            .order_by(c.id, _p.number)
        )
    for row in found:
        if row.cleanup == "compact":
            stay = timedelta(milliseconds=int(row.options.get(TOMBSTONES_OPTION, TOMBSTONES)))
            gone += _Compaction(metadata, row.id, row.number).run(now, stay)
        elif row.retention is not None:
            oldest = int(now.timestamp() * 1000) - row.retention
            gone += _expire(metadata, row.id, row.number, "newest", oldest)
    return gone


def trim(metadata: SqlMetadata, topic: int, number: int, offset: int) -> None:
    """Let blocks go all of whose messages are before an offset."""
    _expire(metadata, topic, number, "last", offset)


def _expire(metadata: SqlMetadata, topic: int, number: int, column: Literal["newest", "last"], bound: int) -> int:
    """Delete blocks at the beginning of a partition as long as a column is below a bound; gives how many messages."""
    gone = 0
    while some := _expire_some(metadata, topic, number, column, bound):
        gone += some
    return gone


def _expire_some(metadata: SqlMetadata, topic: int, number: int, column: str, bound: int) -> int:
    here = (_b.topic_id == topic, _b.number == number)
    with metadata.session(writing=True) as session:
        if _locked(session, topic, number) is None:
            return 0
        query = select(_b.first, _b.last, _b.messages, _b.newest).where(*here).order_by(_b.last).limit(_DELETED)
        upto, gone = None, 0
        for row in session.all(query):
            if getattr(row, column) >= bound:
                break
            upto, gone = row.last, gone + row.messages
        if upto is not None:
            session.change(delete(topic_blocks).where(*here, _b.last <= upto))
            this = update(topic_partitions).where(_p.topic_id == topic, _p.number == number)
            session.change(this.values(first=upto + 1))
        return gone


def _locked(session: Session, topic: int, number: int) -> AnyRow | None:
    query = select(topic_partitions).where(_p.topic_id == topic, _p.number == number)
    return session.first(query, lock=True)


class _Compaction:
    """One pass over a partition: learn the newest message of each key written since the last pass, then rewrite what
    came before without those that are older.
    """

    def __init__(self, metadata: SqlMetadata, topic: int, number: int) -> None:
        self._metadata = metadata
        self._topic = topic
        self._number = number
        self._here = (_b.topic_id == topic, _b.number == number)

    def run(self, now: datetime, stay: timedelta) -> int:
        """Make a pass if it is worth it; returns how many messages went."""
        with self._metadata.session(writing=False) as session:
            state = session.first(select(topic_partitions).where(_p.topic_id == self._topic, _p.number == self._number))
            if state is None:
                return 0
            clean = session.first(
                select(func.sum(_b.messages).label("many")).where(*self._here, _b.last < state.cleaned)
            )
        kept = int(clean.many or 0) if clean is not None else 0
        over = state.settling_at is not None and now - state.settling_at >= stay
        settled = state.settling if over else state.settled
        dirty = state.end - state.cleaned
        # A pass rewrites what is clean, too: it is worth it when as much has come since.
        if not (dirty and dirty >= kept) and settled == state.settled:
            return 0
        newest, upto = self._newest(state.cleaned)
        gone = sum(self._rewrite(rows, newest, settled) for rows in self._blocks(0, upto))
        values: dict[str, Any] = {"cleaned": upto, "settled": settled}
        if over or state.settling_at is None:
            values |= {"settling": upto, "settling_at": now}
        with self._metadata.session(writing=True) as session:
            this = update(topic_partitions).where(_p.topic_id == self._topic, _p.number == self._number)
            session.change(this.where(_p.cleaned == state.cleaned).values(**values))
        return gone

    def _newest(self, start: int) -> tuple[dict[bytes, int], int]:
        """The newest offset of each key from `start` on, and up to where that was looked."""
        newest: dict[bytes, int] = {}
        upto = start
        for rows in self._blocks(start, None):
            for row in rows:
                offsets, columns = unpack(row.body, row.first, row.messages)
                newest.update((key, o) for key, o in zip(columns.keys, offsets, strict=True) if key is not None)
                upto = row.last + 1
                if len(newest) >= _KEYS:
                    return newest, upto
        return newest, upto

    def _blocks(self, start: int, upto: int | None) -> Iterator[Sequence[AnyRow]]:
        """Blocks from an offset on, some at a time, each time as they then are."""
        at = start
        while True:
            behind = (*self._here, _b.last >= at) + (() if upto is None else (_b.last < upto,))
            with self._metadata.session(writing=False) as session:
                sizes = session.all(select(_b.last, _b.size).where(*behind).order_by(_b.last).limit(_DELETED))
                last, size = None, 0
                for row in sizes:
                    last, size = row.last, size + row.size
                    if size >= _REWRITTEN:
                        break
                if last is None:
                    return
                columns = (_b.first, _b.last, _b.messages, _b.size, _b.body)
                rows = session.all(select(*columns).where(*behind, _b.last <= last).order_by(_b.last))
            yield rows
            at = last + 1

    def _rewrite(self, rows: Sequence[AnyRow], newest: Mapping[bytes, int], settled: int) -> int:
        """Write these blocks again without what is not needed; returns how many messages went."""
        offsets: list[int] = []
        parts: list[Columns] = []
        for row in rows:
            found, columns = unpack(row.body, row.first, row.messages)
            places = [
                at
                for at, (offset, key, value) in enumerate(zip(found, columns.keys, columns.values, strict=True))
                if key is None or (newest.get(key, offset) <= offset and (value is not None or offset >= settled))
            ]
            if places:
                offsets += [found[at] for at in places]
                parts.append(columns.pick(places))
        gone = int(sum(row.messages for row in rows)) - len(offsets)
        if not gone and not _are_small(rows):
            return 0
        made, at = [], 0
        for block in pack(joined(parts), offsets) if parts else []:
            first, last = offsets[at], offsets[at + block.messages - 1]
            made.append(block_row(self._topic, self._number, first, last, block))
            at += block.messages
        with self._metadata.session(writing=True) as session:
            between = (_b.last >= rows[0].last, _b.last <= rows[-1].last)
            # Somebody who compacts at the same time, or has deleted the topic, has been here: the rows are others.
            if _locked(session, self._topic, self._number) is None:
                return 0
            sums = (func.count().label("many"), func.sum(_b.size).label("size"))
            same = session.first(select(*sums).where(*self._here, *between))
            assert same is not None
            if (same.many, int(same.size or 0)) != (len(rows), sum(row.size for row in rows)):
                return 0
            session.change(delete(topic_blocks).where(*self._here, *between))
            session.add_all(session.insert(topic_blocks), made)
        return gone


def _are_small(rows: Sequence[AnyRow]) -> bool:
    """Whether these blocks would fit into half as many."""
    size, messages = int(sum(row.size for row in rows)), int(sum(row.messages for row in rows))
    needed = max(size / BLOCK_BYTES, messages / BLOCK_MESSAGES)
    return len(rows) > 2 * (needed + 1)
