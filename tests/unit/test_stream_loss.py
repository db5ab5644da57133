"""Messages that topics no longer have: a stream never skips them without a word, and lets go of its own when done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.errors import RunFailed, UserError
from tidemill.ports.topic import Partition, Topics
from tidemill.testing import StreamTest


@pytest.fixture(autouse=True)
def _no_other_pipelines() -> Iterator[None]:
    registry.clear()
    yield
    registry.clear()


CARS = tm.topic("cars", {"car": "string", "n": "long"}, key="car", partitions=1)


def doubled(cars: Any) -> Any:
    return cars.with_columns(n=tm.col("n") * 2)


def stream(function: Any = doubled, topic: Any = CARS, **options: Any) -> StreamTest:
    return StreamTest(tm.Pipeline("p").stream(topic, to=tm.topic("out"), **options)(function))


def topics_of(test: StreamTest) -> Topics:
    return test._topics


def rows(*numbers: int) -> list[dict[str, Any]]:
    return [{"car": f"c{n % 3}", "n": n} for n in numbers]


def lose(test: StreamTest) -> None:
    """Two messages are done, two more come while the stream is away, and three are removed in all."""
    test.feed("cars", rows(1, 2))
    test.checkpoint()
    test.process.close()
    test._feeding.send("cars", [b'{"car": "a", "n": 3}', b'{"car": "a", "n": 4}'])
    test._feeding.flush()
    topics_of(test).trim({Partition("cars", 0): 3})


def test_a_stream_stops_at_messages_that_were_removed_before_it_read_them() -> None:
    test = stream()
    lose(test)
    with pytest.raises(RunFailed, match=r"messages 2 to 2 of cars\[0\] were removed before") as told:
        test.restart()
    assert "tidemill stream reset p.doubled" in str(told.value)
    assert [row["n"] for row in test.rows("out")] == [2, 4], "nothing after the gap counts"


def test_a_stream_that_may_lose_messages_goes_on_with_those_that_are_left() -> None:
    test = stream(errors={"lost": "skip"})
    lose(test)
    test.restart()
    test.checkpoint()
    assert [row["n"] for row in test.rows("out")] == [2, 4, 8]
    assert test.process.counts.lost == 1


def test_a_stream_that_begins_takes_what_there_is() -> None:
    test = stream()
    test._feeding.send("cars", [b'{"car": "a", "n": 1}', b'{"car": "a", "n": 2}'], partitions=0)
    test._feeding.flush()
    topics_of(test).trim({Partition("cars", 0): 1})
    test.work()
    test.checkpoint()
    assert [row["n"] for row in test.rows("out")] == [4]


def test_a_topic_that_was_made_again_is_told_apart() -> None:
    test = stream()
    lose(test)
    topics_of(test).reset("p.doubled", {Partition("cars", 0): 9})
    with pytest.raises(RunFailed, match=r"cars\[0\] has no message 9: the topic was made again"):
        test.restart()


def test_what_is_lost_is_no_letter() -> None:
    with pytest.raises(UserError, match="what is lost is no letter"):
        stream(errors={"lost": "dead_letter"})


def times_seen(cars: Any) -> Any:
    return cars.reduce("n", {"times": 0}, lambda state, row: {"times": state["times"] + 1})


TWO = tm.topic("cars", {"car": "string", "n": "long"}, key="car", partitions=2)


def test_an_exchange_keeps_what_is_not_done_and_nothing_else() -> None:
    test = stream(times_seen, TWO)
    exchange = next(node for node in test.process.plan.topology.nodes if node.kind == "exchange")
    for _ in range(3):
        test.feed("cars", rows(1, 2))
        test.advance("31s")
        test.checkpoint()
    info = topics_of(test).describe(test.process.plan.exchange(exchange))
    assert info is not None
    assert 0 < sum(info.first) <= sum(info.end)
    assert max(row["times"] for row in test.rows("out")) == 2, "the last row waits: another may come before it"


def test_how_far_event_time_has_come_outlives_a_crash_also_where_nothing_but_order_goes_by_it() -> None:
    """A partition that has been silent since before the crash is moved on by what the others had said."""
    test = stream(times_seen, TWO)
    for _ in range(3):
        test.feed("cars", rows(1))
        test.checkpoint()
        test.clock.advance(1)
    test.crash()
    test.advance("2m")
    test.checkpoint()
    assert max(row["times"] for row in test.rows("out")) == 2
