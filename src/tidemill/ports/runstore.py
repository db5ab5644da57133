"""Port `runstore`: the runs that schedulers drive, shared by all of them. Part of the metadata database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from tidemill.model.graph import TaskKey
from tidemill.model.instance import Change, Cleared, Due, Event, Instance, Marked, Report
from tidemill.model.run import RunInfo, RunState, TaskState

#: Said of a run without one before it: no task waits for its past.
NO_PAST = frozenset({"*"})


@dataclass(frozen=True, slots=True)
class DrivenRun:
    """A run as its driver sees it.

    Args:
        info: what workers know of it.
        definition_id: of the definition that it began with.
        fence: the driver's; grows with each driver.
        started_at: when it began.
        cancel: a person wants it to stop.
        publishing: its tasks have ended well, and it is being published.
        only: the tasks that it is restricted to; empty: all.
        past: tasks that the run of the interval before has ended well; `NO_PAST` where there is none.
        instances: task instances as they were recorded; empty for a run that nobody has driven yet.
    """

    info: RunInfo
    definition_id: int
    fence: int
    started_at: datetime
    cancel: bool = False
    publishing: bool = False
    only: frozenset[str] = frozenset()
    past: frozenset[str] = NO_PAST
    instances: Mapping[TaskKey, Instance] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """The run."""
        return self.info.id


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that a person, or whoever waits for something in a task's place, wants to happen to a run."""

    id: int
    run_id: int
    event: Event


@dataclass(frozen=True, slots=True)
class Progress:
    """What a driver has decided about a run: written whole or not at all.

    Args:
        run_id, fence: the run, and the driver's fence.
        at: the driver's time.
        changes: of instances, in the order in which they changed.
        reports: what tries have left, by instance and number.
        wishes: ids of those that are carried out with this.
        end: the run's end, where that is decided; PUBLISHING where all went well.
        publish: a worker must publish it; otherwise one that has no branch is published by being recorded.
        error: why it failed.
    """

    run_id: int
    fence: int
    at: datetime
    changes: Sequence[Change] = ()
    reports: Sequence[tuple[TaskKey, int, Report]] = ()
    wishes: Sequence[int] = ()
    end: RunState | None = None
    publish: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of decisions: runs that another driver has by now, and runs that a worker must publish."""

    lost: frozenset[int] = frozenset()
    publish: frozenset[int] = frozenset()


class PoolFull(Exception):
    """A pool has no room for what was to be dispatched: other schedulers took it. Nothing was recorded."""


class RunStore(Protocol):
    """Runs and their task instances.

    Promises: times of leases are those of the store, the same for every scheduler; a run has one driver at a time;
    what a driver saves after another has taken over is refused (fences); the instances that are recorded as queued or
    running never take more slots of a pool than it has; of a pipeline no more runs are under way than its definition
    allows.

    Raises:
        Unreachable: the store does not answer; whether what was asked was done is not known.
        Conflict: another writer was in the way for too long; nothing was done.
    """

    def claim(self, holder: str, lease: timedelta, limit: int, *, only: int | None = None) -> list[DrivenRun]:
        """Take runs that nobody drives: new ones, oldest first, and those whose driver's lease is over; or one run.

        A new one that lost a race is taken with the publish tickets of its tables, once no other run has them (rule 3).
        """
        ...

    def renew(self, holder: str, lease: timedelta) -> datetime:
        """Prolong the lease on all runs of a driver; returns until when it holds."""
        ...

    def release(self, holder: str) -> None:
        """Give up all runs of a driver: others may claim them at once."""
        ...

    def driven(self, holder: str) -> list[DrivenRun]:
        """The runs of a driver as they are recorded: to begin anew with, when it is not known what was written."""
        ...

    def save(self, progress: Iterable[Progress]) -> Saved:
        """Record decisions, in one transaction.

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

    def wishes(self, holder: str) -> Sequence[Wish]:
        """What is wanted of runs of a driver and was not carried out, oldest first."""
        ...

    def past(self, run_ids: Iterable[int]) -> Mapping[int, frozenset[str]]:
        """Tasks that the runs of the intervals before have ended well by now, by run."""
        ...


def wish_json(event: Event) -> dict[str, Any]:
    """A wish as JSON.

    Raises:
        TypeError: nobody can wish for such an event.
    """
    if isinstance(event, Cleared):
        return {"wish": "clear", "tasks": list(event.tasks)}
    if isinstance(event, Marked):
        return {"wish": "mark", "key": list(event.key), "state": str(event.state)}
    if isinstance(event, Due):
        return {"wish": "due", "key": list(event.key)}
    raise TypeError(f"nobody can wish for {event!r}")


def read_wish(found: Mapping[str, Any]) -> Event:
    """What `wish_json` wrote."""
    if found["wish"] == "clear":
        return Cleared(tuple(found["tasks"]))
    key = (found["key"][0], found["key"][1])
    return Marked(key, TaskState(found["state"])) if found["wish"] == "mark" else Due(key)
