"""Port `runstore`: the runs that schedulers drive, shared by all of them. Part of the metadata database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from tidemill.model.graph import TaskKey
from tidemill.model.instance import Change, Instance
from tidemill.model.run import RunState


@dataclass(frozen=True, slots=True)
class DrivenRun:
    """A run as its driver sees it.

    Args:
        id: the run.
        pipeline: its name.
        version: the content hash of the code that it began with.
        fence: the driver's; grows with each driver.
        cancel: a person wants it to stop.
        instances: task instances as they were recorded; empty for a run that nobody has driven yet.
    """

    id: int
    pipeline: str
    version: str
    fence: int
    cancel: bool
    instances: Mapping[TaskKey, Instance]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a driver has decided about a run: written whole or not at all."""

    run_id: int
    fence: int
    changes: Sequence[Change]
    #: The run's end, where that is decided; PUBLISHING where all went well and the publish comes next.
    end: RunState | None = None


class PoolFull(Exception):
    """A pool has no room for what was to be dispatched: other schedulers took it. Nothing was recorded."""


class RunStore(Protocol):
    """Runs and their task instances.

    Promises: times are those of the store, the same for every scheduler; a run has one driver at a time; what a driver
    saves after another has taken over is refused (fences); the instances that are recorded as queued or running never
    take more slots of a pool than it has.

    Raises:
        Unreachable: the store does not answer; whether what was asked was done is not known.
        Conflict: another writer was in the way for too long; nothing was done.
    """

    def claim(self, holder: str, lease: timedelta, limit: int) -> list[DrivenRun]:
        """Take runs that nobody drives: new ones, oldest first, and those whose driver's lease is over."""
        ...

    def renew(self, holder: str, lease: timedelta) -> datetime:
        """Prolong the lease on all runs of a driver; returns until when it holds."""
        ...

    def driven(self, holder: str) -> list[DrivenRun]:
        """The runs of a driver as they are recorded: to begin anew with, when it is not known what was written."""
        ...

    def save(self, progress: Iterable[Progress]) -> frozenset[int]:
        """Record decisions, in one transaction. Returns the runs that another driver has: theirs were not recorded.

        Raises:
            PoolFull: see there.
        """
        ...

    def room(self, holder: str) -> Mapping[str, int]:
        """Slots by pool, without those that the runs of other drivers take."""
        ...

    def cancelled(self, holder: str) -> frozenset[int]:
        """Runs of a driver that a person wants to stop."""
        ...
