"""Rows in memory, from and to pandas, Arrow and Polars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from tidemill.adapters.polars.types import arrow_schema, held_type
from tidemill.model.errors import DefinitionError, SettingsError


def to_lazy(data: Any, name: str) -> pl.LazyFrame:
    """Rows in memory as a Polars query.

    Raises:
        DefinitionError: `data` is no table.
    """
    if isinstance(data, pl.LazyFrame):
        return data
    if isinstance(data, pl.DataFrame):
        return data.lazy()
    if type(data).__module__.partition(".")[0] == "pandas":
        data = from_pandas(data)
    if isinstance(data, pa.RecordBatchReader):
        data = data.read_all()
    if isinstance(data, pa.Table | pa.RecordBatch):
        return pl.DataFrame(data).lazy()
    raise DefinitionError(
        f'"{name}" is {type(data).__name__}, not a table.', hint="a Polars or pandas DataFrame, or an Arrow table"
    )


def given_rows(data: Any, name: str) -> pl.DataFrame:
    """Rows that a test gives: a table, or a list of dicts. Raises DefinitionError."""
    return pl.DataFrame(data) if isinstance(data, list) else to_lazy(data, name).collect()


def last_rows(pieces: Sequence[pl.DataFrame], rows: int) -> pl.DataFrame:
    """The last rows of frames, one after the other; a column that one of them lacks is null."""
    return pl.concat(pieces, how="diagonal_relaxed").tail(rows) if pieces else pl.DataFrame()


def held(lazy: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with columns of types that tables can hold.

    Raises:
        DefinitionError: a column is of a type that no table holds.
    """
    schema = lazy.collect_schema()
    wanted = {name: held_type(dtype, name) for name, dtype in schema.items()}
    changed = [pl.col(name).cast(dtype) for name, dtype in wanted.items() if schema[name] != dtype]
    return lazy.with_columns(changed) if changed else lazy


def to_arrow(batch: pl.DataFrame) -> pa.Table:
    """Rows whose types tables can hold, as Arrow."""
    table = batch.to_arrow()
    wanted = arrow_schema(batch.schema)
    return table if table.schema == wanted else table.cast(wanted)


def to_pandas(table: pa.Table) -> Any:
    """Rows as a pandas DataFrame. Integers and booleans are pandas' nullable types, whether or not nulls are there.

    Otherwise a day without nulls would give other types than a day with them, and integers beyond 2**53 would
    change their value on the way through float. Null floats are NaN.

    Raises:
        SettingsError: pandas is not installed.
    """
    pd = import_pandas()
    nullable = {
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    return table.to_pandas(types_mapper=nullable.get)


def from_pandas(frame: Any) -> pa.Table:
    """A pandas DataFrame as Arrow. A named index (after `groupby`) becomes columns, another is left out."""
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def import_pandas() -> Any:
    """Pandas, which is optional.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise SettingsError("pandas is not installed.", hint='pip install "tidemill[pandas]"') from None
    return pandas
