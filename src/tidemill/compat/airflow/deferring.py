"""Deferrable operators: their triggers are awaited in the worker, and then they go on where they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.authoring import registry
from tidemill.compat.airflow.connections import LoggingMixin
from tidemill.compat.airflow.exceptions import AirflowException
from tidemill.compat.airflow.moments import in_pendulum


class TaskDeferred(BaseException):
    """Raised by `defer`: it is no Exception, so that nobody catches it by accident.

    Args:
        trigger: what is awaited.
        method_name: where the operator goes on, with the context, `event` and these arguments.
        kwargs: the arguments.
        timeout: how long it may take; seconds or a length of time.
    """

    def __init__(
        self, *, trigger: Any, method_name: str, kwargs: Mapping[str, Any] | None = None, timeout: Any = None
    ) -> None:
        super().__init__(f"waits for {type(trigger).__name__}")
        self.trigger = trigger
        self.method_name = method_name
        self.kwargs = dict(kwargs or {})
        self.timeout = timeout


class TaskDeferralError(AirflowException):
    """What was awaited has failed."""


class TaskDeferralTimeout(AirflowException):
    """What was awaited has not come in time."""


class TriggerEvent:
    """What a trigger has seen."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload

    def __repr__(self) -> str:
        return f"TriggerEvent<{self.payload!r}>"


class BaseTrigger(LoggingMixin):
    """Base of what deferrable operators wait for."""

    def __init__(self, **_options: Any) -> None:
        super().__init__()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Its class and arguments, as Airflow keeps them; nothing of it is kept here."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Events, of which the first one counts; subclasses give them."""
        nothing: tuple[TriggerEvent, ...] = ()
        for one in nothing:
            yield one

    async def cleanup(self) -> None:
        """Called when nobody waits any more."""

    @classmethod
    async def first(cls, **arguments: Any) -> Any:
        """What one with these arguments sees first. Raises TaskDeferralError: it ends without an event."""
        found = await _first(TaskDeferred(trigger=cls(**arguments), method_name=""))
        return found.payload


class DateTimeTrigger(BaseTrigger):
    """A moment."""

    def __init__(self, moment: datetime, *, end_from_trigger: bool = False, **_options: Any) -> None:
        super().__init__()
        self.moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """See `BaseTrigger`."""
        while (left := self.moment - registry.now()) > timedelta(0):
            await asyncio.sleep(min(left.total_seconds(), 60.0))
        yield TriggerEvent(in_pendulum(self.moment))


class TimeDeltaTrigger(DateTimeTrigger):
    """Some time from now on."""

    def __init__(self, delta: timedelta, *, end_from_trigger: bool = False, **_options: Any) -> None:
        super().__init__(registry.now() + delta)


def executed(task: Any, context: Any) -> Any:
    """What a task's `execute` gives, or what it goes on with once what it waits for has come.

    Raises:
        TaskDeferralError, TaskDeferralTimeout: it has not come; an operator may catch them in `resume_execution`.
    """
    step = task.execute
    given: tuple[Any, ...] = (context,)
    while True:
        try:
            return step(*given)
        except TaskDeferred as wait:
            task.log.info("waits for %s", type(wait.trigger).__name__)
            event = asyncio.run(_first(wait))
            step, given = task.resume_execution, (wait.method_name, {**wait.kwargs, "event": event.payload}, context)


async def _first(wait: TaskDeferred) -> TriggerEvent:
    """The first event of a trigger."""
    length = wait.timeout.total_seconds() if isinstance(wait.timeout, timedelta) else wait.timeout
    name, events = type(wait.trigger).__name__, wait.trigger.run()
    try:
        async with asyncio.timeout(length):
            found: TriggerEvent = await anext(events)
            return found
    except TimeoutError:
        if length is None:
            raise
        raise TaskDeferralTimeout(f"{name} has seen nothing within {length:g} seconds.") from None
    except StopAsyncIteration:
        raise TaskDeferralError(f"{name} has ended without an event.") from None
    finally:
        await events.aclose()
        await wait.trigger.cleanup()
