"""Port `telemetry`: metrics and stretches of work, told to whoever follows them across systems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

from tidemill.model.metric import Metric, Sample

#: What an attribute of a span may be.
Attribute: TypeAlias = "str | bool | int | float | list[str]"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of work.

    Args:
        name: what was done; few different ones.
        began: when.
        seconds: how long it took.
        attributes: what it was about.
        parts: stretches within it.
        error: why it failed.
    """

    name: str
    began: datetime
    seconds: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    parts: tuple[Span, ...] = ()
    error: str | None = None


class Telemetry(Protocol):
    """Takes what is told. No method waits for whoever listens, or raises: it is only looked at."""

    def ended(self, span: Span) -> None:
        """A stretch of work has ended, with all that belongs to it."""
        ...

    def measured(self, metric: Metric, labels: Sequence[str], value: float) -> None:
        """A value of a histogram."""
        ...

    def observe(self, metrics: Sequence[Metric], samples: Callable[[], Iterable[Sample]]) -> None:
        """Ask for samples of these counters and gauges again and again, in a thread of its own.

        An error in `samples` is told, and leaves these samples out.
        """
        ...

    def close(self) -> None:
        """Send what is left, for some seconds at most."""
        ...
