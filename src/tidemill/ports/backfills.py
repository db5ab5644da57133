"""Port `backfills`: ranges of intervals to run, and how far each has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.backfill import Backfill, BackfillState, BackfillStep, Policy
from tidemill.model.batch import Interval


class Backfills(Protocol):
    """The backfills of a project."""

    def add(
        self,
        pipeline: str,
        intervals: Sequence[Interval],
        now: datetime,
        *,
        policy: Policy,
        concurrency: int,
        tasks: Iterable[str] = (),
        conf: Mapping[str, Any] | None = None,
    ) -> Backfill:
        """Begin one, for intervals in the order in which they shall run."""
        ...

    def get(self, backfill_id: int) -> Backfill | None:
        """One of them."""
        ...

    def recent(self, *, active: bool = False, limit: int | None = None) -> list[Backfill]:
        """Backfills, newest first; with `active` only those that may go on."""
        ...

    def steps(self, backfill_id: int) -> list[BackfillStep]:
        """Its intervals in order; the run of each is the newest attempt at its batch that belongs to the backfill."""
        ...

    def started(self, backfill_id: int, position: int, run_id: int) -> None:
        """An interval has a run."""
        ...

    def move(self, backfill_id: int, state: BackfillState, now: datetime) -> None:
        """Pause it, go on with it, or end it. Raises UnknownName, Refused where it has ended."""
        ...
