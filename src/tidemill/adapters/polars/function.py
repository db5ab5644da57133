"""Calls a table function with rows in memory: in a unit test, in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pyarrow as pa

from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model.frame import Frame, as_frame
from tidemill.model.frame.operation import function_name


def run_function(function: Callable[..., Any], *args: Any, **kwargs: Any) -> pl.DataFrame:
    """What `function` makes of rows in memory.

    Args:
        function: takes frames and returns one.
        args: its arguments; Polars and pandas frames and Arrow tables become frames, others stay as they are.
        kwargs: its arguments by name.

    Raises:
        UserError, DataError: as a run would.
    """
    name = function_name(function)
    given = [_argument(value, f"argument {number}") for number, value in enumerate(args, 1)]
    named = {key: _argument(value, key) for key, value in kwargs.items()}
    return PolarsEngine().collect(as_frame(function(*given, **named), name), {})


def _argument(value: Any, name: str) -> Any:
    if isinstance(value, pl.DataFrame | pl.LazyFrame | pa.Table):
        return Frame.literal(value, name)
    if type(value).__module__.partition(".")[0] == "pandas" and type(value).__name__ == "DataFrame":
        return Frame.literal(value, name)
    return value
