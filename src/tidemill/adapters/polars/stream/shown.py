"""Rows that go aside, failed or late, in a form that can be told: Python has no year before 1 or after 9999."""

from __future__ import annotations

import polars as pl

#: Microseconds since 1970 of the first and the last moment that Python's datetimes have.
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999


def shown(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows; a column with a time that no calendar has is in microseconds since 1970."""
    outside = [
        name
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Datetime) and _outside(rows.get_column(name).dt.epoch("us"))
    ]
    return rows.with_columns(pl.col(name).dt.epoch("us") for name in outside) if outside else rows


def _outside(moments: pl.Series) -> bool:
    return bool(((moments < _FIRST) | (moments > _LAST)).any())
