"""A clock that tests advance: nothing waits, and every time in a test is known beforehand."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class ManualClock:
    """The port `clock` under a test's control. `sleep` returns at once, having advanced the clock.

    Args:
        start: the first time it tells, aware.
    """

    def __init__(self, start: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise ValueError("start needs a zone")
        self._now = start.astimezone(UTC)
        self._monotonic = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The time that the test has set."""
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        """Seconds by which the clock was advanced so far."""
        with self._lock:
            return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Advance by `seconds`, without waiting."""
        self.advance(seconds)

    def advance(self, by: float | timedelta) -> datetime:
        """Go forward by seconds or a timedelta; returns the new time. Raises ValueError for going back."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        if step < timedelta(0):
            raise ValueError("a clock never goes back")
        with self._lock:
            self._now += step
            self._monotonic += step.total_seconds()
            return self._now
