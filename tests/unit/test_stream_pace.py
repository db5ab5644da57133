"""Turns are as long as a second: a function that is slow with each row cannot keep a member from its group."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.flow.stream.calling import Caller
from tidemill.flow.stream.pace import APART, FEW, FIRST, LONG, MOST, Pace
from tidemill.testing import StreamTest
from tidemill.testing.clock import ManualClock


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    """Other tests of this process may have pipelines of these names."""
    registry.clear()
    yield
    registry.clear()


def test_full_turns_that_are_short_grow_to_the_most() -> None:
    pace = Pace()
    seen = []
    while pace.limit < MOST:
        pace.took(pace.limit, 0.1)
        seen.append(pace.limit)
    assert len(seen) < 6
    pace.took(10, 0.001)
    assert pace.limit == MOST
    few = Pace()
    few.took(3, 0.0)
    assert few.limit == FIRST, "a turn that found little says nothing"


@pytest.mark.parametrize("each", [0.001, 0.01, 0.5, 7.0])
def test_turns_come_to_last_a_second_whatever_a_row_takes(each: float) -> None:
    pace = Pace()
    for _ in range(20):
        pace.took(pace.limit, pace.limit * each)
    assert pace.limit == 1 or pace.limit * each <= LONG
    pace.took(pace.limit, 0.0)
    assert pace.limit > 1, "a slow stretch is got over"


def test_what_a_turn_costs_whatever_it_has_does_not_keep_turns_small() -> None:
    """On a busy machine that may be half a second: who is behind has as much in a turn as the rest of it takes."""
    pace = Pace()
    for _ in range(20):
        pace.took(pace.limit, 0.5 + pace.limit * 0.000_05)
    assert pace.limit == pytest.approx(10_000, rel=0.05)


def test_turns_with_little_in_them_keep_apart_and_no_others() -> None:
    assert Pace.rest(2, 0.002) == pytest.approx(APART - 0.002)
    assert Pace.rest(2, 2 * APART) == 0, "it took long enough"
    assert Pace.rest(FEW, 0.002) == 0, "there is more to do"
    assert Pace.rest(0, 0.0) == 0, "the reader has waited already"


def test_rows_that_take_long_are_all_done_and_the_member_stays() -> None:
    """Half a second for each of 300 rows: in turns of the most messages the session would be over again and again."""
    clock = ManualClock()
    called: list[int] = []

    def slow(row: Any) -> Any:
        clock.advance(timedelta(seconds=0.5))
        called.append(row["n"])
        return row

    topic = tm.topic("numbers", {"n": "long"})

    def all_of(numbers: Any) -> Any:
        return numbers.map_rows(slow, adds={})

    stream = tm.Pipeline("slow").stream(topic, to=tm.topic("out"))(all_of)
    test = StreamTest(stream, clock=clock)
    test._feeding.send("numbers", [b'{"n": %d}' % n for n in range(300)])
    test._feeding.flush()
    done = iter(range(2_000))
    test.process.run(lambda: len(test.rows("out")) == 300 or next(done) > 1_000)
    assert sorted(one["n"] for one in test.rows("out")) == list(range(300))
    assert test.process.counts.restarts <= 1
    assert len(called) <= 600


def test_calls_come_in_their_order_and_an_error_ends_them() -> None:
    seen: list[int] = []
    go_on = threading.Event()

    def take(number: int) -> None:
        go_on.wait(60)
        if number == 2:
            raise ValueError("two")
        seen.append(number)

    caller = Caller(take, "test")
    go_on.set()
    caller.call(1)
    go_on.clear()
    for number in (2, 3, 4):
        caller.call(number)
    assert caller.busy(0.0)
    go_on.set()
    with pytest.raises(ValueError, match="two"):
        caller.busy(60)
    while caller.busy(60):
        pass
    assert seen == [1], "what follows an error is not taken before it"
    caller.call(5)
    assert seen == [1, 5]
    caller.close()


def test_what_it_has_not_begun_with_can_be_taken_back() -> None:
    seen: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def take(number: int) -> None:
        begun.set()
        go_on.wait(60)
        seen.append(number)

    caller = Caller(take, "test")
    for number in (1, 2, 3):
        caller.call(number)
    begun.wait(60)
    caller.forget()
    go_on.set()
    while caller.busy(60):
        pass
    assert seen == [1]
    caller.close()
