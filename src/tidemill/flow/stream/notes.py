"""What is committed beside a position: of which topic it is, a place that offsets have no number for, what was counted.

A note is committed in one step with its position, by every broker, so it holds if, and only if, the position does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tidemill.ports.topic import Position


@dataclass(frozen=True, slots=True)
class Note:
    """A note.

    Args:
        topic: the id of the topic that the position is of; empty: nobody knows.
        row: where the group is in the rows of a table that comes before the topic: below zero, which no group can
            commit as an offset.
        checks: what checks have counted, see `tally.py`.
        times: what time it is in the task, see `times.py`.
    """

    topic: str = ""
    row: int | None = None
    checks: list[Any] | None = None
    times: list[Any] | None = None

    @classmethod
    def of(cls, position: Position) -> Note:
        """The note of a position; what is none is empty."""
        try:
            found = json.loads(position.note)
            return cls(found.get("topic", ""), found.get("row"), found.get("checks"), found.get("times"))
        except (ValueError, AttributeError):
            return cls()

    def packed(self) -> str:
        """As text; without what there is not."""
        parts = {"topic": self.topic or None, "row": self.row, "checks": self.checks, "times": self.times}
        told = {name: part for name, part in parts.items() if part is not None}
        return json.dumps(told, separators=(",", ":")) if told else ""


def position_of(
    offset: int, topic: str = "", checks: list[Any] | None = None, times: list[Any] | None = None
) -> Position:
    """What is committed for the next offset of a partition."""
    return Position(max(0, offset), Note(topic, offset if offset < 0 else None, checks, times).packed())


def offset_of(position: Position) -> int:
    """The next offset that was committed."""
    row = Note.of(position).row
    return position.offset if row is None else row
