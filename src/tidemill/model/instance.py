"""Instances of tasks in a run, what happens to them, and how their tries end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from tidemill.model.graph import TaskKey
from tidemill.model.run import TaskState


@dataclass(frozen=True, slots=True)
class Instance:
    """A task instance as it is recorded.

    Args:
        state: see `TaskState`.
        tries: tries begun; the number of the one that is under way.
        failed: tries that failed since it was last cleared; retries count against these.
        lost: tries whose worker went away, which nobody counts against the user.
        due: when a wait for the next try, or the next look of a sensor, is over.
        length: how many instances a task that is mapped over its result has; None: it has no length.
        trigger: what a deferred one waits for, as JSON text.
    """

    state: TaskState = TaskState.NONE
    tries: int = 0
    failed: int = 0
    lost: int = 0
    due: datetime | None = None
    length: int | None = None
    trigger: str | None = None


# -- how a try ends


@dataclass(frozen=True, slots=True)
class Succeeded:
    """It ended well. `length` is that of its result; `skip` are tasks right after it that it decided against."""

    length: int | None = None
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """It ended badly.

    Args:
        error: what to tell.
        again: False where another try would be in vain.
        delay: the wait before the next try, where the task itself says so.
    """

    error: str = ""
    again: bool = True
    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """It decided against itself."""


@dataclass(frozen=True, slots=True)
class Rescheduled:
    """A sensor that gives back its worker until `at`; the same try goes on then."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Deferred:
    """It waits in the shared event loop; the same try goes on once what it waits for has happened.

    Args:
        trigger: what waits: a registered name, or `module:name` of an async function in the user's code.
        arguments: its keyword arguments, JSON values.
        timeout: how long it may wait, from the first look on; None: any time.
    """

    trigger: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    timeout: timedelta | None = None

    def as_text(self) -> str:
        """Name and arguments as JSON text."""
        return json.dumps({"trigger": self.trigger, "arguments": dict(self.arguments)})


Outcome: TypeAlias = "Succeeded | Failed | Skipped | Rescheduled | Deferred"


@dataclass(frozen=True, slots=True)
class Report:
    """What a try leaves beside its outcome.

    Args:
        xcoms: keys and values, the values as JSON text; a large one is a reference to the archive's store.
        rows: of the table that it wrote. `bytes`: of what it archived.
        seconds: that it took in its worker.
        worker: who did it, as `host:pid`.
    """

    xcoms: tuple[tuple[str, str], ...] = ()
    rows: int | None = None
    bytes: int | None = None
    seconds: float = 0.0
    worker: str = ""


# -- what happens to a run


@dataclass(frozen=True, slots=True)
class Begun:
    """The run starts."""


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A ready instance is handed to an executor; this begins a try, or goes on with the one that waited."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class Started:
    """A worker has it."""

    key: TaskKey
    number: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The try `number` of an instance has ended."""

    key: TaskKey
    number: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of a try is gone, and with it whatever it knew.

    `alone`: it went by itself, so the task may be why; otherwise all that its scheduler had went with it.
    """

    key: TaskKey
    number: int
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Due:
    """A wait is over: of a retry, a sensor, or a trigger that has fired."""

    key: TaskKey


@dataclass(frozen=True, slots=True)
class PastEnded:
    """The run of the interval before has ended a task well."""

    task: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """A person wants tasks to run again, with everything below them."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Marked:
    """A person says how an instance shall count: success, failed or skipped."""

    key: TaskKey
    state: TaskState


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A person stops the run, or its time is over."""


Event: TypeAlias = "Begun | Dispatched | Started | Ended | Lost | Due | PastEnded | Cleared | Marked | Cancelled"


@dataclass(frozen=True, slots=True)
class Change:
    """An instance before and after an event; `before` None: it was made by expanding a mapped task."""

    key: TaskKey
    before: Instance | None
    after: Instance
    error: str | None = None
