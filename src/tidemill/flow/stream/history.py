"""Topics with their past: a reader that begins in what is kept elsewhere, and goes on in the topic at the next offset.

    past:  archive of the topic, a table          [first ....... end)
    topic:                                 [first kept ................. end)
    read:  from the past, as long as the topic does not have the next offset; then from the topic

What retention removes while it is being read is read from the past, too. Lost is only what neither has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Protocol

from tidemill.flow.stream.topic_archive import TopicArchives
from tidemill.model.stream import Guarantee
from tidemill.plan.partitioning import fair_shares
from tidemill.ports.topic import (
    SESSION,
    Member,
    Messages,
    Partition,
    Position,
    Reader,
    TopicInfo,
    Topics,
    TopicSpec,
    Writer,
)


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that nobody has any more: from `wanted`, up to `oldest`, not including it."""

    wanted: int
    oldest: int


class Past(Protocol):
    """Where a topic's earlier messages are."""

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """By partition: its first offset there, and the one after its last."""
        ...

    def read(self, partition: Partition, offset: int) -> Iterator[Messages | Gap]:
        """The messages from an offset on, in order, with what is missing before some of them."""
        ...

    def at(self, topic: str, timestamp: int) -> Mapping[int, int]:
        """By partition: the first offset there whose message is not older; those that have none are missing."""
        ...


class ArchivePast:
    """Archives of topics, as their past."""

    def __init__(self, archives: TopicArchives) -> None:
        self._archives = archives

    def bounds(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """From where to where each partition is archived."""
        archived = self._archives.of(topic)
        return {number: (archived.first[number], end) for number, end in archived.end.items()}

    def read(self, partition: Partition, offset: int) -> Iterator[Messages | Gap]:
        """The archived messages."""
        for came, batch in self._archives.read(partition, offset):
            lost = came.lost.get(partition.number)
            if lost is not None and lost[1] > offset:
                yield Gap(max(lost[0], offset), lost[1])
            yield from batch

    def at(self, topic: str, timestamp: int) -> Mapping[int, int]:
        """The first offsets since a time."""
        return self._archives.at(topic, timestamp)


class TopicsWithPast:
    """A broker's topics, each reaching back as far as its past does. `live` is the broker.

    Args:
        live: the broker.
        pasts: where earlier messages are; the first that has an offset gives it.
    """

    def __init__(self, live: Topics, pasts: Sequence[Past]) -> None:
        self.live = live
        self.pasts = pasts

    @property
    def in_metadata(self) -> bool:
        """As the broker's."""
        return self.live.in_metadata

    def create(self, spec: TopicSpec) -> TopicInfo:
        """Make a topic, or find it made."""
        return self.live.create(spec)

    def describe(self, name: str, timeout: float | None = None) -> TopicInfo | None:
        """A topic as it is now, beginning with the first message of its past."""
        info = self.live.describe(name, timeout)
        if info is None:
            return None
        first = list(info.first)
        for past in self.pasts:
            for number, (begin, end) in past.bounds(name).items():
                if number < len(first) and end > begin:
                    first[number] = min(first[number], begin)
        return replace(info, first=tuple(first))

    def names(self) -> list[str]:
        """All topics in order."""
        return self.live.names()

    def delete(self, name: str) -> None:
        """Remove a topic; its past stays."""
        self.live.delete(name)

    def trim(self, upto: Mapping[Partition, int]) -> None:
        """Let messages go from the topic."""
        self.live.trim(upto)

    def at(self, topic: str, timestamp: int) -> tuple[int, ...]:
        """By partition: the offset of the first message that is not older, in past or topic."""
        found = list(self.live.at(topic, timestamp))
        for past in self.pasts:
            for number, offset in past.at(topic, timestamp).items():
                if number < len(found):
                    found[number] = min(found[number], offset)
        return tuple(found)

    def reader(self, *, ahead: int = 200_000) -> PastReader:
        """Open a reader."""
        return PastReader(self, self.live.reader(ahead=ahead))

    def writer(self, identity: str, guarantee: Guarantee = "at-least-once") -> Writer:
        """Open a writer."""
        return self.live.writer(identity, guarantee)

    def member(
        self,
        group: str,
        tasks: int,
        *,
        session: timedelta = SESSION,
        inputs: Mapping[Partition, int] | None = None,
    ) -> Member:
        """Join a group."""
        return self.live.member(group, tasks, session=session, inputs=inputs)

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Position]:
        """How far a group has come."""
        return self.live.committed(group, partitions)

    def reset(self, group: str, positions: Mapping[Partition, int | None]) -> None:
        """Set how far a group has come."""
        self.live.reset(group, positions)

    def close(self) -> None:
        """Let everything go."""
        self.live.close()

    # -- for readers

    def onward(self, partition: Partition) -> int:
        """The first offset that there is, behind rows of tables that have none."""
        begins = [past.bounds(partition.topic).get(partition.number, (-1, 0))[0] for past in self.pasts]
        return min([self.kept(partition)[0], *(begin for begin in begins if begin >= 0)])

    def kept(self, partition: Partition) -> tuple[int, int]:
        """What the broker has of a partition: its first offset, and its end."""
        info = self.live.describe(partition.topic)
        if info is None or partition.number >= info.partitions:
            return 0, 0
        return info.first[partition.number], info.end[partition.number]

    def having(self, partition: Partition, offset: int) -> Past | None:
        """The past that gives an offset."""
        for past in self.pasts:
            begin, end = past.bounds(partition.topic).get(partition.number, (0, 0))
            if begin <= offset < end:
                return past
        return None


@dataclass(slots=True)
class _Place:
    """Where a reader is in a partition's past."""

    at: int
    #: The past's end when it was looked at last; offsets before it that it does not give are nobody's.
    upto: int
    #: The topic's end when it was looked at last: there is more to read than the past.
    end: int
    found: Iterator[Messages | Gap]
    waiting: Messages | None = None
    gaps: list[Gap] = field(default_factory=list)

    def fill(self) -> bool:
        """Have something to give; False: that was all."""
        while self.waiting is None or not len(self.waiting):
            following = next(self.found, None)
            if following is None:
                return False
            if isinstance(following, Gap):
                self.gaps.append(following)
            else:
                self.waiting = following
        return True

    def take(self, many: int) -> Messages:
        """The next messages."""
        assert self.waiting is not None
        given, self.waiting = part(self.waiting, 0, many), part(self.waiting, many, len(self.waiting))
        self.at = given.offsets[-1] + 1
        return given


class PastReader:
    """The port's `Reader` over topics with their past."""

    def __init__(self, topics: TopicsWithPast, live: Reader) -> None:
        self._topics = topics
        self._live = live
        self._places: dict[Partition, _Place] = {}
        #: Partitions that are read from the broker.
        self._taken: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._lost: dict[Partition, tuple[int, int]] = {}
        self._turn = 0

    def take(self, positions: Mapping[Partition, int]) -> None:
        """Read these, too. Raises UnknownName."""
        self._places = {p: place for p, place in self._places.items() if p not in positions}
        self._paused.difference_update(positions)
        positions = {partition: self._place(partition, offset) for partition, offset in positions.items()}
        past = [p for p, offset in positions.items() if self._begin(p, offset)]
        self._drop_live(past)
        self._take_live({p: offset for p, offset in positions.items() if p not in past})

    def drop(self, partitions: Sequence[Partition]) -> None:
        """Read these no more."""
        for partition in partitions:
            self._places.pop(partition, None)
        self._paused.difference_update(partitions)
        self._drop_live(partitions)

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Give none of these until `resume`."""
        self._paused.update(p for p in partitions if p in self._places or p in self._taken)
        self._live.pause([p for p in partitions if p in self._taken])

    def resume(self, partitions: Sequence[Partition]) -> None:
        """Go on after the last message that was given."""
        self._paused.difference_update(partitions)
        self._live.resume([p for p in partitions if p in self._taken])

    def read(self, limit: int, timeout: float) -> list[Messages]:
        """What there is, at most `limit` messages: of the past at most half of them, if the topic is read, too."""
        self._turn += 1
        found = self._read_past((limit + self._turn % 2) // 2 if self._taken else limit)
        left = limit - sum(map(len, found))
        if left and (self._taken or not found):
            found += self._read_live(left, 0.0 if found or self._has_past() else timeout)
        if not found and self._has_past():  # its share was none, or what was just to come was removed
            found = self._read_past(limit)
        return found

    def ends(self) -> Mapping[Partition, int]:
        """The ends of what is being read; of a partition in its past that of the topic, as it was."""
        past = {partition: max(place.end, place.at + 1) for partition, place in self._places.items()}
        return {**self._live.ends(), **past}

    def positions(self) -> Mapping[Partition, int]:
        """Where the reader is."""
        return {**self._live.positions(), **{partition: place.at for partition, place in self._places.items()}}

    def lost(self) -> Mapping[Partition, tuple[int, int]]:
        """What neither past nor topic has, told once."""
        found, self._lost = self._lost, {}
        return found

    def close(self) -> None:
        """Let everything go."""
        self._places.clear()
        self._taken.clear()
        self._live.close()

    # The past

    def _place(self, partition: Partition, offset: int) -> int:
        """Behind rows of tables that have no offsets of the topic, its first message comes next."""
        if offset >= 0 or self._topics.having(partition, offset) is not None:
            return offset
        return self._topics.onward(partition)

    def _begin(self, partition: Partition, offset: int) -> bool:
        """Read a partition's past, if it has the offset and the broker does not."""
        past = self._topics.having(partition, offset)
        if past is None:
            return False
        upto = past.bounds(partition.topic)[partition.number][1]
        first, end = self._topics.kept(partition)
        if first <= offset:
            return False
        self._places[partition] = _Place(offset, upto, end, past.read(partition, offset))
        return True

    def _has_past(self) -> bool:
        return any(partition not in self._paused for partition in self._places)

    def _read_past(self, limit: int) -> list[Messages]:
        for partition, place in list(self._places.items()):
            if partition not in self._paused and not place.fill():
                self._go_on(partition, place)
        waiting = {
            partition: len(place.waiting)
            for partition, place in self._places.items()
            if partition not in self._paused and place.waiting is not None
        }
        found = [self._places[p].take(many) for p, many in fair_shares(waiting, limit, self._turn).items() if many]
        for partition, place in self._places.items():
            for gap in place.gaps:
                self._lose(partition, gap.wanted, gap.oldest)
            place.gaps.clear()
        return found

    def _go_on(self, partition: Partition, place: _Place) -> None:
        """At the end of a past: there may be more of it by now; else the topic has the next offset, or nobody."""
        for gap in place.gaps:
            self._lose(partition, gap.wanted, gap.oldest)
        del self._places[partition]
        at = self._place(partition, max(place.at, place.upto))
        if not self._begin(partition, at):
            self._take_live({partition: at})
        else:
            self._places[partition].fill()

    # The topic

    def _take_live(self, positions: Mapping[Partition, int]) -> None:
        if positions:
            self._live.take(positions)
            self._taken |= positions.keys()
            self._live.pause([partition for partition in positions if partition in self._paused])
            self._turn_back([])

    def _drop_live(self, partitions: Sequence[Partition]) -> None:
        mine = [partition for partition in partitions if partition in self._taken]
        if mine:
            self._live.drop(mine)
            self._taken.difference_update(mine)

    def _read_live(self, limit: int, timeout: float) -> list[Messages]:
        return self._turn_back(self._live.read(limit, timeout))

    def _turn_back(self, found: list[Messages]) -> list[Messages]:
        """What was removed before it was read is read from the past; what came after it is left out until then."""
        for partition, (wanted, oldest) in self._live.lost().items():
            if oldest <= wanted or not self._begin(partition, wanted):
                self._lose(partition, wanted, oldest)
                continue
            self._drop_live([partition])
            kept = []
            for messages in found:
                if messages.partition == partition:
                    before = sum(offset < wanted for offset in messages.offsets)
                    messages = part(messages, 0, before)  # the rest comes again
                if len(messages):
                    kept.append(messages)
            found = kept
        return found

    def _lose(self, partition: Partition, wanted: int, oldest: int) -> None:
        known = self._lost.get(partition)
        self._lost[partition] = (wanted, oldest) if known is None else (known[0], max(known[1], oldest))


def part(messages: Messages, start: int, stop: int) -> Messages:
    """Some of a stretch, by their places."""
    if (start, stop) == (0, len(messages)):
        return messages
    some = slice(start, stop)
    return Messages(
        messages.partition,
        messages.offsets[some],
        messages.timestamps[some],
        messages.keys[some],
        messages.values[some],
        None if messages.headers is None else messages.headers[some],
    )
