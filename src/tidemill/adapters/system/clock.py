"""The computer's clock. The whole program learns the time from one instance of it, which wiring makes."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime


class SystemClock:
    """The port `clock` on the operating system.

    The system's time can be set back (NTP, a person); `now` then stands still until the time has caught up, so
    that what happened later never gets an earlier time within this process.
    """

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The current time, aware, UTC."""
        with self._lock:
            self._last = max(self._last, datetime.now(UTC))
            return self._last

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; for durations."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds > 0:
            time.sleep(seconds)
