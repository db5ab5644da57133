"""Readers of embedded topics: they look for blocks behind their place, and unpack some of them ahead."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select

from tidemill.adapters.sql.session import Session
from tidemill.adapters.sql.topic_blocks import joined, unpack
from tidemill.adapters.sql.topics_schema import topic_blocks, topic_partitions
from tidemill.model.errors import UnknownName
from tidemill.plan.partitioning import Columns, fair_shares
from tidemill.ports.bell import Bell
from tidemill.ports.topic import Messages, Partition

if TYPE_CHECKING:
    from tidemill.adapters.sql.topics import SqlTopics

#: Seconds between two looks of a reader that waits: at first; at most where looking is cheap, and where it is not;
#: with a bell.
_FIRST, _CHEAP, _DEAR, _BELL = 0.002, 0.02, 0.2, 1.0
#: A rest of a wait that is no more than what clocks round off.
_LEAST = 1e-5
#: Bytes that all partitions of a reader may have waiting in memory.
_AHEAD = 32 << 20
#: Blocks that are looked at, at most, to see how many fit.
_LOOKED_AT = 1000

_b = topic_blocks.c
_here = (_b.topic_id == bindparam("topic"), _b.number == bindparam("partition"))
_SIZES = (
    select(_b.last, _b.messages, _b.size)
    .where(*_here, _b.last >= bindparam("since"))
    .order_by(_b.last)
    .limit(_LOOKED_AT)
)
_BODIES = (
    select(_b.first, _b.messages, _b.body)
    .where(*_here, _b.last >= bindparam("since"), _b.last <= bindparam("upto"))
    .order_by(_b.last)
)
_p = topic_partitions.c
_STATES = select(_p.topic_id, _p.number, _p.first, _p.end).where(_p.topic_id.in_(bindparam("topics", expanding=True)))


@dataclass(slots=True)
class _Place:
    """Where a reader is in a partition, and what it has unpacked from there on."""

    topic: int
    #: The offset of the next message to fetch.
    fetched: int
    paused: bool = False
    blocks: deque[tuple[Sequence[int], Columns]] = field(default_factory=deque)
    waiting: int = 0
    #: After the last message that was given.
    given: int = 0


class SqlReader:
    """The port's `Reader`."""

    def __init__(self, topics: SqlTopics, ahead: int) -> None:
        self._topics = topics
        self._ahead = ahead
        self._places: dict[Partition, _Place] = {}
        self._ends: dict[Partition, int] = {}
        self._lost: dict[Partition, tuple[int, int]] = {}
        self._turn = 0
        self._bell: Bell | None = None
        self._stir = topics.metadata.stir()

    def take(self, positions: Mapping[Partition, int]) -> None:
        """Read these, too. Raises UnknownName."""
        with self._topics.metadata.session(writing=False) as session:
            found = {partition: self._topics.partition_of(session, partition) for partition in positions}
            for partition, topic in found.items():
                self._places[partition] = _Place(topic.id, positions[partition], given=positions[partition])
            self._look(session)

    def drop(self, partitions: Sequence[Partition]) -> None:
        """Read these no more."""
        for partition in partitions:
            self._places.pop(partition, None)
            self._ends.pop(partition, None)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Give none of these until `resume`."""
        self._set_paused(partitions, True)

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Go on after the last message that was given."""
        self._set_paused(partitions, False)

    def read(self, limit: int, timeout: float) -> list[Messages]:
        """What there is, at most `limit` messages. Raises Unreachable, UnknownName."""
        clock = self._topics.clock
        until = clock.monotonic() + timeout
        step = _FIRST
        while True:
            self._fill()
            if found := self._give(limit):
                return found
            left = until - clock.monotonic()
            if left < _LEAST:
                return []
            self._wait(left, step)
            step = min(step * 2, _CHEAP if self._stir.cheap else _DEAR)

    def ends(self) -> Mapping[Partition, int]:
        """The ends as of the last look, without what compaction has removed there: nobody waits for that."""
        found = dict(self._ends)
        for partition, place in self._places.items():
            if not place.waiting and place.fetched >= found.get(partition, place.fetched + 1):
                found[partition] = place.given
        return found

    def positions(self) -> Mapping[Partition, int]:
        """Where the reader is; with nothing waiting, after what compaction has removed."""
        return {p: place.given if place.waiting else place.fetched for p, place in self._places.items()}

    def lost(self) -> Mapping[Partition, tuple[int, int]]:
        """What is no longer kept, told once."""
        found, self._lost = self._lost, {}
        return found

    def close(self) -> None:
        """Let everything go."""
        self._places.clear()
        self._stir.close()
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def _set_paused(self, partitions: Sequence[Partition], paused: bool) -> None:
        for partition in partitions:
            if partition in self._places:
                self._places[partition].paused = paused

    def _wait(self, left: float, step: float) -> None:
        if self._topics.bells is None:
            self._topics.clock.sleep(min(left, step))
        elif self._bell is None:
            # From now on it is heard; what came before is seen by looking once more.
            self._bell = self._topics.bells()
            self._bell.listen()
        else:
            self._bell.wait(min(left, _BELL))

    def _fill(self) -> None:
        """Unpack more of partitions that have nothing left."""
        empty = {one: place for one, place in self._places.items() if not place.waiting and not place.paused}
        if not empty:
            return
        if not self._stir.changed() and all(place.fetched == self._ends.get(one) for one, place in empty.items()):
            return
        with self._topics.metadata.session(writing=False) as session:
            self._look(session)
            behind = [(one, place) for one, place in empty.items() if place.fetched < self._ends[one]]
            for partition, place in behind:
                self._fetch(session, place, partition.number, self._ends[partition], len(self._places))

    def _look(self, session: Session) -> None:
        """Learn the ends, and which messages are no longer kept."""
        if not self._places:
            return
        ids = sorted({place.topic for place in self._places.values()})
        known = {(row.topic_id, row.number): row for row in session.all(_STATES.params(topics=ids))}
        for partition, place in self._places.items():
            row = known.get((place.topic, partition.number))
            if row is None:
                raise UnknownName(f'Topic "{partition.topic}" was deleted while it was read.')
            self._ends[partition] = row.end
            if not place.waiting and not row.first <= place.fetched <= row.end:
                wanted, _ = self._lost.get(partition, (place.fetched, 0))
                self._lost[partition] = (wanted, row.first)
                place.fetched = row.first

    def _fetch(self, session: Session, place: _Place, number: int, end: int, sharing: int) -> None:
        here = {"topic": place.topic, "partition": number, "since": place.fetched}
        messages, size = max(self._ahead // sharing, 1), _AHEAD // sharing
        upto = None
        for row in session.all(_SIZES.params(**here)):
            messages, size = messages - row.messages, size - row.size
            if upto is not None and (messages < 0 or size < 0):
                break
            upto = row.last
        if upto is None:
            place.fetched = end  # compaction has left nothing up to there
            return
        for row in session.all(_BODIES.params(**here, upto=upto)):
            offsets, columns = unpack(row.body, row.first, row.messages)
            if (skipped := bisect_left(offsets, place.fetched)) > 0:
                offsets, columns = offsets[skipped:], columns.slice(skipped, len(columns))
            place.blocks.append((offsets, columns))
            place.waiting += len(offsets)
        place.fetched = upto + 1

    def _give(self, limit: int) -> list[Messages]:
        waiting = {one: place.waiting for one, place in self._places.items() if not place.paused}
        self._turn += 1
        shares = fair_shares(waiting, limit, self._turn)
        return [_taken(partition, self._places[partition], many) for partition, many in shares.items()]


def _taken(partition: Partition, place: _Place, many: int) -> Messages:
    """The next messages of a partition: out of as many blocks as it needs."""
    place.waiting -= many
    offsets: Sequence[int] = ()
    parts: list[tuple[Sequence[int], Columns]] = []
    while many:
        offsets, columns = place.blocks.popleft()
        if len(offsets) > many:
            place.blocks.appendleft((offsets[many:], columns.slice(many, len(columns))))
            offsets, columns = offsets[:many], columns.slice(0, many)
        parts.append((offsets, columns))
        many -= len(offsets)
    place.given = parts[-1][0][-1] + 1
    if len(parts) == 1:
        columns = parts[0][1]
    else:
        offsets = [one for some, _ in parts for one in some]
        columns = joined([columns for _, columns in parts])
    return Messages(partition, offsets, columns.timestamps, columns.keys, columns.values, columns.headers)
