"""Tables' types as PostgreSQL calls them, and rows as the CSV that its COPY reads."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from tidemill.model import types as t
from tidemill.model.table import Schema

#: By the names that `format_type` gives.
_PRIMITIVES = {
    "boolean": "boolean", "int": "integer", "long": "bigint", "float": "real", "double": "double precision",
    "date": "date", "time": "time without time zone", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "string": "text", "binary": "bytea", "uuid": "uuid", "unknown": "text",
}  # fmt: skip
#: Rows that are written as text at a time: some megabytes.
_ROWS = 65_536


def postgres_type(kind: t.Type) -> str:
    """`kind` as PostgreSQL calls it; what nests becomes `jsonb`."""
    match kind:
        case t.Primitive(name):
            return _PRIMITIVES[name]
        case t.Decimal(precision, scale):
            return f"numeric({precision},{scale})"
    return "jsonb"


def pieces(batches: Iterable[Any]) -> Iterator[Any]:
    """Arrow record batches, cut to what is written as text at a time."""
    for batch in batches:
        for first in range(0, batch.num_rows, _ROWS):
            yield batch.slice(first, _ROWS)


def as_csv(batch: Any, columns: Schema) -> bytes:
    """An Arrow record batch as CSV: null is empty, empty text is in quotes."""
    shown = [_shown(batch.column(column.name), column.type).alias(column.name) for column in columns]
    buffer = io.BytesIO()
    pl.DataFrame(shown).write_csv(buffer, include_header=False, quote_style="non_numeric", null_value="")
    return buffer.getvalue()


def _shown(array: Any, kind: t.Type) -> pl.Series:
    """A column with values that are written as PostgreSQL reads them."""
    if kind == t.UUID:
        array = array.storage if hasattr(array, "storage") else array
        return pl.Series(array).bin.encode("hex")
    values = pl.Series(array)
    if kind == t.BINARY:
        return "\\x" + values.bin.encode("hex")
    if isinstance(kind, t.List | t.Map | t.Struct):
        # Only structs can be written as JSON: each value goes in as the one field of one, and its shell is cut off.
        shell = '{"v":'
        written = pl.DataFrame({"v": values}).select(pl.struct("v").struct.json_encode()).to_series()
        inner = written.str.slice(len(shell)).str.head(-1)
        return inner.set(values.is_null(), None)
    if isinstance(kind, t.Decimal):
        return values.cast(pl.String)
    return values
