"""Python's garbage collector while a stream runs."""

from __future__ import annotations

import gc

import pytest

from tidemill.flow.stream.collecting import rarely_collected


@pytest.mark.parametrize(("before", "within"), [((700, 10, 10), (50_000, 10, 10)), ((90_000, 5, 5), (90_000, 5, 5))])
def test_cycles_are_looked_for_less_often_and_as_before_afterwards(
    before: tuple[int, int, int], within: tuple[int, int, int]
) -> None:
    own = gc.get_threshold()
    gc.set_threshold(*before)
    try:
        with pytest.raises(KeyError), rarely_collected():
            assert gc.get_threshold() == within
            with rarely_collected():  # another stream of the process
                assert gc.get_threshold() == within
            assert gc.get_threshold() == within
            raise KeyError
        assert gc.get_threshold() == before
    finally:
        gc.set_threshold(*own)


def test_a_collector_that_was_turned_off_stays_off() -> None:
    own = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with rarely_collected():
            assert gc.get_threshold()[0] == 0
        assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*own)
