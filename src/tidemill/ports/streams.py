"""Port `streams`: a part of the metadata store. Which streams are paused; and what their processes tell for people and
pages: of themselves, and what checks have found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class CheckCount:
    """What a check of a stream has found in an hour of the clock.

    Args:
        hour: its beginning.
        judged: whose rows: a topic's name, or the stream's own for its result.
        name, severity: of the check.
        rows: how many were looked at. `failed`: of these.
    """

    hour: datetime
    judged: str
    name: str
    severity: str
    rows: int
    failed: int


class Streams(Protocol):
    """The newest facts of each process, and the counts of checks, which are shown; and pauses, which are obeyed."""

    def tell(self, stream: str, process: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Replace what a process has told of its part in a stream; `facts` are JSON."""
        ...

    def told(self, stream: str | None = None) -> list[Mapping[str, Any]]:
        """The facts of one stream's processes, or of all, in the order of their names."""
        ...

    def forget(self, stream: str, process: str) -> None:
        """A process has ended: nothing is known of it any more."""
        ...

    def forget_before(self, at: datetime) -> None:
        """Forget processes that have told nothing since a time."""
        ...

    def pause(self, stream: str, at: datetime) -> None:
        """Let no process work on a stream; one that is paused stays so."""
        ...

    def resume(self, stream: str) -> None:
        """Let processes work on it again."""
        ...

    def paused(self) -> frozenset[str]:
        """The streams that are paused."""
        ...

    def count(self, stream: str, task: str, since: int, counts: Iterable[CheckCount]) -> None:
        """Keep what a task's checks have found in an hour so far.

        Counts of a task's life (`since` names it) only grow: of what is told twice, or late, the greater stays.
        """
        ...

    def counted(self, stream: str | None = None, begin: datetime | None = None) -> list[tuple[str, CheckCount]]:
        """What checks have found, of all tasks together, with the stream's name: by stream, hour, and name.

        Args:
            stream: only of this one.
            begin: only hours that begin then, or later.
        """
        ...

    def forget_counts(self, before: datetime) -> None:
        """Forget what was found in hours before a time."""
        ...
