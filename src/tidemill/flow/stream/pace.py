"""How many messages a turn takes: as many as are done in a second, so that a group hears of its member in time.

And not too few: a turn costs some 2 ms, however little there is. At 1,000 messages a second turns without a rest
between them would take one of two cores and have two messages each; what shares the machine, brokers first, would
answer late.
"""

from __future__ import annotations

#: Messages in one turn, at first and at most: enough for Polars to be fast, few enough to see time pass.
FIRST, MOST = 500, 50_000
#: Seconds that a turn may take, and how many times as much a turn may have as the one before.
LONG, MORE = 1.0, 4.0
#: After a turn with fewer messages the next one begins so many seconds after that one began, at the earliest.
FEW, APART = 64, 0.005


class Pace:
    """Learns from turns. A function that takes 10 ms for a row gets 100 rows a turn, one that takes 5 s gets one."""

    def __init__(self) -> None:
        self.limit = FIRST

    def took(self, messages: int, seconds: float) -> None:
        """A turn with so many messages took so long.

        One that took less than it may, but not little, was full of what each turn costs: on a machine that is busy with
        other things a stream that is behind would never come to the end at that size.
        """
        if seconds > LONG or messages >= self.limit:
            times = LONG / seconds if seconds * MORE > LONG else MORE
            self.limit = max(1, min(MOST, int(min(messages, self.limit) * times)))

    @staticmethod
    def rest(messages: int, seconds: float) -> float:
        """Seconds to wait after a turn with so many messages that took so long; messages gather meanwhile."""
        return max(0.0, APART - seconds) if 0 < messages < FEW else 0.0
