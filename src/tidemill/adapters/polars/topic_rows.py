"""Rows of tables as a topic has them: its columns, in its types."""

from __future__ import annotations

from typing import Any

import polars as pl

from tidemill.adapters.polars.tables import to_lazy
from tidemill.model.errors import DataError


def fitted(data: Any, columns: pl.Schema | None, topic: str) -> pl.DataFrame:
    """Rows with these columns: others are left out, missing ones are null.

    Args:
        data: a table.
        columns: of the topic; None: nothing is declared, and the rows stay as they are.
        topic: its name.

    Raises:
        DataError: a value does not fit its column's type.
    """
    rows = to_lazy(data, topic).collect()
    if columns is None:
        return rows
    wanted = [
        pl.col(name).cast(dtype) if name in rows.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in columns.items()
    ]
    try:
        return rows.select(wanted) if wanted else rows
    except pl.exceptions.PolarsError as error:
        head = str(error).splitlines()[0]
        raise DataError(
            f'Rows do not fit topic "{topic}": {head}', hint="declare the types that the rows have"
        ) from None
