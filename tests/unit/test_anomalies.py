"""Which values are far from those before them: what is told, what is not, and what changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tidemill as tm
from harness.examples import few
from tidemill.model.expectation import Expectation, Measured
from tidemill.plan.anomalies import LEAST, WINDOW, Judged, Metric, Point, in_words, judge, usual_in_words
from tidemill.plan.verdict import observed, on_record

START = datetime(2026, 1, 1, tzinfo=UTC)
#: About a hundred rows a day.
USUAL = [100.0, 103, 98, 101, 99, 104, 97, 100, 102, 96, 101, 99]


def daily(values: list[float], hours: int = 24) -> list[Point]:
    return [Point(START + timedelta(hours=hours * place), value) for place, value in enumerate(values)]


def last(values: list[float], metric: Metric = Metric.ROWS, hours: int = 24) -> Judged:
    return judge(daily(values, hours), metric)[-1]


def test_a_score_is_that_of_iglewicz_and_hoaglin() -> None:
    """0.6745 (x - median) / MAD of the values before it: here their median is 100 and MAD 1.5."""
    found = last([*USUAL, 120])
    assert found.usual == 100
    assert found.score == pytest.approx(0.6745 * 20 / 1.5, abs=0.01)
    assert found.low == pytest.approx(100 - 3.5 * 1.5 * 1.4826)
    assert found.high == pytest.approx(100 + 3.5 * 1.5 * 1.4826)
    assert found.anomalous


@pytest.mark.parametrize(
    ("values", "metric", "told"),
    [
        ([*USUAL, 107], Metric.ROWS, False),
        ([*USUAL, 0], Metric.ROWS, True),
        ([*USUAL[: LEAST - 1], 5000], Metric.ROWS, False),  # too few to say what is usual
        ([100.0] * 20 + [106], Metric.ROWS, False),  # within 7 %, though all were equal
        ([100.0] * 20 + [110], Metric.ROWS, True),
        ([2.0] * 20 + [5], Metric.ROWS, False),  # three rows more are not much
        ([0.0] * 20 + [5], Metric.ROWS, True),
        ([0.0] * 12 + [100, 90, 110, 95, 105, 99, 101, 100], Metric.ROWS, False),  # the mean distance, where MAD is 0
        ([0.0] * 20 + [0.005], Metric.FAILING, False),
        ([0.0] * 20 + [0.02], Metric.FAILING, True),
        ([0.4, 0.41, 0.39] * 5 + [0], Metric.FAILING, False),  # fewer than usual is no harm
        ([3600.0, 3700, 3500] * 5 + [9000], Metric.AGE, True),
        ([3600.0, 3700, 3500] * 5 + [60], Metric.AGE, False),
        ([float(100 + 10 * day) for day in range(40)], Metric.ROWS, False),  # a table that grows
    ],
)
def test_what_is_far_from_usual(values: list[float], metric: Metric, told: bool) -> None:
    assert last(values, metric).anomalous is told


def test_a_weekday_may_be_like_that() -> None:
    """Few rows on Sundays are an anomaly until four Sundays were like that; a Sunday's rows on a Monday always are."""
    values = [20.0 if day % 7 == 0 else USUAL[day % 12] for day in range(50)]
    found = judge(daily(values), Metric.ROWS)
    told = [place for place, one in enumerate(found) if one.anomalous]
    assert told == [14, 21]
    assert last([*values, 20]).anomalous  # the day after a Sunday
    # By the hour a day of the week is no reason: each day has many values.
    assert last([*values[:49], 20], hours=1).anomalous


def test_a_new_level_is_usual_in_time() -> None:
    found = judge(daily([*USUAL, *USUAL, *(2 * one for one in USUAL * 3)]), Metric.ROWS)
    assert found[24].anomalous
    assert not any(one.anomalous for one in found[24 + WINDOW // 2 + 1 :])


@settings(max_examples=few(100), deadline=None)
@given(
    st.lists(st.integers(10, 10_000), min_size=1, max_size=60),
    st.sampled_from([0.5, 8.0, 1024.0]),
    st.integers(0, 59),
)
def test_judging_goes_by_what_was_before_and_by_no_unit(values: list[int], factor: float, cut: int) -> None:
    """What comes later changes no judgement; neither does another unit, where a row is not much."""
    points = daily([1000.0 * one for one in values])
    found = judge(points, Metric.ROWS)
    assert judge(points[: cut + 1], Metric.ROWS) == found[: cut + 1]
    scaled = judge(daily([factor * one.value for one in points]), Metric.ROWS)
    assert [one.anomalous for one in scaled] == [one.anomalous for one in found]
    for one in found:
        assert (one.usual is None) == (one.score is None) == (one.high is None)
        # Whatever lies within the bounds that are shown is none.
        if one.low is not None and one.high is not None and one.low <= one.point.value <= one.high:
            assert not one.anomalous


@settings(max_examples=few(200), deadline=None)
@given(st.integers(-(10**7), 10**8), st.integers(0, 10**7), st.integers(0, 10**7))
def test_a_result_on_record_is_read_again(age: int, rows: int, failed: int) -> None:
    """What was kept as words has its figure again."""

    def recorded(check: Expectation, found: Measured) -> tuple[Metric, float] | None:
        expected = " ".join(text for text in (check.expected, check.threshold) if text)
        return on_record(found.rows, found.failed, observed(check, found), expected)

    failed = min(failed, rows)
    assert recorded(tm.fresh_within("at", "2h"), Measured(rows, figure=age)) == (Metric.AGE, age)
    assert recorded(tm.fresh_within("at", "2h"), Measured(rows)) is None
    for check in (tm.row_count(1), tm.row_count(maximum=5), tm.row_count(1000, 2000, name="some")):
        assert recorded(check, Measured(rows, figure=rows)) == (Metric.ROWS, rows)
    for other in (tm.not_null("a"), tm.between("a", 1, max_failed=3), tm.unique("a", mostly=0.5)):
        assert recorded(other, Measured(rows, failed)) == ((Metric.FAILING, failed / rows) if rows else None)


def test_values_in_words() -> None:
    assert [in_words("rows", 1200.0), in_words("failing", 0.0254), in_words("failing", 1.0)] == [
        "1,200", "2.54 %", "100 %",
    ]  # fmt: skip
    assert (in_words("age", 93784.0), in_words("rows", None)) == ("1 day, 2:03:04", "-")
    assert usual_in_words("rows", 90, 110) == "90 to 110"
    assert usual_in_words("failing", None, 3.5) == "at most 100 %"
