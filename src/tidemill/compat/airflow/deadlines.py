"""`DeadlineAlert`: when a run is late, and what is called then, as `deadline=`, `deadline_from=` and
`on_deadline_callback=` of a DAG say it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.authoring.place import here
from tidemill.compat.airflow.providers import import_string
from tidemill.compat.airflow.values import BaseNotifier
from tidemill.model.errors import DefinitionError


@dataclass(frozen=True)
class _Reference:
    """What a deadline counts from, in the words of `deadline_from=`."""

    whence: str


class DeadlineReference:
    """What a deadline counts from."""

    DAGRUN_LOGICAL_DATE = _Reference("start")
    DAGRUN_QUEUED_AT = _Reference("created")

    @staticmethod
    def FIXED_DATETIME(dt: datetime) -> _Reference:  # noqa: N802  # as it is called there
        """A moment."""
        return _Reference((dt if dt.tzinfo else dt.replace(tzinfo=UTC)).isoformat())

    @staticmethod
    def AVERAGE_RUNTIME(max_runs: int = 0, min_runs: int | None = None) -> _Reference:  # noqa: N802
        """Not here. Raises DefinitionError."""
        raise DefinitionError(
            "A deadline by the average of runs is not kept here.",
            where=here(),
            hint="DeadlineReference.DAGRUN_QUEUED_AT, with a length of its own",
        )


class Callback:
    """What is called when a run is late: a function or a notifier's class, or its dotted path.

    Args:
        callback_callable: it; an `async def` is awaited.
        kwargs: its arguments; it gets the `context`, too, where it takes one.
    """

    def __init__(
        self, callback_callable: Callable[..., Any] | str, kwargs: Mapping[str, Any] | None = None, **_options: Any
    ) -> None:
        self.callable = callback_callable
        self.kwargs = dict(kwargs or {})
        if "context" in self.kwargs:
            raise DefinitionError('"context" is given by itself.', where=here())

    def __call__(self, context: Any) -> None:
        """Call it. Raises ImportError: nothing is at its path."""
        found: Any = import_string(self.callable.strip()) if isinstance(self.callable, str) else self.callable
        if isinstance(found, type) and issubclass(found, BaseNotifier):
            found(**self.kwargs)(context)
            return
        made = found(**self.kwargs, **({"context": context} if _takes_context(found) else {}))
        if inspect.isawaitable(made):
            asyncio.run(_awaited(made))


async def _awaited(made: Any) -> Any:
    return await made


def _takes_context(function: Callable[..., Any]) -> bool:
    wanted = inspect.signature(function).parameters.values()
    return any(one.name == "context" or one.kind is one.VAR_KEYWORD for one in wanted)


@dataclass(frozen=True)
class DeadlineAlert:
    """When a run is late.

    Args:
        reference: what it counts from; see `DeadlineReference`.
        interval: so long after it.
        callback: what is called then.
        name: accepted, and not heeded.

    Raises:
        DefinitionError: it has no meaning here.
    """

    reference: Any
    interval: Any
    callback: Any = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.reference, _Reference):
            hint = "DeadlineReference.DAGRUN_LOGICAL_DATE, .DAGRUN_QUEUED_AT or .FIXED_DATETIME(moment)"
            raise DefinitionError(
                f"A deadline cannot count from {type(self.reference).__name__} here.", where=here(), hint=hint
            )
        if not isinstance(self.interval, timedelta):
            raise DefinitionError(f"{self.interval!r} is no length of time.", where=here(), hint="timedelta(hours=1)")


def deadline_words(given: Any) -> dict[str, Any]:
    """The arguments of a DAG that a `deadline=` of Airflow means. Raises DefinitionError: it has several."""
    alerts = list(given) if isinstance(given, list | tuple) else [given]
    if not alerts or not all(isinstance(one, DeadlineAlert) for one in alerts):
        return {"deadline": given}
    if len(alerts) > 1:
        raise DefinitionError("A DAG has one deadline here.", where=here(), hint="the one that matters most")
    [alert] = alerts
    words = {"deadline": alert.interval, "deadline_from": alert.reference.whence}
    return words if alert.callback is None else {**words, "on_deadline_callback": alert.callback}
