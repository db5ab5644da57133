"""Promises of the port `clock`, kept by the computer's clock and by the one that tests advance."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidemill.adapters.system import clock as system
from tidemill.adapters.system.clock import SystemClock
from tidemill.ports.clock import Clock
from tidemill.testing.clock import ManualClock


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()], ids=["system", "manual"])
def test_a_clock_tells_utc_and_sleeps_at_least_as_long_as_asked(clock: Clock) -> None:
    before, began = clock.now(), clock.monotonic()
    assert before.utcoffset() == timedelta(0)
    clock.sleep(0.01)
    assert clock.monotonic() - began >= 0.01
    assert clock.now() > before
    clock.sleep(0)


def test_the_computers_clock_never_goes_back_when_the_system_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [datetime(2024, 1, 1, second=s, tzinfo=UTC) for s in (5, 3, 4, 6)]
    expected = [told[0], told[0], told[0], told[3]]

    class SetBack(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Any:
            return told.pop(0)

    monkeypatch.setattr(system, "datetime", SetBack)
    clock = SystemClock()
    assert [clock.now() for _ in range(4)] == expected


def test_the_computers_clock_is_the_time(  # and not, say, seconds since its start
) -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_threads_never_see_the_computers_clock_go_back() -> None:
    clock, seen = SystemClock(), []

    def look() -> None:
        seen.append([clock.now() for _ in range(500)])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(times == sorted(times) for times in seen)


def test_a_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(datetime(2024, 5, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2024, 5, 1, tzinfo=UTC)
    assert clock.advance(90) == datetime(2024, 5, 1, 0, 1, 30, tzinfo=UTC)
    clock.sleep(30)
    clock.advance(timedelta(days=1))
    assert clock.now() == datetime(2024, 5, 2, 0, 2, tzinfo=UTC)
    assert clock.monotonic() == 86400 + 120


def test_a_manual_clock_refuses_to_go_back_and_to_have_no_zone() -> None:
    with pytest.raises(ValueError, match="never goes back"):
        ManualClock().advance(-1)
    with pytest.raises(ValueError, match="zone"):
        ManualClock(datetime(2024, 1, 1))
