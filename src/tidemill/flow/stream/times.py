"""What time it is in a stream's tasks, by stamp; each task's is part of what it commits, so that others know it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tidemill.flow.stream.work import Work

#: As a note has it: whether all sources are silent; then, by stamp, `known`, and how far `speaking` is behind that.
Packed: TypeAlias = "list[Any]"


@dataclass(slots=True)
class Times:
    """How far event time has come, in microseconds by stamp.

    Args:
        known: the greatest of any lane.
        speaking: the least of the lanes that are not silent; a stamp is missing where all are.
        quiet: whether all sources are silent.
    """

    known: dict[int, int] = field(default_factory=dict)
    speaking: dict[int, int] = field(default_factory=dict)
    quiet: bool = True

    @classmethod
    def of(cls, work: Work) -> Times:
        """Those of a task."""
        made = cls(quiet=not work.listening - work.silent)
        for place, tops in work.task.places().items():
            for number, top in tops.items():
                if top is not None:
                    made._see(number, top, None if place in work.silent else top)
        return made

    @classmethod
    def together(cls, several: Iterable[Times]) -> Times:
        """Those of several tasks."""
        made = cls()
        for one in several:
            made.quiet &= one.quiet
            for number, top in one.known.items():
                made._see(number, top, one.speaking.get(number))
        return made

    @classmethod
    def unpacked(cls, packed: Packed) -> Times:
        """Those of a note."""
        quiet, *found = packed
        made = cls(quiet=bool(quiet))
        for number, top, behind in found:
            made._see(number, top, None if behind is None else top - behind)
        return made

    def packed(self) -> Packed:
        """For a note."""
        behind = {number: self.known[number] - low for number, low in self.speaking.items()}
        return [int(self.quiet), *([number, top, behind.get(number)] for number, top in self.known.items())]

    @property
    def upto(self) -> dict[int, int]:
        """What time it is for a silent lane: that of the least of those that speak. Where none does, nothing is waited
        for: it is as late as anywhere.
        """
        return {**self.known, **self.speaking}

    def _see(self, number: int, top: int, low: int | None) -> None:
        self.known[number] = max(top, self.known.get(number, top))
        if low is not None:
            self.speaking[number] = min(low, self.speaking.get(number, low))
