"""Partitions that say nothing: the others wait for `idle`; `on_idle="clock"` closes windows without any rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.testing import StreamTest

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    """Other tests of this process may have pipelines of these names."""
    registry.clear()
    yield
    registry.clear()


def at(second: int) -> dict[str, Any]:
    return {"ts": BEGIN + timedelta(seconds=second), "car": "a"}


def played(**options: Any) -> tuple[StreamTest, Any]:
    """A count of ten seconds over a topic of two partitions, of which only the first speaks."""
    pipeline = tm.Pipeline("silence")
    topic = tm.topic("t", {"ts": "timestamptz", "car": "string"}, time="ts", partitions=2, **options)

    @pipeline.stream(topic, to="o")
    def counts(t: tm.Frame) -> tm.Frame:
        return t.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    test = StreamTest(counts)

    def ends() -> list[str]:
        test.checkpoint()
        return [row["window_end"][17:19] for row in test.rows("o")]

    return test, ends


def test_the_others_wait_for_a_partition_until_it_has_been_silent_for_long() -> None:
    test, ends = played()
    test.feed("t", [at(1), at(15)], partition=0)
    assert ends() == []
    test.advance("31s")
    assert ends() == ["10"]  # all are silent: it is as late as it was anywhere
    test.feed("t", [at(27)], partition=0)
    test.advance("1s")
    assert ends() == ["10", "20"]


def test_without_idle_they_wait_for_ever() -> None:
    test, ends = played(idle=None)
    test.feed("t", [at(1), at(15)], partition=0)
    test.advance("1h")
    test.feed("t", [at(27)], partition=0)
    test.advance("1s")
    assert ends() == []


def test_a_silent_topic_goes_on_with_the_clock_where_that_is_asked_for() -> None:
    test, ends = played(on_idle="clock")
    test.feed("t", [at(1), at(15)], partition=0)
    test.advance("31s")
    assert ends() == ["10"]
    test.advance("1s")
    assert ends() == ["10"]
    test.advance("5s")
    assert ends() == ["10", "20"]


def test_rows_of_a_partition_that_was_passed_over_are_late() -> None:
    test, ends = played()
    test.feed("t", [at(1)], partition=0)
    test.advance("31s")
    test.feed("t", [at(27)], partition=0)
    test.advance("1s")
    assert ends() == ["10"]
    test.feed("t", [at(2)], partition=1)
    test.checkpoint()
    assert [letter["row"]["car"] for letter in test.late()] == ["a"]


def test_what_silence_did_survives_a_crash() -> None:
    test, ends = played()
    test.feed("t", [at(1), at(15)], partition=0)
    test.advance("31s")
    test.feed("t", [at(27)], partition=0)
    test.advance("1s")
    assert ends() == ["10", "20"]
    test.crash()
    test.feed("t", [at(31)], partition=0)
    test.advance("31s")
    test.feed("t", [at(32)], partition=0)
    test.advance("1s")
    assert ends() == ["10", "20", "30"]
