"""Streams read the columns that they use: also those that a step names and nothing else looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import tidemill as tm
from harness.poison import pipeline
from tidemill.testing import StreamTest


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


@pytest.mark.parametrize(
    ("work", "left"),
    [
        (lambda f: f.drop("b"), {"a": 1, "c": 3}),
        (lambda f: f.drop("b", "c"), {"a": 1}),
        (lambda f: f.rename({"b": "x"}).select("a"), {"a": 1}),
        (lambda f: f.rename({"a": "b", "b": "a"}).select("a"), {"a": 2}),
        (lambda f: f.cast({"b": "double"}).select("a"), {"a": 1}),
        (
            lambda f: f.drop("c").count_window(1, by="a").agg(b=tm.agg.max("b")).final().select("a", "b"),
            {"a": 1, "b": 2},
        ),
        (lambda f: f.drop("b").group_by("c").agg(n=tm.agg.count()), {"c": 3, "n": 1}),
    ],
)
def test_columns_that_a_step_names_are_read(
    p: tm.Pipeline, work: Callable[[tm.Frame], tm.Frame], left: dict[str, int]
) -> None:
    source = tm.topic("t", {"a": "long", "b": "long", "c": "long"}, partitions=2, key="a")

    @p.stream(source, to=tm.topic("out"))
    def out(t: tm.Frame) -> tm.Frame:
        return work(t)

    test = StreamTest(out)
    test.feed("t", [{"a": 1, "b": 2, "c": 3}])
    test.checkpoint()
    assert test.rows("out") == [left]
