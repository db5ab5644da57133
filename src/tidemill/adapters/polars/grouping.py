"""`group_by` and windows as Polars queries: number the rows, find each row's windows, aggregate, put in order.

Rows get a number first, so that "first", "last" and ties mean the order of the input however the work is split.
Results come in the order of their windows, then of each group's first row.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from tidemill.adapters.polars.moments import micros, moment, whole
from tidemill.adapters.polars.stateless import named
from tidemill.model.agg import Aggregate, ByTime, Fold, Quantile
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.operation import GroupBy, Windowed
from tidemill.model.frame.window import WINDOW_END, WINDOW_START, Count, Hopping, Session, Sliding, Tumbling

_OURS = "__tm_"
ROW = "__tm_row"
TIME = "__tm_time"
# The window's columns until the end: the input may have columns of the final names (a window over windows).
_START = "__tm_start"
_END = "__tm_end"
_SESSION = "__tm_session"


def group_by(lazy: pl.LazyFrame, step: GroupBy) -> pl.LazyFrame:
    """One row for each group, in the order of their first rows."""
    rows = lazy.with_row_index(ROW)
    results = [_result(lazy, rows, name, value) for name, value in step.aggregates]
    grouped = rows.group_by(*step.keys, *named(step.named_keys))
    return grouped.agg(*results, pl.col(ROW).min().alias(ROW)).sort(ROW).drop(ROW)


def windowed(lazy: pl.LazyFrame, step: Windowed) -> pl.LazyFrame:
    """One row for each window and key, in the order of windows, then of first rows."""
    window, by = step.window, step.by
    rows = lazy.with_row_index(ROW)
    if not isinstance(window, Count):
        rows = rows.with_columns(micros(rows, window.on).alias(TIME)).filter(pl.col(TIME).is_not_null())
    results = [_result(lazy, rows, name, value) for name, value in step.aggregates]
    match window:
        case Tumbling():
            made = _tumbling(rows, window, by, results)
        case Hopping():
            made = _hopping(rows, window, by, results)
        case Sliding():
            made = _sliding(rows, window, by, results)
        case Session():
            made = _session(rows, window, by, results)
        case Count():
            made = _count(rows, window, by, results)
    start, end = pl.col(_START), pl.col(_END)
    if window.on is not None:
        like = lazy.collect_schema().get(window.on)
        start, end = moment(start, like), moment(end, like)
    ends = start.alias(WINDOW_START), end.alias(WINDOW_END)
    return made.sort(_START, _END, ROW).select(*by, *ends, pl.exclude(*by, _START, _END, ROW))


def _tumbling(rows: pl.LazyFrame, window: Tumbling, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    every = whole(window.every)
    starts = rows.with_columns((pl.col(TIME) // every * every).alias(_START))
    return _grouped(starts, by, results).with_columns((pl.col(_START) + every).alias(_END))


def _hopping(rows: pl.LazyFrame, window: Hopping, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    every, size = whole(window.every), whole(window.size)
    newest = pl.col(TIME) // every * every
    oldest = newest - (-(-size // every) - 1) * every
    starts = (
        rows.with_columns(pl.int_ranges(oldest, newest + 1, every).alias(_START))
        .explode(_START)
        .filter(pl.col(_START) + size > pl.col(TIME))
    )
    return _grouped(starts, by, results).with_columns((pl.col(_START) + size).alias(_END))


def _grouped(starts: pl.LazyFrame, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    return starts.group_by(*by, _START).agg(*results, pl.col(ROW).min().alias(ROW))


def _sliding(rows: pl.LazyFrame, window: Sliding, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    size = whole(window.size)
    slid = (
        rows.sort(TIME, ROW)
        .rolling(TIME, period=f"{size}i", closed="right", group_by=list(by) or None)
        .agg(*results, pl.col(ROW).min().alias(ROW))
        # One result for each row comes back; rows of one time have the same.
        .unique([*by, TIME], keep="first")
    )
    return slid.with_columns((pl.col(TIME) - size).alias(_START), pl.col(TIME).alias(_END)).drop(TIME)


def _session(rows: pl.LazyFrame, window: Session, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    pause = pl.col(TIME) - _over(pl.col(TIME).shift(1), by) > whole(window.gap)
    sessions = (
        rows.sort(TIME, ROW)
        .with_columns(_over(pause.fill_null(False).cum_sum(), by).alias(_SESSION))
        .sort(ROW)
        .group_by(*by, _SESSION)
    )
    ends = (pl.col(TIME).min().alias(_START), pl.col(TIME).max().alias(_END))
    return sessions.agg(*results, *ends, pl.col(ROW).min().alias(ROW)).drop(_SESSION)


def _count(rows: pl.LazyFrame, window: Count, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    position = _over(pl.int_range(pl.len(), dtype=pl.Int64), by)
    numbered = rows.with_columns((position // window.size * window.size).alias(_START))
    counted = numbered.group_by(*by, _START).agg(
        *results, pl.len().cast(pl.Int64).alias(_END), pl.col(ROW).min().alias(ROW)
    )
    return counted.with_columns((pl.col(_START) + pl.col(_END)).alias(_END))


def _over(expression: pl.Expr, by: tuple[str, ...]) -> pl.Expr:
    return expression.over(*by) if by else expression


def folds(step: GroupBy | Windowed) -> dict[str, Fold]:
    """The aggregates that a user's function computes; their columns hold lists of values until it has."""
    return {name: value for name, value in step.aggregates if name is not None and isinstance(value, Fold)}


def _result(lazy: pl.LazyFrame, rows: pl.LazyFrame, name: str | None, value: Any) -> pl.Expr:
    """One aggregate as an expression; `rows` is `lazy` with our own columns, which a wildcard must not catch."""
    if isinstance(value, Aggregate):
        return _aggregate(lazy, value).alias(name or value.kind)
    expression: pl.Expr = value if name is None else value.alias(name)
    if expression.meta.has_multiple_outputs() and any(
        _OURS in found for found in rows.select(expression).collect_schema().names()
    ):
        raise DefinitionError(
            f"agg: {expression} takes all columns.", hint='name them: .agg(pl.col("x", "y").mean()), or one by one'
        )
    return expression


def _aggregate(lazy: pl.LazyFrame, value: Aggregate) -> pl.Expr:
    if value.of is None:
        return pl.len().cast(pl.Int64)
    of = pl.col(value.of) if isinstance(value.of, str) else value.of
    match value:
        case Quantile():
            return of.quantile(value.q, interpolation="linear")
        case ByTime():
            time = micros(lazy, value.on or "")
            ordered = of.filter(time.is_not_null()).sort_by(
                time.filter(time.is_not_null()), pl.col(ROW).filter(time.is_not_null())
            )
            return ordered.first() if value.kind == "earliest" else ordered.last()
        case Fold():
            return of.sort_by(ROW).implode()
    match value.kind:
        case "sum":
            return _exact_sum(lazy, of)
        case "count":
            return of.count().cast(pl.Int64)
        case "n_unique":
            return of.drop_nulls().n_unique().cast(pl.Int64)
        case "first":
            return of.min_by(ROW)
        case "last":
            return of.max_by(ROW)
        case "collect":
            return of.sort_by(ROW).implode()
        case _:
            simple: pl.Expr = getattr(of, value.kind)()
            return simple


def _exact_sum(lazy: pl.LazyFrame, of: pl.Expr) -> pl.Expr:
    """Polars' sums of integers wrap around silently; these are computed in 128 bits and refuse what does not fit."""
    dtype = next(iter(lazy.select(of).collect_schema().values()))
    if dtype.is_integer() or dtype == pl.Boolean():
        return of.cast(pl.Int128).sum().cast(pl.Int64)
    return of.sum()
