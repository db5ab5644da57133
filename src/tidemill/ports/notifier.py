"""Port `notifier`: tells people, and other programs, what happened to runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

#: What can be told of, by the words of the settings.
EVENTS = ("published", "failed", "cancelled", "late", "asked")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to a run.

    Args:
        event: one of `EVENTS`.
        project, pipeline: where.
        run_id, batch_id: to which run.
        at: when.
        text: what to tell people: a line, and what follows.
        details: the rest, JSON values.
    """

    event: str
    project: str
    pipeline: str
    run_id: int | None
    batch_id: int | None
    at: datetime
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)


class Notifier(Protocol):
    """Sends notices to one place.

    Promises: `send` returns when the other side has taken the notice; the same notice may be sent again after an error
    that left open whether it was taken.

    Raises:
        Unreachable: try again later. Refused: the other side does not want it, ever.
    """

    def send(self, notice: Notice) -> None:
        """Send a notice; takes as long as it takes."""
        ...
