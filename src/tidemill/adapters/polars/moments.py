"""Event times as whole microseconds since 1970-01-01 UTC: what windows and joins over time compute with."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from tidemill.model.errors import DefinitionError

MICROSECOND = timedelta(microseconds=1)


def micros(lazy: pl.LazyFrame, column: str) -> pl.Expr:
    """The times in `column` as Int64 microseconds. Dates are midnights; times without a zone count as they are.

    Raises:
        DefinitionError: the column holds no times.
    """
    dtype = lazy.collect_schema().get(column)
    if dtype is not None and not isinstance(dtype, pl.Date | pl.Datetime):
        hint = f'f["{column}"] = f["{column}"].str.to_datetime()'
        if dtype.is_numeric():
            hint = f'f["{column}"] = pl.from_epoch(f["{column}"], time_unit="s")'
        raise DefinitionError(f'Column "{column}" is of type {dtype}, not a time.', hint=hint)
    return pl.col(column).dt.epoch("us")


def moment(micro: pl.Expr, like: pl.DataType | None) -> pl.Expr:
    """Microseconds as a timestamp, with a zone (UTC) where the time column `like` has one."""
    aware = isinstance(like, pl.Datetime) and like.time_zone is not None
    return micro.cast(pl.Datetime("us", "UTC" if aware else None))


def whole(duration: timedelta) -> int:
    """A duration in microseconds."""
    return duration // MICROSECOND
