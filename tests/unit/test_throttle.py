"""How often somebody may: waits grow, end, and are never of everybody; a bucket lets through what was said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.flow.throttling import Throttle
from tidemill.model.access import Tries
from tidemill.plan.throttle import KNOWN, LOCK_OUTS, LockOut, Rate, counting, excused, failed, login_wait, take, wait
from tidemill.testing.clock import ManualClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NONE = timedelta(0)
LIMITS = st.builds(
    LockOut,
    st.integers(0, 5),
    st.timedeltas(timedelta(seconds=1), timedelta(minutes=1)),
    st.timedeltas(timedelta(minutes=1), timedelta(hours=1)),
    st.timedeltas(timedelta(hours=1), timedelta(days=2)),
)
STEPS = st.lists(st.timedeltas(NONE, timedelta(hours=3)), max_size=40)


@settings(max_examples=few(200), deadline=None)
@given(LIMITS, STEPS)
def test_waits_double_up_to_the_longest_and_are_forgotten(limit: LockOut, steps: list[timedelta]) -> None:
    tries, now, expected = None, NOW, 0
    for step in steps:
        before, now = now, now + step
        end = before if tries is None else max(before, tries.until or before)
        expected = 1 if tries is None or now - end > limit.memory else expected + 1
        tries = failed(tries, limit, now)
        assert tries.count == expected
        beyond = expected - limit.free
        assert wait(tries, limit, now) == (min(limit.first * 2 ** (beyond - 1), limit.most) if beyond > 0 else NONE)
        assert wait(tries, limit, now + limit.most) == NONE
        assert wait(tries, limit, now - timedelta(days=9)) <= limit.most, "another clock is behind"


@settings(max_examples=few(100), deadline=None)
@given(LIMITS, st.integers(1, 60))
def test_a_failure_that_was_none_leaves_what_others_did(limit: LockOut, others: int) -> None:
    before = failed(None, limit, NOW)
    counted = failed(before, limit, NOW)
    assert excused(counted, counted, before) == before
    found = counted
    for _ in range(others):
        found = failed(found, limit, NOW)
    left = excused(found, counted, before)
    assert left.count == found.count - 1
    assert wait(left, limit, NOW) == wait(found, limit, NOW), "nobody ends a wait of others by coming in"


def test_a_thousand_failures_are_waited_for_no_longer_than_the_longest() -> None:
    for limit in LOCK_OUTS.values():
        tries = None
        for _ in range(1000):
            tries = failed(tries, limit, NOW)
        assert wait(tries, limit, NOW) == limit.most


def test_who_is_known_at_an_address_waits_only_for_their_own_failures_there() -> None:
    locked = Tries(100, NOW, NOW + timedelta(minutes=9))
    known = Tries(0, NOW, None, NOW)
    assert login_wait({"address": locked}, NOW) == timedelta(minutes=9)
    assert login_wait({"user": locked, "pair": Tries(1, NOW)}, NOW) == timedelta(minutes=9)
    assert login_wait({"user": locked, "address": locked, "pair": known}, NOW) == NONE
    assert counting({"pair": known}, NOW) == ("pair",)
    assert login_wait({"pair": Tries(9, NOW, NOW + timedelta(minutes=1), NOW)}, NOW) == timedelta(minutes=1)
    assert login_wait({"user": locked, "pair": Tries(0, NOW, None, NOW - KNOWN * 2)}, NOW) == timedelta(minutes=9)


RATES = st.builds(Rate, st.floats(0.1, 100), st.floats(1, 500))


@settings(max_examples=few(200), deadline=None)
@given(RATES, st.lists(st.tuples(st.floats(0, 20), st.floats(0.1, 3)), min_size=1, max_size=60))
def test_a_bucket_lets_through_no_more_than_was_said_and_tells_when(
    rate: Rate, asked: list[tuple[float, float]]
) -> None:
    bucket, now, taken = None, 0.0, 0.0
    for step, cost in asked:
        now += step
        bucket, seconds = take(bucket, rate, now, cost)
        taken += min(cost, rate.burst) if seconds == 0 else 0
        assert taken <= rate.burst + rate.each_second * now + 1e-6
        if seconds:
            same, again = take(bucket, rate, now, cost)
            assert abs(again - seconds) < 1e-9, "asking does not make it longer"
            assert take(same, rate, now + seconds + 1e-6, cost)[1] == 0
        assert take(bucket, rate, now - 100, 0.0)[0].left <= rate.burst, "a clock that goes back gives nothing away"


def test_each_key_has_a_bucket_and_few_are_remembered() -> None:
    clock = ManualClock()
    throttle = Throttle(Rate(each_second=1, burst=2), clock, most=2)
    assert [throttle.wait("a") for _ in range(3)] == [0, 0, 1]
    assert throttle.wait("b") == 0
    clock.advance(1)
    assert throttle.wait("a") == 0
    assert throttle.wait("a") == 1
    assert [throttle.wait(key) for key in "cd"] == [0, 0]
    assert throttle.wait("a") == 0, "forgotten, and full again"
