"""How streams write keys of messages: one column as its text (as other clients do), several as a JSON list."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import polars as pl


def encode_keys(columns: Sequence[str], rows: pl.DataFrame) -> list[bytes | None]:
    """A key for each row, of its `columns`; null has none. Equal values give equal bytes in any version."""
    if len(columns) > 1:
        write = msgspec.json.Encoder().encode
        return [write(list(row)) for row in rows.select(columns).iter_rows()]
    column = rows.get_column(columns[0])
    if column.dtype == pl.Binary():
        return column.to_list()
    text = column if column.dtype == pl.String() else column.cast(pl.String)
    made: list[bytes | None] = text.cast(pl.Binary).to_list()
    return made
