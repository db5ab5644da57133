"""What the checks of a task have found, counted exactly: the note of a position carries it.

A note is committed in one step with its position, by every broker. So what was counted counts if, and only if, the rows
that it was counted of do; whoever takes the task goes on from there. The metadata database hears of it every few
seconds (`observing.py`), as sums that only grow: hearing twice, or late, changes nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from tidemill.flow.stream.notes import Note
from tidemill.model.expectation import Expectation
from tidemill.ports.clock import Clock
from tidemill.ports.stream_engine import Judged
from tidemill.ports.streams import CheckCount
from tidemill.ports.topic import LONGEST_NOTE, Partition, Position

if TYPE_CHECKING:
    from tidemill.flow.stream.work import Work

#: Checks of one stage, at most: each takes up to 22 bytes of a note. What time it is takes its part, too: `times.py`.
MOST = (LONGEST_NOTE - 900) // 22

_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Judge:
    """A check in a stage: the node that judges, its place among the node's checks, and whose rows these are."""

    node: int
    place: int
    judged: str
    check: Expectation


#: A task, its life, and the hour that were counted.
Key: TypeAlias = "tuple[str, int, int]"


class Tally:
    """The counts of one task.

    Args:
        task: its name.
        judges: the checks of its stage.
        counted: what the position says that it goes on from.
        now: what time it is.
    """

    def __init__(self, task: str, judges: Sequence[Judge], counted: list[Any] | None, now: datetime) -> None:
        self._task = task
        self._judges = judges
        names = dict.fromkeys((judge.judged, judge.check.name) for judge in judges)
        self._places = {name: place for place, name in enumerate(names)}
        self._severity = {(judge.judged, judge.check.name): judge.check.severity.value for judge in judges}
        self._at = {(judge.node, judge.place): self._places[judge.judged, judge.check.name] for judge in judges}
        self._code = zlib.crc32(repr(list(names)).encode())
        self._hour = _hour_of(now)
        self._since = int(now.timestamp() * 1_000_000)
        self._counts = [0] * (2 * len(names))
        self._resume(counted)
        self._committed = list(self._counts)

    def _resume(self, counted: list[Any] | None) -> None:
        """Go on from a note. Counts of other checks begin a new life: theirs were told under their own names."""
        if counted is None:
            return
        code, since, hour, counts = counted
        if code == self._code and len(counts) == len(self._counts):
            self._since, self._hour, self._counts = since, hour, counts
        else:
            self._since = max(self._since, since + 1)

    @property
    def news(self) -> bool:
        """Whether something was counted since the last commit."""
        return self._counts != self._committed

    @property
    def key(self) -> Key:
        """What is being counted."""
        return self._task, self._since, self._hour

    def add(self, judged: Judged) -> None:
        """Count what was found."""
        for place, (rows, failed) in enumerate(judged.counts):
            at = 2 * self._at[judged.node, place]
            self._counts[at] += rows
            self._counts[at + 1] += failed

    def note(self, now: datetime, told: bool) -> list[Any]:
        """What is to be committed with the position.

        Args:
            now: what time it is.
            told: whether the database knows what is committed: only then a new hour begins.
        """
        if told and _hour_of(now) != self._hour:
            self._hour = _hour_of(now)
            self._counts = [new - old for new, old in zip(self._counts, self._committed, strict=True)]
            self._committed = [0] * len(self._counts)
        return [self._code, self._since, self._hour, list(self._counts)]

    def committed(self) -> tuple[CheckCount, ...]:
        """The note was committed; gives what counts."""
        self._committed = list(self._counts)
        return self.found()

    def found(self) -> tuple[CheckCount, ...]:
        """What counts, of this hour."""
        hour = datetime.fromtimestamp(self._hour * _HOUR, UTC)
        return tuple(
            CheckCount(hour, judged, name, self._severity[judged, name], *self._committed[2 * place : 2 * place + 2])
            for (judged, name), place in self._places.items()
        )


def _hour_of(now: datetime) -> int:
    return int(now.timestamp()) // _HOUR


class Tallies:
    """The tallies of a process's tasks.

    Args:
        checks: by stage.
        clock: the time.
    """

    def __init__(self, checks: Callable[[int], Sequence[Judge]], clock: Clock) -> None:
        self._checks = checks
        self._clock = clock
        #: What counts, and the database does not know yet; whoever tells it takes it out.
        self.untold: dict[Key, tuple[CheckCount, ...]] = {}

    def begin(self, work: Work, came: Mapping[Partition, Position]) -> None:
        """Have a task go on counting, from where its group has come."""
        judges = self._checks(work.stage)
        if judges and work.inputs:
            counted = Note.of(came.get(min(work.inputs), Position(0))).checks
            work.tally = Tally(f"{work.stage}.{work.number}", judges, counted, self._clock.now())
            self.untold[work.tally.key] = work.tally.found()

    def notes(self, work: Work) -> dict[Partition, list[Any]]:
        """What is to be committed with a task's positions: one of them carries what it has counted."""
        if work.tally is None:
            return {}
        told = work.tally.key not in self.untold
        return {min(work.positions): work.tally.note(self._clock.now(), told)}

    def committed(self, works: Iterable[Work]) -> None:
        """What was noted counts."""
        for work in works:
            if work.tally is not None and work.tally.news:
                counts = work.tally.committed()
                self.untold[work.tally.key] = counts
