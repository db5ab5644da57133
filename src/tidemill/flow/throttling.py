"""How many requests somebody may send to this process: a bucket for each of those who ask most."""

from __future__ import annotations

import threading
from collections import OrderedDict

from tidemill.plan.throttle import Bucket, Rate, take
from tidemill.ports.clock import Clock


class Throttle:
    """Counts requests by whoever sends them. Threads may share it; each process counts for itself.

    Args:
        rate: what everybody may.
        clock: its `monotonic` time.
        most: so many are remembered; those who asked longest ago are forgotten, and their buckets are full again.
    """

    def __init__(self, rate: Rate, clock: Clock, most: int = 10_000) -> None:
        self._rate = rate
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str, cost: float = 1.0) -> float:
        """Take a request: 0 where it may be done now, else the seconds after which it may be sent again.

        Args:
            key: who sends it: `user ada`, `address 192.0.2.7`.
            cost: how many requests it counts as; never more than may be sent at once.
        """
        with self._lock:
            left, wait = take(self._buckets.get(key), self._rate, self._clock.monotonic(), cost)
            self._buckets[key] = left
            self._buckets.move_to_end(key)
            while len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return wait
