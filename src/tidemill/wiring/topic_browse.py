"""Looking into topics: who reads each and how far, and some of its messages, decoded as its readers would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tidemill.flow.stream.lag import lag_in
from tidemill.flow.stream.stretch import stretch
from tidemill.model.errors import TidemillError, UnknownName, UserError
from tidemill.ports.topic import Partition
from tidemill.wiring.codecs import registry_of
from tidemill.wiring.messages import reader_of
from tidemill.wiring.stream_care import Seen, StreamCare, seen

if TYPE_CHECKING:
    from tidemill.ports.codec import Decoded, MessageReader

#: Messages that one look gives at most.
MOST = 200


@dataclass(frozen=True, slots=True)
class Consumer:
    """A stream that reads a topic.

    Args:
        stream: which.
        committed: the next offset that does not count yet, by partition; None: nothing was committed there.
        lag: messages that wait for it.
    """

    stream: str
    committed: tuple[int | None, ...]
    lag: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and what its topic's codec makes of it.

    Args:
        seen: as it is in its topic.
        row: its columns; None: no codec is known for the topic, or it has no value, or it cannot be read.
        error: why it cannot be read.
    """

    seen: Seen
    row: dict[str, Any] | None = None
    error: str | None = None


def consumers_of(care: StreamCare, topic: str) -> list[Consumer]:
    """The streams that read a topic, by name. Other groups of a broker are not known."""
    found = []
    for _, spec in care.streams:
        if topic not in {one.name for one in spec.topics.values()}:
            continue
        lags = lag_in(spec.full_name, care.topics, topic)
        found.append(Consumer(spec.full_name, tuple(one.committed for one in lags), sum(one.behind for one in lags)))
    return sorted(found, key=lambda one: one.stream)


def browse(
    care: StreamCare, name: str, limit: int, partition: int | None = None, offset: int | None = None
) -> list[Message]:
    """Some messages of a topic: the last ones, newest first; from an offset of a partition on, oldest first.

    No group's position moves. Offsets that nobody gets (markers, what compaction removed) are not filled up: there may
    be fewer messages than asked for.

    Args:
        care: streams and topics.
        name: of the topic.
        limit: the most messages.
        partition: only of this one.
        offset: of the first message; the archive of a topic counts as its beginning.

    Raises:
        UnknownName: there is no such topic or partition.
        UserError: an offset without a partition.
    """
    if offset is not None and partition is None:
        raise UserError("An offset is one of a partition.", hint=f"partition=0&offset={offset}")
    info = care.topics.live.describe(name) if offset is None else care.topics.describe(name)
    if info is None:
        if care.declared(name) is None:
            raise UnknownName.of("topic", name, care.topics.names())
        return []
    numbers = range(info.partitions) if partition is None else [partition]
    if partition is not None and partition >= info.partitions:
        raise UnknownName.of("partition", str(partition), [str(number) for number in range(info.partitions)])
    begin, until = {}, {}
    for number in numbers:
        first, end = info.first[number], info.end[number]
        start = max(first, end - limit) if offset is None else min(max(first, offset), end)
        begin[Partition(name, number)] = start
        until[Partition(name, number)] = min(end, start + limit)
    found = [one for some in stretch(care.topics, care.clock, begin, until, ahead=limit) for one in seen(some)]
    if offset is None:
        found.sort(key=lambda one: (one.at is not None, one.at, one.partition, one.offset), reverse=True)
    return Decoding(care, name).of(found[:limit])


class Decoding:
    """What the codec of a topic makes of its messages; one that cannot be had is told at each.

    Args:
        care: knows what is declared.
        name: of the topic.
    """

    def __init__(self, care: StreamCare, name: str) -> None:
        topic = care.declared(name)
        self._reader: MessageReader | None = None
        self._error: str | None = None
        if topic is None or (topic.columns is None and topic.codec == "json"):
            return
        try:
            self._reader = reader_of(topic, registry_of(care.settings.streams))
        except TidemillError as error:
            self._error = str(error)

    def of(self, found: Sequence[Seen]) -> list[Message]:
        """Messages with their rows."""
        if self._reader is None:
            return [Message(one, error=self._error) for one in found]
        try:
            return _with_rows(found, self._reader.read([one.key for one in found], [one.value for one in found]))
        except TidemillError as error:
            return [Message(one, error=str(error)) for one in found]


def _with_rows(found: Sequence[Seen], decoded: Decoded) -> list[Message]:
    from tidemill.adapters.polars.stream.shown import shown

    made = [Message(one) for one in found]
    taken = range(len(found)) if decoded.taken is None else decoded.taken
    for place, row in zip(taken, shown(decoded.rows).to_dicts(), strict=True):
        made[place] = replace(made[place], row=row)
    for bad in decoded.bad:
        made[bad.index] = replace(made[bad.index], error=bad.error)
    return made
