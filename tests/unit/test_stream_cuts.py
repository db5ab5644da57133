"""Small programs on streams that were once wrong: each is the smallest case of what the property found."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import tidemill as tm
from harness.comparing_streams import literal, play, shown
from harness.naive import Lines
from harness.stream_input import BEGIN, COLUMNS, END, Data
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model.frame import Frame, Input, concat
from tidemill.model.frame.topic import Topic, ToTable

Program = Callable[[Frame, Frame], Frame]


def data(name: str, *parts: list[tuple[int | None, str | None, int | None]], lateness: int = 0) -> Data:
    """Rows (second, key, value) by partition, and one far in the future behind each."""
    rows = tuple(
        tuple(
            {
                "t": None if t is None else BEGIN + timedelta(seconds=t),
                "k": k,
                "v": v,
                "x": 1.0,
                "l": [1],
                "s": None,
                "i": n,
                "w": [7],
            }
            for n, (t, k, v) in enumerate([*part, *((86400 + hour * 3600, f"z{hour}", 0) for hour in range(9))])
        )
        for part in parts
    )
    return Data(Topic(name, COLUMNS, time="t", lateness=timedelta(seconds=lateness)), rows)


def of_stream(program: Program, f: Data, g: Data, seed: int) -> list[str]:
    """What comes out of a stream, but what belongs to the rows that mark the end."""
    frame = program(*(Frame.of(Input(one.topic.name, "topic", one.topic)) for one in (f, g)))
    sink = frame.then(lambda at: ToTable(at=at, table="out", options={}))
    used = [one for one in (f, g) if any(i.data is one.topic for i in frame.inputs())]
    game = play([sink], used, random.Random(seed), restarts=0.4)
    assert not game.failures
    assert not game.late, game.late
    node = next(n.number for n in game.topology.nodes if n.step is sink.operations[-1])
    return _early(row for rows in game.given.get(node, []) for row in rows.to_dicts())


def of_table(program: Program, f: Data, g: Data) -> list[str]:
    """The table run over the same rows."""

    def rows(one: Data, number: int) -> Frame:
        lines: Lines = one.lines(number)
        return literal([line.values for line in lines], one.topic.name)

    return _early(PolarsEngine().collect(program(rows(f, 0), rows(g, 1)), {}).to_dicts())


def _early(rows: Any) -> list[str]:
    return sorted(
        shown(row)
        for row in rows
        if not any(hasattr(v, "tzinfo") and v > END - timedelta(hours=1) for v in row.values())
    )


F = data("f", [(0, "a", 1), (3, "b", 2), (7, "a", 3)], [(1, "b", 4), (6, "a", 5)], [(2, "a", 6), (9, "c", 1)])
G = data("g", [(1, "a", 1), (4, "b", 7), (8, "a", 9)], [(2, "a", 2)], [(5, "c", 3)])
COUNTED = {"n": tm.agg.count(), "s": tm.agg.sum("v")}

PROGRAMS: dict[str, Program] = {
    "a lane that comes through several tasks is as far as in the last of them": (
        lambda f, g: f.unique(["k", "v"], within="1s", on="t").tumbling_window("2s", on="t").agg(**COUNTED).final()
    ),
    "a gate that lets rows of one lane go says so of the others": (
        lambda f, g: f.unique(["k", "v"]).session_window("1s", on="t", by="k").agg(**COUNTED).final()
    ),
    "branches of one topic that a concat joins are in step": (
        lambda f, g: concat(f.filter(f["v"] > 2), f.filter(f["v"] <= 2))
        .tumbling_window("3s", on="t").agg(**COUNTED).final()
    ),
    "a concat has windows and messages side by side": (
        lambda f, g: concat(
            f.tumbling_window("2s", on="t", by="k").agg(v=tm.agg.sum("v")).final().select("k", "v", t="window_end"),
            g.select("k", "v", "t"),
        ).sliding_window("3s", on="t", by="k").agg(**COUNTED).final()
    ),
    "sliding windows begin before they end": (
        lambda f, g: f.sliding_window("3s", on="t").agg(v=tm.agg.sum("v"), k=tm.agg.min("k")).final()
        .sliding_window("2s", on="window_start", by="k").agg(**COUNTED).final()
    ),
    "sessions are given a gap after their ends": (
        lambda f, g: f.session_window("2s", on="t", by="k", grace="1s").agg(v=tm.agg.sum("v")).final()
        .hopping_window("2s", "1s", on="window_end", by="k").agg(**COUNTED).final()
    ),
    "rows between hopping windows are not late": (
        lambda f, g: f.hopping_window("5s", "2s", on="t").agg(**COUNTED).final()
    ),
    "a frame meets itself": lambda f, g: f.join_interval(f, on="t", by="k", within="3s"),
    "a frame stands beside itself": lambda f, g: concat(f, f),
    "windows can follow an outer join": (
        lambda f, g: f.join_interval(g.select("t", "k", w="v"), on="t", by="k", within="1s", how="outer")
        .tumbling_window("3s", on="t", by="k").agg(**COUNTED).final()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_a_stream_gives_the_rows_of_the_table_run(name: str) -> None:
    want = of_table(PROGRAMS[name], F, G)
    assert want
    for seed in range(12):
        assert of_stream(PROGRAMS[name], F, G, seed) == want, seed


def test_count_windows_of_late_enough_rows_are_not_late_for_what_follows() -> None:
    """Their last rows' times are as far apart as those of the topic."""
    f = data("f", [(3, "a", 1), (5, "b", 1), (2, "b", 2), (3, "a", 2)], lateness=3)

    def program(f: Frame, g: Frame) -> Frame:
        pairs = f.count_window(2, by="k").agg(t=tm.agg.max("t"), v=tm.agg.sum("v")).final()
        return pairs.select("k", "v", "t").sliding_window("1s", on="t", by="k").agg(**COUNTED).final()

    frame = program(Frame.of(Input("f", "topic", f.topic)), Frame.of(Input("g", "topic", G.topic)))
    sink = frame.then(lambda at: ToTable(at=at, table="out", options={}))
    for seed in range(6):
        assert not play([sink], [f], random.Random(seed)).late
