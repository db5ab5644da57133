"""Anomalies: which values of a figure are far from what they were before. Values in, judgements out.

A value is held against those before it, by the modified z-score of Iglewicz and Hoaglin ("How to Detect and Handle
Outliers", ASQC 1993): 0.6745 (x - median) / MAD, anomalous beyond 3.5, where MAD is the median of the distances from
the median. Neither is moved by a few wild values, as a mean and a standard deviation are. Where more than half of the
values are equal, MAD is 0, and 0.7979 times the mean distance stands in for it, as in IBM SPSS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import fmean, median

#: Values before one that it is held against, and how many there must be.
WINDOW = 30
LEAST = 10
#: Of the same weekday, among the last so many values, there must be so many to say that a weekday is like that.
WEEKS = 70
LEAST_OF_WEEKDAY = 4
#: The score beyond which a value is anomalous.
LIMIT = 3.5
#: What makes distances of normally distributed values standard deviations: of their median, of their mean.
_OF_MEDIAN = 1.4826
_OF_MEAN = 1.2533
#: The least that counts as a deviation, as a share of the median: so a change of less than 7 % is never an anomaly.
_SHARE = 0.02


class Metric(StrEnum):
    """What a figure counts."""

    #: Rows that a run wrote to a table, or that a check has counted.
    ROWS = "rows"
    #: The share of the rows looked at that failed a check; of `not_null` the share of nulls.
    FAILING = "failing"
    #: How old the newest value was, in seconds.
    AGE = "age"


#: The least deviation in the figure's own unit: a row, 0.2 % of the rows, a minute.
_FLOORS = {Metric.ROWS: 1.0, Metric.FAILING: 0.002, Metric.AGE: 60.0}


@dataclass(frozen=True, slots=True)
class Point:
    """A value of a figure, and the time that it is about: the beginning of the interval, or when the run was made."""

    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A value and what those before it say.

    Args:
        point: the value.
        usual: the median of those before; None: they are too few to judge.
        low: the least value that is not anomalous; None: none is too small.
        high: the greatest such value.
        score: how many deviations it is away, below 0: it is smaller.
        anomalous: it is neither usual in general nor for its weekday.
    """

    point: Point
    usual: float | None = None
    low: float | None = None
    high: float | None = None
    score: float | None = None
    anomalous: bool = False


def judge(points: Sequence[Point], metric: Metric) -> list[Judged]:
    """Judge each value by those before it.

    Of failing rows and ages only more than usual is anomalous. A value that is far from the others, but not from
    those of the same weekday, is none either: with one value a day at most, and enough of them.

    Args:
        points: in the order of their times.
        metric: what they count.
    """
    return [_judged(points[max(0, place - WEEKS) : place], point, metric) for place, point in enumerate(points)]


def _judged(before: Sequence[Point], point: Point, metric: Metric) -> Judged:
    values = [one.value for one in before[-WINDOW:]]
    if len(values) < LEAST:
        return Judged(point)
    usual, deviation = _spread(values, metric)
    score = (point.value - usual) / deviation
    far = _far(score, metric)
    if far and (same := _same_weekday(before, point)):
        middle, wide = _spread(same, metric)
        far = _far((point.value - middle) / wide, metric)
    low = None if metric is not Metric.ROWS else max(0.0, usual - LIMIT * deviation)
    return Judged(point, usual, low, usual + LIMIT * deviation, round(score, 2), far)


def _spread(values: Sequence[float], metric: Metric) -> tuple[float, float]:
    """The median, and how far values usually are from it; never 0."""
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    deviation = _OF_MEDIAN * median(distances) or _OF_MEAN * fmean(distances)
    return middle, max(deviation, _SHARE * abs(middle), _FLOORS[metric])


def _far(score: float, metric: Metric) -> bool:
    return (abs(score) if metric is Metric.ROWS else score) > LIMIT


def _same_weekday(before: Sequence[Point], point: Point) -> list[float]:
    """Values of the same weekday before it; none where there are several values a day, or too few."""
    if len({one.at.date() for one in (*before, point)}) <= len(before):
        return []
    same = [one.value for one in before if one.at.weekday() == point.at.weekday()]
    return same if len(same) >= LEAST_OF_WEEKDAY else []


def in_words(metric: str, value: float | None) -> str:
    """A value for people: "1,200", "2.5 %", "3:00:00"; a dash for none."""
    if value is None:
        return "-"
    if metric == Metric.FAILING:
        return f"{value * 100:.3g} %" if value < 1 else "100 %"
    return str(timedelta(seconds=round(value))) if metric == Metric.AGE else f"{value:,.0f}"


def usual_in_words(metric: str, low: float | None, high: float | None) -> str:
    """What would not have been an anomaly."""
    most = min(high, 1.0) if high is not None and metric == Metric.FAILING else high
    if low is None:
        return f"at most {in_words(metric, most)}"
    return f"{in_words(metric, low)} to {in_words(metric, most)}"
