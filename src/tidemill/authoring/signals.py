"""What a task raises to say how it ends, where returning would not say it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any


class TaskSignal(Exception):
    """Base of what tasks raise on purpose."""


class SkipTask(TaskSignal):
    """The task counts as skipped; its xcoms stay."""


class FailTask(TaskSignal):
    """The task has failed, and another try would be in vain."""


class SensorTimeout(FailTask):
    """A sensor has waited longer than it may; there is no other try, as in Airflow."""


class Reschedule(TaskSignal):
    """Give back the worker; the task is executed again at `at`, as the same try."""

    def __init__(self, at: datetime) -> None:
        super().__init__(f"again at {at.isoformat()}")
        self.at = at


class Defer(TaskSignal):
    """Give back the worker and wait in the shared event loop; the task is executed again once the trigger has fired.

    Args:
        trigger: a registered name, or `module:name` of an async function.
        arguments: its keyword arguments, JSON values.
        timeout: how long it may wait.
    """

    def __init__(self, trigger: str, arguments: Mapping[str, Any] | None = None, timeout: timedelta | None = None):
        super().__init__(f"waits for {trigger}")
        self.trigger = trigger
        self.arguments = dict(arguments or {})
        self.timeout = timeout
