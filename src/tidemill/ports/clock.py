"""Port `clock`: the only way to learn the time, so that tests can advance it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits.

    Promises: `now` is aware, in UTC, and never goes back within a process; `monotonic` is seconds from an
    arbitrary start; `sleep` returns after at least `seconds` of this clock's time.
    """

    def now(self) -> datetime:
        """The current time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; for durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
