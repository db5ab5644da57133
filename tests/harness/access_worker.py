"""A process that logs in with a wrong password, again and again: `python access_worker.py URL NUMBER`.

It says "ready", begins when it is given a line, and tells of each try whether the password was looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tidemill.adapters.argon2.passwords import Argon2Passwords
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.access import Gate, LoginRefused
from tidemill.ports.access import Access
from tidemill.testing.clock import ManualClock

TRIES = 8


class Records:
    """What wiring makes of a store, without loading what else wiring knows."""

    def __init__(self, store: SqlMetadata) -> None:
        self._store = store

    @contextmanager
    def write(self) -> Iterator[Access]:
        """Begin a transaction that writes."""
        with self._store.write() as tx:
            yield tx.access

    @contextmanager
    def read(self) -> Iterator[Access]:
        """Begin one that only reads."""
        with self._store.read() as tx:
            yield tx.access


def main() -> None:
    clock = ManualClock()
    with SqlMetadata(sys.argv[1], "project", clock) as store:
        gate = Gate(Records(store), Argon2Passwords(time_cost=1, memory_cost=8, parallelism=1), clock)
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(TRIES):
            try:
                gate.login("ada", "a wrong password", "192.0.2.7")
            except LoginRefused as refused:
                print("locked" if refused.wait else "looked", flush=True)


if __name__ == "__main__":
    main()
