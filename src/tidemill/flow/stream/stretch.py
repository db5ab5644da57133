"""Reading what topics hold now, from outside: a stretch of partitions, with an end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidemill.model.errors import Unreachable
from tidemill.ports.clock import Clock
from tidemill.ports.topic import Messages, Partition, Topics

#: Messages that are read at once, and seconds that one read waits.
_LIMIT = 20_000
_WAIT = 0.2
#: Seconds without a message after which the broker is thought unwell.
_PATIENCE = 30.0


def stretch(
    topics: Topics,
    clock: Clock,
    begin: Mapping[Partition, int],
    until: Mapping[Partition, int],
    ahead: int | None = None,
) -> Iterator[Messages]:
    """The messages of partitions from `begin` up to, not including, `until`.

    `ahead`: about so many are read beyond what was given; None: as many as is fast.

    Raises:
        Unreachable: nothing comes, and the end is not reached. UnknownName: there is no such partition.
    """
    at = {partition: offset for partition, offset in begin.items() if offset < until[partition]}
    if not at:
        return
    reader = topics.reader() if ahead is None else topics.reader(ahead=ahead)
    try:
        reader.take(at)
        since = clock.monotonic()
        while at:
            for messages in reader.read(min(_LIMIT, ahead or _LIMIT), _WAIT):
                since = clock.monotonic()
                found = messages.before(until[messages.partition])
                at[messages.partition] = messages.offsets[-1] + 1
                if len(found):
                    yield found
            # After the last message there may be offsets that nobody gets: the reader knows.
            places = reader.positions()
            done = [p for p, offset in at.items() if max(offset, places.get(p, offset)) >= until[p]]
            reader.drop(done)
            for partition in done:
                del at[partition]
            if at and clock.monotonic() - since > _PATIENCE:
                raise Unreachable(f"Nothing has come from {next(iter(at))} for {_PATIENCE:.0f} s.")
    finally:
        reader.close()


def whole(topics: Topics, clock: Clock, topic: str) -> Iterator[Messages]:
    """All messages that a topic holds now; none where there is no such topic."""
    info = topics.describe(topic)
    if info is not None:
        begin = {Partition(topic, number): offset for number, offset in enumerate(info.first)}
        yield from stretch(topics, clock, begin, ends_of(topics, topic))


def ends_of(topics: Topics, topic: str) -> dict[Partition, int]:
    """The ends of a topic's partitions."""
    info = topics.describe(topic)
    return {} if info is None else {Partition(topic, number): end for number, end in enumerate(info.end)}
