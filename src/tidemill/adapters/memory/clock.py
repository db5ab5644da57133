"""Port `clock` that leaps: it begins at the time of another one, and waiting takes no time."""

from __future__ import annotations

from datetime import datetime, timedelta

from tidemill.ports.clock import Clock


class LeapingClock:
    """The time of another clock, and what was waited for."""

    def __init__(self, of: Clock) -> None:
        self._of = of
        self._leapt = timedelta(0)

    def now(self) -> datetime:
        """The time, as if all waits had taken place."""
        return self._of.now() + self._leapt

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment."""
        return self._of.monotonic() + self._leapt.total_seconds()

    def sleep(self, seconds: float) -> None:
        """Leap."""
        self._leapt += timedelta(seconds=max(seconds, 0.0))
