"""Aggregates in parts: what rows of a few micro-batches come to can be put together with what others came to.

`parts` are columns that are computed of rows, `merged` of parts (with the same columns again), `results` of them at
the end. Aggregates that need all rows at once have no parts; `divide` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from tidemill.adapters.polars.moments import micros
from tidemill.adapters.polars.stream.marks import order_of
from tidemill.model.agg import Aggregate, ByTime
from tidemill.model.frame.operation import GroupBy, Windowed


@dataclass(frozen=True, slots=True)
class Parts:
    """How to compute aggregates in parts."""

    parts: tuple[pl.Expr, ...]
    merged: tuple[pl.Expr, ...]
    results: tuple[pl.Expr, ...]


def divide(step: GroupBy | Windowed, rows: pl.DataFrame) -> Parts | None:
    """The parts of a step's aggregates over rows like these; None: one of them needs all rows at once."""
    found = [_divided(index, name, value, step, rows) for index, (name, value) in enumerate(step.aggregates)]
    if any(one is None for one in found):
        return None
    whole = [one for one in found if one is not None]
    return Parts(
        tuple(e for one in whole for e in one.parts),
        tuple(e for one in whole for e in one.merged),
        tuple(e for one in whole for e in one.results),
    )


def _divided(index: int, name: str | None, value: object, step: GroupBy | Windowed, rows: pl.DataFrame) -> Parts | None:
    if not isinstance(value, Aggregate):
        return None
    name, part = name or value.kind, f"__tm_p{index}"
    if value.of is None:
        count = pl.len().cast(pl.Int64).alias(part)
        return Parts((count,), (pl.col(part).sum(),), (pl.col(part).alias(name),))
    of = pl.col(value.of) if isinstance(value.of, str) else value.of
    dtype = rows.lazy().select(of).collect_schema().dtypes()[0]
    match value.kind:
        case "count":
            return Parts((of.count().cast(pl.Int64).alias(part),), (pl.col(part).sum(),), (pl.col(part).alias(name),))
        case "min" | "max":
            one = of.min() if value.kind == "min" else of.max()
            again = pl.col(part).min() if value.kind == "min" else pl.col(part).max()
            return Parts((one.alias(part),), (again,), (pl.col(part).alias(name),))
        case "sum" if dtype.is_integer() or dtype == pl.Boolean() or dtype.is_float():
            exact = pl.Float64() if dtype.is_float() else pl.Int128()
            total = pl.col(part).cast(dtype if dtype.is_float() else pl.Int64()).alias(name)
            return Parts((of.cast(exact).sum().alias(part),), (pl.col(part).sum(),), (total,))
        case "mean" if dtype.is_integer() or dtype.is_float():
            return _mean(of, dtype, part, name)
        case "first" | "last" | "earliest" | "latest":
            return _at_end(value, of, step, rows, part, name)
    return None


def _mean(of: pl.Expr, dtype: pl.DataType, part: str, name: str) -> Parts:
    count = f"{part}n"
    total = of.cast(pl.Int128 if dtype.is_integer() else pl.Float64).sum().alias(part)
    mean = pl.col(part).cast(pl.Float64) / pl.col(count)
    if dtype == pl.Float32():
        mean = mean.cast(pl.Float32)
    return Parts(
        (total, of.count().cast(pl.Int64).alias(count)),
        (pl.col(part).sum(), pl.col(count).sum()),
        (pl.when(pl.col(count) > 0).then(mean).alias(name),),
    )


def _at_end(
    value: Aggregate, of: pl.Expr, step: GroupBy | Windowed, rows: pl.DataFrame, part: str, name: str
) -> Parts | None:
    """The value of the row that comes first or last, by order or by time and order; kept with what it is judged by."""
    order: list[str] = order_of(rows.columns)
    if not order:
        return None
    judged: list[pl.Expr] = [pl.col(column) for column in order]
    if isinstance(value, ByTime):
        on = value.on or (step.window.on if isinstance(step, Windowed) else None)
        if on is None:
            return None
        judged = [micros(rows.lazy(), on), *judged]
    fields = [e.alias(f"f{place}") for place, e in enumerate(judged)]
    whole = pl.struct(*fields, of.alias("value"))
    timed = isinstance(value, ByTime)
    first = value.kind in ("first", "earliest")
    return Parts(
        (_end(whole, judged, first, timed).alias(part),),
        (_end(pl.col(part), [pl.col(part).struct.field(f"f{p}") for p in range(len(judged))], first, timed),),
        (pl.col(part).struct.field("value").alias(name),),
    )


def _end(whole: pl.Expr, judged: Sequence[pl.Expr], first: bool, timed: bool) -> pl.Expr:
    """The struct of the least or greatest row. Rows without a time do not count where time judges."""
    if timed:
        there = judged[0].is_not_null()
        whole, judged = whole.filter(there), [one.filter(there) for one in judged]
    ordered = whole.sort_by(judged, maintain_order=True)
    return ordered.first() if first else ordered.last()
