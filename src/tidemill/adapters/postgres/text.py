"""Tables' types as PostgreSQL calls them, and rows as the CSV that its COPY reads into columns of other types."""

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
#: Rows, and bytes, that are written at a time at most.
_ROWS = 65_536
_BYTES = 16 * 2**20


def postgres_type(kind: t.Type) -> str:
    """`kind` as PostgreSQL calls it; what nests becomes `jsonb`."""
    match kind:
        case t.Primitive(name):
            return _PRIMITIVES[name]
        case t.Decimal(precision, scale):
            return f"numeric({precision},{scale})"
    return "jsonb"


def pieces(batches: Iterable[Any]) -> Iterator[Any]:
    """Arrow record batches, cut to what is written at a time."""
    for batch in batches:
        each = max(1, _BYTES // max(1, batch.nbytes // max(1, batch.num_rows)))
        for first in range(0, batch.num_rows, min(_ROWS, each)):
            yield batch.slice(first, min(_ROWS, each))


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
        return as_json(array)
    if isinstance(kind, t.Decimal):
        return values.cast(pl.String)
    return values


def as_json(array: Any) -> pl.Series:
    """A column of values with parts as the text of their JSON; null stays null."""
    # Only structs can be written as JSON: each value goes in as the one field of one, and its shell is cut off.
    shell = '{"v":'
    values = pl.Series(array)
    written = pl.DataFrame({"v": values}).select(pl.struct("v").struct.json_encode()).to_series()
    return written.str.slice(len(shell)).str.head(-1).set(values.is_null(), None)
