"""Queries on streams: windows by any key, the user's functions, and rows that a function cannot take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.testing import StreamTest

TOPIC = tm.topic(
    "rows", {"ts": "timestamptz", "car": "string", "team": "string", "v": "long"}, key="car", time="ts", partitions=2
)


@pytest.fixture(autouse=True)
def no_other_pipelines() -> Iterator[None]:
    """Other tests of this process may have pipelines of these names."""
    registry.clear()
    yield
    registry.clear()


def stream(query: str, functions: Any = None, **options: Any) -> StreamTest:
    def out(rows: Any) -> Any:
        return rows.sql(query, functions=functions)

    return StreamTest(tm.Pipeline("cars").stream(TOPIC, to=tm.topic("out"), **options)(out))


def feed(test: StreamTest, *rows: tuple[int, str, str, int | None]) -> None:
    made = [{"ts": f"2026-01-01T00:{s // 60:02}:{s % 60:02}Z", "car": car, "team": t, "v": v} for s, car, t, v in rows]
    test.feed("rows", made)
    test.checkpoint()


LAST = tuple((200, f"last{n}", "z", None) for n in range(8))


def test_windows_by_another_key_than_the_topics_are_whole_over_a_crash() -> None:
    test = stream(
        "select upper(team) as team, window_start, sum(v) as s, count(*) filter (where v > 1) as n from self "
        "where car not like 'x%' group by upper(team), tumble(ts, interval '10 seconds') having count(*) > 1"
    )
    feed(test, (1, "a", "p", 1), (2, "b", "P", 2), (3, "xc", "p", 100), (4, "c", "q", 5))
    test.crash()
    feed(test, (5, "d", "p", None), (12, "a", "q", None), (13, "b", "q", None), *LAST)
    found = sorted((row["team"], row["window_start"][14:19], row["s"], row["n"]) for row in test.rows("out"))
    assert found == [("P", "00:00", 3, 1), ("Q", "00:10", None, 0)]


def test_groups_without_a_window_are_given_again_when_they_change() -> None:
    test = stream("select car, count(*) as n, avg(v) as mean from self group by car")
    feed(test, (1, "a", "p", 1))
    feed(test, (2, "a", "p", 3))
    assert [(row["n"], row["mean"]) for row in test.rows("out")] == [(1, 1.0), (2, 2.0)]


def test_a_row_that_a_function_cannot_take_is_a_dead_letter_and_harms_no_other() -> None:
    def halved(v: int) -> int:
        if v % 2:
            raise ValueError("odd")
        return v // 2

    test = stream("select car, halved(v) as h from self where halved(v) > 0 or v is null", functions={"halved": halved})
    feed(test, (1, "a", "p", 4), (2, "a", "p", 3), (3, "a", "p", None), (4, "a", "p", 8))
    assert [row["h"] for row in test.rows("out")] == [2, None, 4]
    (letter,) = test.dead_letters()
    assert "ValueError: odd" in letter["error"]
    assert json.loads(letter["value"])["v"] == 3


def test_distinct_gives_each_row_once_for_ever() -> None:
    test = stream("select distinct team from self")
    feed(test, (1, "a", "p", 1), (2, "b", "p", 1), (3, "c", "q", 1), *LAST)
    test.restart()
    feed(test, (300, "a", "p", 1), *((400, car, team, v) for _, car, team, v in LAST))
    assert sorted(row["team"] for row in test.rows("out") if row["team"] != "z") == ["p", "q"]
