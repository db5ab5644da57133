"""Port `executor`: takes jobs to workers and brings back what became of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

from tidemill.model.graph import WHOLE, TaskKey
from tidemill.model.instance import Outcome, Report
from tidemill.model.run import RunInfo

#: The report of a try that leaves nothing.
NOTHING = Report()
#: The key of the job that publishes a run whose tasks have all ended well: no task has an empty id.
PUBLISH: TaskKey = ("", WHOLE)


@dataclass(frozen=True, slots=True)
class Job:
    """One try of a task instance.

    Args:
        run_id: the run.
        fence: that of the run's driver; what a worker writes carries it.
        key: the instance.
        number: the number of the try.
        queue: which workers may have it.
        until: a worker that has heard nothing by then stops: somebody else may have begun the try's successor.
        timeout: the try may take so long; None: any time.
        run: what the worker must know of the run; None only where nothing is executed.
        failed: tries that have failed before this one: whether a failure is final, and the number that users see.
    """

    run_id: int
    fence: int
    key: TaskKey
    number: int
    queue: str
    until: datetime
    timeout: timedelta | None = None
    run: RunInfo | None = None
    failed: int = 0


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A worker has begun. `fence` is the job's. A job that ends at once may come without."""

    run_id: int
    fence: int
    key: TaskKey
    number: int


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A worker is done; `outcome` None: it went away without a word. `fence` is the job's."""

    run_id: int
    fence: int
    key: TaskKey
    number: int
    outcome: Outcome | None
    report: Report = NOTHING


JobEvent: TypeAlias = "JobStarted | JobEnded"
#: Which try: run, instance, number.
JobPlace: TypeAlias = tuple[int, TaskKey, int]
#: What a worker does with a job, in its process's main thread. It says by its result how the try went; an exception
#: that leaves it counts as a failed try, `Interrupted` as what it says.
Perform: TypeAlias = "Callable[[Job], tuple[Outcome, Report]]"


class Interrupted(BaseException):
    """Raised in the midst of a task that shall not go on. It is no `Exception`, so that few tasks catch it unwanted."""


class TaskStopped(Interrupted):
    """Somebody stopped the task, or nobody waits for it any more."""


class TaskTimeout(Interrupted):
    """The task took longer than it may."""


class Executor(Protocol):
    """Workers of one scheduler.

    Promises:
      - Every job that was submitted ends in a `JobEnded`, by its worker's word or without one, as long as this object
        lives. An event is told until it is acknowledged, so that a scheduler which could not write it down sees it
        again; it may also come twice.
      - A worker whose job is not renewed stops by itself at the job's `until`.
      - No method waits.
    """

    def free(self, queues: Collection[str]) -> Mapping[str, int]:
        """How many jobs of each of these queues it takes now; all of them together, where queues share workers."""
        ...

    def submit(self, job: Job) -> None:
        """Hand over a job. One that is known already (same run, key and number) is not begun twice."""
        ...

    def has(self, run_id: int, key: TaskKey, number: int) -> bool:
        """Whether the job is here, or its end has not been acknowledged."""
        ...

    def renew(self, until: datetime, places: Collection[JobPlace] | None = None) -> None:
        """Let these jobs go on until then, or all that are here."""
        ...

    def stop(self, run_id: int, key: TaskKey) -> None:
        """Stop a job, first politely; it ends like any other."""
        ...

    def events(self) -> Sequence[JobEvent]:
        """What has happened and was not acknowledged, oldest first."""
        ...

    def acknowledge(self, events: Sequence[JobEvent]) -> None:
        """These need not be told again."""
        ...

    def handles(self) -> Sequence[int]:
        """File descriptors to sleep on: one becomes readable when `events` has something to do."""
        ...

    def pause(self) -> float | None:
        """Seconds until `events` has something to do in any case, as when a time is over; None: nothing is awaited."""
        ...
