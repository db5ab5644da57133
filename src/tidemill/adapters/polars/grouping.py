"""`group_by` and windows as Polars queries: number the rows, find each row's windows, aggregate, put in order.

Rows get a number first, so that "first", "last" and ties mean the order of the input however the work is split.
Groups come in the order of their first rows; windows in the order in which a stream closes them: by end, start and
key, count windows by their last rows.
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

OURS = "__tm_"
ROW = "__tm_row"
TIME = "__tm_time"
# The window's columns until the end: the input may have columns of the final names (a window over windows).
START = "__tm_start"
END = "__tm_end"
SESSION = "__tm_session"


def group_by(lazy: pl.LazyFrame, step: GroupBy) -> pl.LazyFrame:
    """One row for each group, in the order of their first rows."""
    rows = lazy.with_row_index(ROW)
    results = results_of(lazy, rows, step)
    groups = rows.group_by(*step.keys, *named(step.named_keys))
    return groups.agg(*results, pl.col(ROW).min().alias(ROW)).sort(ROW).drop(ROW)


def windowed(lazy: pl.LazyFrame, step: Windowed) -> pl.LazyFrame:
    """One row for each window and key, in the order of the windows' ends."""
    rows = numbered(lazy, step)
    results = results_of(lazy, rows, step)
    window, by = step.window, step.by
    match window:
        case Tumbling() | Hopping():
            made = grouped(cut(rows, window), window, by, results)
        case Sliding():
            made = slid(rows, window, by, results)
        case Session():
            made = sessions(rows, window, by, results)
        case Count():
            made = _count(rows, window, by, results)
    return finished(made, lazy.collect_schema(), step)


def numbered(lazy: pl.LazyFrame, step: Windowed) -> pl.LazyFrame:
    """The rows that are in windows, with their number and time."""
    rows = lazy.with_row_index(ROW)
    if isinstance(step.window, Count):
        return rows
    return rows.with_columns(micros(rows, step.window.on).alias(TIME)).filter(pl.col(TIME).is_not_null())


def results_of(lazy: pl.LazyFrame, rows: pl.LazyFrame, step: GroupBy | Windowed) -> list[pl.Expr]:
    """The aggregates as expressions over `rows`, which are `lazy` with columns of our own."""
    return [_result(lazy, rows, name, value) for name, value in step.aggregates]


def finished(made: pl.LazyFrame, like: pl.Schema, step: Windowed) -> pl.LazyFrame:
    """Windows with their ends as times (of the kind that the rows of schema `like` have), in order."""
    start, end = pl.col(START), pl.col(END)
    by = step.by
    order = [ROW] if step.window.on is None else [END, START, *by]
    if step.window.on is not None:
        time = like.get(step.window.on)
        start, end = moment(start, time), moment(end, time)
    ends = start.alias(WINDOW_START), end.alias(WINDOW_END)
    return made.sort(order).select(*by, *ends, pl.exclude(*by, START, END, ROW))


def cut(rows: pl.LazyFrame, window: Tumbling | Hopping) -> pl.LazyFrame:
    """The rows once for each window that they are in, with its start."""
    every = whole(window.every)
    if isinstance(window, Tumbling):
        return rows.with_columns((pl.col(TIME) // every * every).alias(START))
    size = whole(window.size)
    newest = pl.col(TIME) // every * every
    oldest = newest - (-(-size // every) - 1) * every
    return (
        rows.with_columns(pl.int_ranges(oldest, newest + 1, every).alias(START))
        .explode(START)
        .filter(pl.col(START) + size > pl.col(TIME))
    )


def length(window: Tumbling | Hopping) -> int:
    """Microseconds from a window's start to its end."""
    return whole(window.every if isinstance(window, Tumbling) else window.size)


def grouped(
    starts: pl.LazyFrame, window: Tumbling | Hopping, by: tuple[str, ...], results: list[pl.Expr]
) -> pl.LazyFrame:
    """The aggregates of rows that `cut` has put into windows."""
    made = starts.group_by(*by, START).agg(*results, pl.col(ROW).min().alias(ROW))
    return made.with_columns((pl.col(START) + length(window)).alias(END))


def slid(rows: pl.LazyFrame, window: Sliding, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    """The aggregates of the windows that end with each different time of a key."""
    size = whole(window.size)
    made = (
        rows.sort(TIME, ROW)
        .rolling(TIME, period=f"{size}i", closed="right", group_by=list(by) or None)
        .agg(*results, pl.col(ROW).min().alias(ROW))
        # One result for each row comes back; rows of one time have the same.
        .unique([*by, TIME], keep="first")
    )
    return made.with_columns((pl.col(TIME) - size).alias(START), pl.col(TIME).alias(END)).drop(TIME)


def sessions(rows: pl.LazyFrame, window: Session, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    """The aggregates of sessions."""
    ends = (pl.col(TIME).min().alias(START), pl.col(TIME).max().alias(END))
    found = in_sessions(rows, window, by).group_by(*by, SESSION)
    return found.agg(*results, *ends, pl.col(ROW).min().alias(ROW)).drop(SESSION)


def in_sessions(rows: pl.LazyFrame, window: Session, by: tuple[str, ...]) -> pl.LazyFrame:
    """The rows with the number of their session within their key."""
    pause = pl.col(TIME) - _over(pl.col(TIME).shift(1), by) > whole(window.gap)
    numbers = _over(pause.fill_null(False).cum_sum(), by)
    return rows.sort(TIME, ROW).with_columns(numbers.alias(SESSION)).sort(ROW)


def _count(rows: pl.LazyFrame, window: Count, by: tuple[str, ...], results: list[pl.Expr]) -> pl.LazyFrame:
    position = _over(pl.int_range(pl.len(), dtype=pl.Int64), by)
    numbered = rows.with_columns((position // window.size * window.size).alias(START))
    counted = numbered.group_by(*by, START).agg(
        *results, pl.len().cast(pl.Int64).alias(END), pl.col(ROW).max().alias(ROW)
    )
    return counted.with_columns((pl.col(START) + pl.col(END)).alias(END))


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
        OURS in found for found in rows.select(expression).collect_schema().names()
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
