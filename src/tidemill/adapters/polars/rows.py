"""Rows of a batch as users' functions get them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import polars as pl

from tidemill.model.frame.row import Row


def rows_of(batch: pl.DataFrame) -> Iterator[Row]:
    """Each row, in order; values are plain Python's."""
    if not batch.columns:
        return iter([Row() for _ in range(batch.height)])
    return _maker(tuple(batch.columns))(Row, [column.to_list() for column in batch.get_columns()])


@lru_cache(maxsize=64)
def _maker(names: Sequence[str]) -> Callable[[type[Row], Sequence[list[Any]]], Iterator[Row]]:
    """A generator with the names written into it: that halves the time of `Row(zip(names, values))`, which is a third
    of what a stream of functions spends on a row. Names are put in as their `repr`: nothing of them is run.
    """
    values = [f"v{place}" for place in range(len(names))]
    row = ", ".join(f"{name!r}: {value}" for name, value in zip(names, values, strict=True))
    text = f"lambda Row, columns: (Row({{{row}}}) for {', '.join(values)}, in zip(*columns))"
    return eval(text, {"zip": zip, "__builtins__": {}})  # type: ignore[no-any-return]  # noqa: S307
