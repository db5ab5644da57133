"""What the other processes of a stream have committed: how far they have come, and what time it is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tidemill.flow.stream.asking import LATER, QUICKLY
from tidemill.flow.stream.notes import Note, offset_of
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.times import Times
from tidemill.flow.stream.work import Work, readers_of
from tidemill.model.errors import Unreachable
from tidemill.ports.topic import Member, Partition, Position

#: Seconds between two questions: they commit about as often.
_EVERY = 1.0


class Others:
    """See the module.

    Args:
        plan: the stream.
    """

    def __init__(self, plan: StreamPlan) -> None:
        self._all = readers_of(plan)
        self._asked = float("-inf")
        self._known: Mapping[Partition, Position] = {}
        self._theirs: list[Partition] = []

    def look(self, works: Collection[Work], member: Member, now: float) -> None:
        """Ask, if it is time to, and there are others."""
        mine = {partition for work in works for partition in work.inputs}
        self._theirs = [partition for partition in self._all if partition not in mine]
        if self._theirs and now - self._asked >= _EVERY:
            self._asked = now
            try:
                self._known = member.committed(self._theirs, QUICKLY)
            except Unreachable:  # what is known only gets old
                self._asked = now + LATER

    @property
    def positions(self) -> dict[Partition, int]:
        """How far they have come."""
        return {partition: offset_of(self._known[partition]) for partition in self._theirs if partition in self._known}

    @property
    def times(self) -> list[Times]:
        """What time it is in their tasks."""
        notes = (Note.of(self._known[partition]).times for partition in self._theirs if partition in self._known)
        return [Times.unpacked(times) for times in notes if times is not None]
