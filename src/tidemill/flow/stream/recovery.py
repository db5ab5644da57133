"""Brings the store of a task up to the end of its changelog: what it lacks, or everything.

The writer of the task is opened before: it fences whoever wrote until now, so the changelog has an end. Messages that
the store knows already do no harm, as the newest of each key comes last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from tidemill.model.errors import Refused, Unreachable
from tidemill.ports.clock import Clock
from tidemill.ports.state import StateStore
from tidemill.ports.topic import Messages, Partition, Reader, TopicInfo

#: Messages that are read and applied in one step; recovery can be ended between two.
BATCH = 50_000
#: Seconds that one `read` waits.
_WAIT = 0.5


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a store has come; written with its changes.

    Args:
        topology: fingerprint of the code that gave the state its meaning.
        covered: all messages of the changelog below this offset are in the store.
        at: a moment at which they were all there were, or later ones were kept.
        checkpoint: the number of the last checkpoint; None: the store was filled by recovery.
    """

    topology: str
    covered: int
    at: datetime
    checkpoint: int | None = None

    def packed(self) -> bytes:
        """As a store's mark."""
        return json.dumps(asdict(self) | {"at": self.at.timestamp()}).encode()

    @classmethod
    def unpacked(cls, text: bytes) -> Mark | None:
        """None: another version of Tidemill has written it, and the store is made anew."""
        try:
            read = json.loads(text)
            return cls(
                str(read["topology"]),
                int(read["covered"]),
                datetime.fromtimestamp(read["at"], UTC),
                read.get("checkpoint"),
            )
        except (ValueError, TypeError, KeyError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Recovering:
    """How far recovery has come, in offsets of the changelog."""

    changelog: Partition
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Ending:
    """When recovery does not go on as if nothing were.

    Args:
        patience: seconds in which at least one message must come.
        tombstones: for how long the changelog keeps the removal of a key after compaction; a store whose mark is
            older than half of that may lack one.
        rebuild: the command that makes the state anew.
    """

    patience: float = 60.0
    tombstones: timedelta = timedelta(hours=24)
    rebuild: str = "tidemill stream reset"


def recover(
    store: StateStore,
    reader: Reader,
    partition: Partition,
    changelog: TopicInfo,
    *,
    clock: Clock,
    topology: str,
    compatible: Callable[[str], bool],
    told: Callable[[Recovering], None],
    stop: Callable[[], bool],
    ending: Ending,
) -> tuple[Mark, bool]:
    """Apply to the store what it lacks up to the end that the changelog has now.

    Args:
        store: of the task.
        reader: reads nothing else meanwhile.
        partition: the task's changelog.
        changelog: its topic as it is now, after the task's writer was opened.
        clock: for ages and patience.
        topology: fingerprint of today's code.
        compatible: whether a store of another fingerprint can be used on; else all is read again.
        told: called after each step.
        stop: asked before each step; True ends recovery, which goes on from there when it is called again.
        ending: limits.

    Returns:
        The store's mark, and whether all was applied.

    Raises:
        Refused: the store knows more than the changelog has, so that is another one.
        Unreachable: no message has come for `patience` seconds. UnknownName: there is no such topic.
    """
    begun = clock.now()
    first, goal = changelog.first[partition.number], changelog.end[partition.number]
    mark = Mark.unpacked(store.mark) if store.mark is not None else None
    if mark is not None and mark.covered > goal:
        raise Refused(
            f"The state of {partition} was made of {mark.covered} messages, of which the changelog has {goal}: "
            "it was deleted, and made again.",
            hint=f"{ending.rebuild} makes the state anew",
        )
    if mark is None or not _usable(mark, first, begun, compatible, ending):
        store.clear()
        mark = Mark(topology, first, begun)
    # Until all is applied the age is that of the beginning: a removal that is not reached yet may be given up by then.
    mark = replace(mark, topology=topology)
    start, since = mark.covered, clock.monotonic()
    reader.take({partition: start})
    try:
        told(Recovering(partition, 0, goal - start))
        while not _at_end(reader, partition, mark.covered, goal):
            if stop():
                return mark, False
            messages = _read(reader, partition)
            if partition in reader.lost():
                # What was kept when recovery began is kept no more: the removals among it, too.
                store.clear()
                mark = replace(mark, at=clock.now())
            if messages is None:
                _see_patience(clock.monotonic() - since, partition, ending)
                continue
            since = clock.monotonic()
            mark = replace(mark, covered=messages.offsets[-1] + 1)
            store.write(_changes(messages), mark.packed())
            told(Recovering(partition, min(mark.covered, goal) - start, goal - start))
    finally:
        reader.drop([partition])
    mark = replace(mark, covered=max(mark.covered, goal), at=begun)
    store.write((), mark.packed())
    told(Recovering(partition, goal - start, goal - start))
    return mark, True


def _usable(mark: Mark, first: int, now: datetime, compatible: Callable[[str], bool], ending: Ending) -> bool:
    """Whether a store can be gone on with."""
    return first <= mark.covered and abs(now - mark.at) <= ending.tombstones / 2 and compatible(mark.topology)


def _at_end(reader: Reader, partition: Partition, at: int, goal: int) -> bool:
    """After the last message there may be offsets that nobody gets (markers, what was compacted): the reader knows."""
    return at >= goal or at >= reader.ends().get(partition, goal)


def _read(reader: Reader, partition: Partition) -> Messages | None:
    for messages in reader.read(BATCH, _WAIT):
        if messages.partition == partition and len(messages):
            return messages
    return None


def _changes(messages: Messages) -> Iterator[tuple[bytes, bytes | None]]:
    """What messages say; one without a key is not of ours."""
    return ((key, value) for key, value in zip(messages.keys, messages.values, strict=True) if key is not None)


def _see_patience(waited: float, partition: Partition, ending: Ending) -> None:
    if waited >= ending.patience:
        raise Unreachable(
            f"The state of {partition} cannot be recovered: nothing has come from its changelog for {waited:.0f} s.",
            hint="see whether the broker is well; what was recovered so far is kept",
        )
