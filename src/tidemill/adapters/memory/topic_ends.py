"""Readers, writers and members of topics in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tidemill.model.errors import DataError, Fenced, Refused, UnknownName
from tidemill.plan.partitioning import Columns, fair_shares, must_fit, split
from tidemill.plan.sharing import share
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import LONGEST_NOTE, Headers, Member, Messages, Partition, Position, TaskInputs

if TYPE_CHECKING:
    from tidemill.adapters.memory.topics import Log, MemoryTopics

#: Seconds between two looks of one that waits.
_LOOK = 0.005
#: A rest of a wait that is no more than what clocks round off.
_LEAST = 1e-5


@dataclass(slots=True)
class _Place:
    """Where a reader is in a partition."""

    log: Log
    at: int
    paused: bool = False


class MemoryReader:
    """The port's `Reader`."""

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics
        self._places: dict[Partition, _Place] = {}
        self._lost: dict[Partition, tuple[int, int]] = {}
        self._turn = 0

    def take(self, positions: Mapping[Partition, int]) -> None:
        """Read these, too. Raises UnknownName."""
        with self._topics.lock:
            found = {partition: self._topics.log(partition) for partition in positions}
            for partition, log in found.items():
                self._places[partition] = _Place(log, positions[partition])
                self._catch_up(partition)

    def drop(self, partitions: Sequence[Partition]) -> None:
        """Read these no more."""
        for partition in partitions:
            self._places.pop(partition, None)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Give none of these until `resume`."""
        self._set_paused(partitions, True)

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Go on after the last message that was given."""
        self._set_paused(partitions, False)

    def read(self, limit: int, timeout: float) -> list[Messages]:
        """What there is, at most `limit` messages. Raises UnknownName."""
        clock = self._topics.clock
        until = clock.monotonic() + timeout
        while True:
            if found := self._read(limit):
                return found
            left = until - clock.monotonic()
            if left < _LEAST:
                return []
            clock.sleep(min(left, _LOOK))

    def ends(self) -> Mapping[Partition, int]:
        """The ends of what is being read."""
        with self._topics.lock:
            return {p: place.log.end if place.log.waiting(place.at) else place.at for p, place in self._places.items()}

    def positions(self) -> Mapping[Partition, int]:
        """Where the reader is; after what compaction has removed at the end."""
        with self._topics.lock:
            return {p: place.at if place.log.waiting(place.at) else place.log.end for p, place in self._places.items()}

    def lost(self) -> Mapping[Partition, tuple[int, int]]:
        """What is no longer kept, told once."""
        found, self._lost = self._lost, {}
        return found

    def close(self) -> None:
        """Let everything go."""
        self._places.clear()

    def _set_paused(self, partitions: Sequence[Partition], paused: bool) -> None:
        for partition in partitions:
            if partition in self._places:
                self._places[partition].paused = paused

    def _read(self, limit: int) -> list[Messages]:
        with self._topics.lock:
            waiting = {}
            for partition, place in self._places.items():
                self._catch_up(partition)
                if not place.paused:
                    waiting[partition] = place.log.waiting(place.at)
            self._turn += 1
            found = []
            for partition, many in fair_shares(waiting, limit, self._turn).items():
                place = self._places[partition]
                found.append(place.log.read(partition, place.at, many))
                place.at = found[-1].offsets[-1] + 1
            return found

    def _catch_up(self, partition: Partition) -> None:
        """Go on from the oldest message where the next one is no longer kept."""
        place = self._places[partition]
        known = self._topics.topics.get(partition.topic)
        if known is None or place.log not in known.logs:
            raise UnknownName(f'Topic "{partition.topic}" was deleted while it was read.')
        if not place.log.first <= place.at <= place.log.end:
            wanted, _ = self._lost.get(partition, (place.at, 0))
            place.at = place.log.first
            self._lost[partition] = (wanted, place.at)


class MemoryWriter:
    """The port's `Writer`.

    Args:
        topics: where to.
        identity: who writes.
        epoch: of an exactly-once writer; None: at-least-once.
    """

    def __init__(self, topics: MemoryTopics, identity: str, epoch: int | None) -> None:
        self._topics = topics
        self._identity = identity
        self._epoch = epoch
        self._sent: list[tuple[Partition, Columns]] = []
        self._turn = 0

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
        """Send messages, in columns. Raises UnknownName, DataError, Fenced."""
        now = int(self._topics.clock.now().timestamp() * 1000)
        stamps = [now] * len(values) if timestamps is None else list(timestamps)
        columns = Columns(stamps, list(keys) if keys else [None] * len(values), list(values), headers)
        with self._topics.lock:
            self._must_be_newest()
            found = self._topics.topic(topic)
            must_fit(columns, found.spec.options, topic)
            if found.spec.cleanup == "compact" and None in columns.keys:
                raise DataError(
                    f'Topic "{topic}" keeps the newest message of each key: a message without one has no place.'
                )
            parts = split(columns, partitions, found.places, self._in_turn)
            sent = [(Partition(topic, number), part) for number, part in parts.items()]
            if self._epoch is None:
                self._append(sent)
            else:
                self._sent += sent

    def flush(self) -> None:
        """Nothing is on its way. Raises Fenced."""
        self._must_be_newest()

    def commit(
        self,
        positions: Mapping[Partition, Position],
        member: Member | None = None,
        also: Callable[[Tx], None] | None = None,
    ) -> None:
        """Make it all count. Raises Fenced."""
        if also is not None:
            raise Refused("Topics in memory have no transaction that anything else could be part of.")
        with self._topics.lock:
            self._must_be_newest()
            for partition, _ in self._sent:
                self._topics.log(partition)
            if member is not None:
                assert isinstance(member, MemoryMember), "a member of other topics"
                try:
                    member.check(positions)
                except Fenced:
                    self.abort()
                    raise
                for partition, position in positions.items():
                    self._topics.log(partition)
                    if len(position.note.encode()) > LONGEST_NOTE:
                        raise DataError(f"The note of a commit is longer than {LONGEST_NOTE} bytes.")
                self._topics.group(member.group).positions.update(positions)
            self._append(self._sent)
            self._sent = []

    def abort(self) -> None:
        """Forget what was sent since the last commit."""
        self._sent = []

    def close(self) -> None:
        """Let everything go."""
        self.abort()

    def _append(self, sent: Sequence[tuple[Partition, Columns]]) -> None:
        for partition, columns in sent:
            self._topics.log(partition).append(columns)

    def _must_be_newest(self) -> None:
        if self._epoch is not None and self._topics.epochs[self._identity] != self._epoch:
            raise Fenced(f'A newer writer "{self._identity}" has taken over.')

    def _in_turn(self) -> int:
        self._turn += 1
        return self._turn


class MemoryMember:
    """The port's `Member`."""

    def __init__(self, topics: MemoryTopics, group: str, tasks: TaskInputs, session: timedelta) -> None:
        self._topics = topics
        self.group = group
        self._inputs = tasks
        self._session = session.total_seconds()
        self._mine: frozenset[int] = frozenset()
        self._join()

    def poll(
        self, taken: Callable[[frozenset[int]], None], given_up: Callable[[frozenset[int]], None], timeout: float
    ) -> None:
        """Take part; waits up to `timeout` for something to change."""
        clock = self._topics.clock
        until = clock.monotonic() + timeout
        while not self._turn(taken, given_up):
            left = until - clock.monotonic()
            if left < _LEAST:
                return
            clock.sleep(min(left, _LOOK))

    @property
    def tasks(self) -> frozenset[int]:
        """The member's tasks."""
        return self._mine

    def committed(self, partitions: Sequence[Partition], timeout: float | None = None) -> Mapping[Partition, Position]:
        """How far the group has come."""
        return self._topics.committed(self.group, partitions)

    def close(self) -> None:
        """Leave."""
        with self._topics.lock:
            self._topics.group(self.group).leave(self._name)
        self._mine = frozenset()

    def check(self, positions: Collection[Partition]) -> None:
        """Raise Fenced where the member has lost its place, or a position's task."""
        self._inputs.see(positions, self._mine)
        self._topics.group(self.group).check(self._name, self._topics.clock.monotonic())

    def _join(self) -> None:
        self._name = uuid.uuid4().hex
        with self._topics.lock:
            self._topics.group(self.group).members[self._name] = self._topics.clock.monotonic() + self._session

    def _turn(self, taken: Callable[[frozenset[int]], None], given_up: Callable[[frozenset[int]], None]) -> bool:
        """One look at the group; whether anything changed for this member."""
        now = self._topics.clock.monotonic()
        with self._topics.lock:
            group = self._topics.group(self.group)
            group.expel(now)
            if is_in := self._name in group.members:
                group.members[self._name] = now + self._session
                part = share(self._inputs.number, group.members, group.owners, self._name)
        if not is_in:
            lost = self._mine
            try:
                if lost:
                    given_up(lost)
            finally:
                self._mine = frozenset()
                self._join()
            return bool(lost)
        if part.give_up:
            given_up(part.give_up)
            with self._topics.lock:
                self._mine -= part.give_up
                for task in part.give_up:
                    if group.owners.get(task) == self._name:
                        del group.owners[task]
        return self._take(taken) or bool(part.give_up)

    def _take(self, taken: Callable[[frozenset[int]], None]) -> bool:
        with self._topics.lock:
            group = self._topics.group(self.group)
            if self._name not in group.members:
                return False  # it took so long to give up that the session ended
            take = share(self._inputs.number, group.members, group.owners, self._name).take
            group.owners.update(dict.fromkeys(take, self._name))
            self._mine |= take
        if take:
            taken(take)
        return bool(take)
