"""For any checks, rows and cut: a stream quarantines, counts and lets through what the same checks of a table do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import tidemill as tm
from harness.examples import few
from harness.stream_input import COLUMNS, read_data
from harness.stream_property import ROWS, SEEDS
from harness.streaming import play
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model.expectation import Expectation, Severity
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.topic import Expect, Topic, ToTable
from tidemill.plan.check import Tables, failing, measured, query

#: Checks that fit the topic's rows, and those that fit windows over them.
OF_ROWS = (
    lambda **o: tm.not_null("k", **o),
    lambda **o: tm.not_null("v", "x", **o),
    lambda **o: tm.between("v", -2, 3, **o),
    lambda **o: tm.between("x", 0, strict_min=True, null_fails=True, **o),
    lambda **o: tm.in_set("k", ["a", "b", None], **o),
    lambda **o: tm.matches("k", "^[abc]", null_fails=True, **o),
    lambda **o: tm.expect(tm.col("v") * 2 > tm.col("x"), **o),
    lambda **o: tm.between("t", "2026-01-01", "2026-01-01T00:00:20", **o),
)
OF_WINDOWS = (
    lambda **o: tm.between("n", 2, **o),
    lambda **o: tm.between("total", -3, 6, **o),
    lambda **o: tm.not_null("total", **o),
    lambda **o: tm.expect(tm.col("k") != "b", null_fails=True, **o),
)


def some(rng: random.Random, pool: Sequence[Any]) -> tuple[Expectation, ...]:
    """Some of the checks, each with a severity."""
    made = rng.sample(pool, rng.randint(1, min(3, len(pool))))
    return tuple(check(severity=rng.choice(["error", "error", "warn"])) for check in made)


def bag(rows: pl.DataFrame | None) -> Counter[str]:
    """Rows in any order."""
    return Counter() if rows is None else Counter(str(row) for row in rows.iter_rows(named=True))


def judge(
    rows: pl.DataFrame, checks: Sequence[Expectation]
) -> tuple[pl.DataFrame, Counter[str], list[tuple[int, int]]]:
    """By the checks of tables: rows that pass, those that fail with what they fail, and counts by check."""
    numbered = rows.with_row_index("place")
    tables = Tables(numbered.lazy(), numbered.lazy(), {})
    row = query(checks, tables).collect()
    found = measured(checks, row, None)  # type: ignore[arg-type]  # nothing here has an age
    names: dict[int, list[str]] = {}
    for check in checks:
        if check.severity is Severity.ERROR:
            bad = failing(check, tables)
            assert bad is not None
            for place in bad.collect()["place"]:
                names.setdefault(place, []).append(check.name)
    quarantined = Counter(f"{rows.row(place, named=True)} {'; '.join(told)}" for place, told in names.items())
    passing = numbered.filter(~pl.col("place").is_in(list(names))).drop("place")
    return passing, quarantined, [(one.rows, one.failed) for one in found]


@settings(max_examples=few(60), deadline=None)
@given(SEEDS, ROWS)
def test_rows_fail_on_a_stream_as_on_a_table(seed: int, data: bytes) -> None:
    rng = random.Random(seed)
    parts = rng.choice((1, 2, 3))
    found = read_data("f", data, parts, keyed=rng.random() < 0.5, lateness=0)
    first, last = some(rng, OF_ROWS), some(rng, OF_ROWS)
    source = Input("f", "topic", found.topic)
    checked = Frame(source, [Expect(at=None, of="f", checks=first)])
    changed = checked.with_columns(v=tm.col("v") + 1)
    frame = Frame(source, [*changed.operations, Expect(at=None, of="s", checks=last)])
    game = play([frame.then(lambda at: ToTable(at=at, table="out", options={}))], {"f": found.frames()}, rng)

    rows = pl.concat(found.frames())
    passing, bad_first, counts_first = judge(rows, first)
    passing, bad_last, counts_last = judge(passing.with_columns(v=pl.col("v") + 1), last)
    (sink,) = (node.number for node in game.topology.nodes if isinstance(node.step, ToTable))
    assert bag(game.out(sink)) == bag(passing if passing.height else None)
    quarantined = Counter(f"{failure.row} {failure.error}" for failure in game.failures)
    assert quarantined == bad_first + bad_last
    assert all(failure.checks and failure.source == 0 for failure in game.failures), "each came of one message"
    judges = [node.number for node in game.topology.nodes if isinstance(node.step, Expect)]
    for node, counts in zip(judges, (counts_first, counts_last), strict=True):
        assert [game.judged.get((node, place), (0, 0)) for place in range(len(counts))] == counts


@settings(max_examples=few(40), deadline=None)
@given(SEEDS, ROWS)
def test_results_of_windows_fail_on_a_stream_as_on_a_table(seed: int, data: bytes) -> None:
    """Also where rows are quarantined before the windows: time goes on by those that are left."""
    rng = random.Random(seed)
    parts = rng.choice((1, 2))
    found = read_data("f", data, parts, keyed=True, lateness=0)
    topic = Topic("f", COLUMNS, key=("k",), time="t", lateness=timedelta(0), partitions=parts)
    # What marks the end of the input passes: what is open closes.
    first = (*some(rng, OF_ROWS[:1]), tm.expect((tm.col("v") < 4) | (tm.col("v") > 1000)))
    last = some(rng, OF_WINDOWS)
    source = Input("f", "topic", topic)

    def windows(rows: Frame) -> Frame:
        return rows.tumbling_window("3s", on="t", by="k").agg(n=tm.agg.count(), total=tm.agg.sum("v")).final()

    checked = windows(Frame(source, [Expect(at=None, of="f", checks=first)]))
    frame = Frame(source, [*checked.operations, Expect(at=None, of="s", checks=last)])
    written = [frame.then(lambda at: ToTable(at=at, table="out", options={}))]
    game = play(written, {"f": found.frames()}, rng, whole=True)  # letters tell the columns that were read

    passing, bad_first, _ = judge(pl.concat(found.frames()), first)
    made = PolarsEngine().collect(windows(Frame.literal(passing)), {})
    ours = made.filter(pl.col("window_end") < pl.datetime(2026, 1, 2, time_zone="UTC"))
    passing, bad_last, _ = judge(ours, last)
    (sink,) = (node.number for node in game.topology.nodes if isinstance(node.step, ToTable))
    out = game.out(sink)
    given_out = None if out is None else out.filter(pl.col("window_end") < pl.datetime(2026, 1, 2, time_zone="UTC"))
    assert bag(given_out) == bag(passing)
    mine = [f for f in game.failures if "window_end" not in f.row or f.row["window_end"].day == 1]
    assert Counter(f"{failure.row} {failure.error}" for failure in mine) == bad_first + bad_last


@settings(max_examples=few(20), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_time_that_fails_makes_no_other_row_late(seed: int) -> None:
    rng = random.Random(seed)
    found = read_data("f", random.Random(seed).randbytes(60), 1, keyed=True, lateness=0)
    far = found.frames()[0].head(1).with_columns(t=pl.datetime(9000, 1, 1, time_zone="UTC"))
    rows = pl.concat([far, *found.frames()])
    source = Input("f", "topic", found.topic)
    sane = (tm.expect(tm.col("t") < tm.lit("2100-01-01").str.to_datetime("%Y-%m-%d", time_zone="UTC")),)
    checked = Frame(source, [Expect(at=None, of="f", checks=sane)])
    windows = checked.tumbling_window("3s", on="t", by="k").agg(n=tm.agg.count()).final()
    game = play([windows.then(lambda at: ToTable(at=at, table="out", options={}))], {"f": [rows]}, rng)
    assert len(game.failures) == 1
    assert not game.late
