"""What is told of something that does not answer: at once, now and then, and when it is over; never for each try."""

from __future__ import annotations

import logging

import pytest

from tidemill.flow.stream.outages import AGAIN, Outage
from tidemill.testing.clock import ManualClock


def test_a_night_without_a_broker_takes_a_dozen_lines(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    outage = Outage("p.s", clock)
    tries = 0
    while clock.monotonic() < 8 * 3600:
        clock.advance(outage.met("nobody answers", "going back"))
        tries += 1
    assert tries > 2_000
    assert 5 < len(caplog.messages) < 16
    assert caplog.messages[0] == "p.s: nobody answers; going back."
    assert "(tried " in caplog.messages[1]
    outage.over()
    assert caplog.messages[-1] == "p.s: goes on, after 480 min."


def test_the_first_tries_come_soon_and_the_next_outage_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = ManualClock()
    outage = Outage("p.s", clock)
    assert [outage.met("a", "b") for _ in range(7)] == [*AGAIN, AGAIN[-1], AGAIN[-1]]
    clock.advance(61)
    outage.look()
    outage.met("again", "b")
    assert caplog.messages == ["p.s: a; b.", "p.s: goes on, after 61 s.", "p.s: again; b."]


def test_what_went_well_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("p.s", ManualClock())
    outage.over()
    outage.look()
    assert caplog.messages == []
