"""Something does not answer, or the disk is full: a stream tries again and again, and says so now and then only.

A broker that is away for a night would otherwise fill the log with a line for each try.
"""

from __future__ import annotations

import logging

from tidemill.model.errors import TidemillError
from tidemill.ports.clock import Clock

_log = logging.getLogger("tidemill")

#: Seconds before the next try; the later the more often it has failed.
AGAIN = (1.0, 1.0, 2.0, 5.0, 10.0)
#: It is told at once, then after a minute, and then each time after twice as long, up to an hour.
FIRST, MOST = 60.0, 3_600.0
#: What has gone well for so long is over, where nothing says so before.
WELL = 60.0


class Seldom:
    """Says when to tell again of what does not change.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """What comes next is new."""
        self._tell_at = float("-inf")
        self._pause = FIRST

    def due(self) -> bool:
        """Whether it is to be told now."""
        now = self._clock.monotonic()
        if now < self._tell_at:
            return False
        self._tell_at, self._pause = now + self._pause, min(2 * self._pause, MOST)
        return True


class Outage:
    """What is in the way of one worker.

    Args:
        name: whose.
        clock: the time.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._seldom = Seldom(clock)
        self._tries = 0
        self._since = self._last = 0.0

    def met(self, error: object, then: str, *, trace: bool = False) -> float:
        """Something failed; gives the seconds to wait before the next try.

        Args:
            error: what.
            then: what is done about it.
            trace: whether to tell where it was raised: nobody foresaw it.
        """
        now = self._last = self._clock.monotonic()
        if not self._tries:
            self._since = now
            self._seldom.reset()
        self._tries += 1
        if self._seldom.due():
            often = f" (tried {self._tries} times in {_long(now - self._since)})" if self._tries > 1 else ""
            what = (error.what if isinstance(error, TidemillError) else str(error)).removesuffix(".")
            _log.warning("%s: %s; %s.%s", self._name, what, then, often, exc_info=trace)
        return AGAIN[min(self._tries, len(AGAIN)) - 1]

    def over(self) -> None:
        """It went well."""
        if self._tries:
            _log.warning("%s: goes on, after %s.", self._name, _long(self._clock.monotonic() - self._since))
            self._tries = 0

    def look(self) -> None:
        """It did not go wrong: what has not for long is over."""
        if self._tries and self._clock.monotonic() - self._last >= WELL:
            self.over()


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
