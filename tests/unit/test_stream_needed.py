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


def test_a_function_that_filters_keeps_times_and_keys_where_they_are(p: tm.Pipeline) -> None:
    """So no exchange follows for its sake, and a row that it fails at goes aside."""
    source = tm.topic("t", {"ts": "timestamptz", "a": "long", "b": "long"}, partitions=2, key="a", time="ts")

    @p.stream(source, to=tm.topic("out"))
    def out(t: tm.Frame) -> tm.Frame:
        kept = t.filter(lambda row: 6 // row["b"] > 2)
        return kept.tumbling_window("10s", on="ts", by="a").agg(n=tm.agg.count()).final()

    test = StreamTest(out)
    test.feed("t", [{"ts": f"2026-01-01T00:00:{n:02}Z", "a": 1, "b": n % 4} for n in range(1, 14)])
    test.checkpoint()
    assert [row["n"] for row in test.rows("out")] == [5]
    assert [(one["kind"], one["step"], one["offset"]) for one in test.dead_letters()] == [
        ("failed", "filter", offset) for offset in ("3", "7", "11")
    ]
    assert not [node for node in test.process.plan.topology.nodes if node.kind == "exchange"]


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
