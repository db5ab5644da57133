"""Backfills: runs for a range of intervals, a few at a time, that can be paused and gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tidemill.model.batch import Interval


class BackfillState(StrEnum):
    """Where a backfill stands."""

    RUNNING = "running"
    #: A person has paused it; what is under way goes on.
    PAUSED = "paused"
    #: Every interval was published.
    SUCCESS = "success"
    #: It is over, and some intervals were not published.
    FAILED = "failed"
    CANCELLED = "cancelled"


class Policy(StrEnum):
    """Which intervals of the range are run."""

    #: Those that were never published and whose last run did not fail either: nobody has seen them yet.
    MISSING = "missing"
    #: Those that are missing, and those whose last run failed.
    FAILED = "failed"
    #: All of them again.
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Backfill:
    """The record of a backfill.

    Args:
        id: it.
        pipeline: whose intervals.
        state: where it stands.
        policy: how the intervals were chosen.
        concurrency: so many of its runs at the same time.
        tasks: it is restricted to these, with what follows from them; none: all.
        conf: parameters of its runs.
    """

    id: int
    pipeline: str
    state: BackfillState
    policy: Policy
    concurrency: int
    created_at: datetime
    ended_at: datetime | None = None
    tasks: tuple[str, ...] = ()
    conf: Mapping[str, Any] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether it may go on."""
        return self.state in (BackfillState.RUNNING, BackfillState.PAUSED)


@dataclass(frozen=True, slots=True)
class BackfillStep:
    """One interval of a backfill, and its run once there is one."""

    position: int
    interval: Interval
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a backfill has come: intervals by how they stand."""

    total: int = 0
    waiting: int = 0
    running: int = 0
    success: int = 0
    failed: int = 0
