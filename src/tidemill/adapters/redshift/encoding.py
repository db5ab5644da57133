"""Arrow's columns as the files that COPY reads, and how long their texts are in bytes.

Each value becomes text by one rule for JSON and CSV: decimals keep all their digits, floats the shortest that give
them back, what nests is JSON. Parquet and Avro keep numbers as they are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from tidemill.adapters.redshift.columnar import write_avro
from tidemill.model import types as t
from tidemill.model.errors import DataError
from tidemill.model.redshift import Form
from tidemill.model.table import Schema
from tidemill.plan.landing import WITHOUT_NUL
from tidemill.plan.redshift import LONGEST
from tidemill.plan.redshift_stage import NUMBER

_AVRO = {"boolean": "boolean", "int": "long", "long": "long", "float": "float", "double": "double"}


def encoded(columns: Schema, batch: Any, first: int, form: Form, null: str) -> bytes:
    """A record batch as the content of a file, unpacked.

    Args:
        columns: of the batch.
        batch: Arrow's.
        first: the number of its first row.
        form: of the file.
        null: the text of null in CSV.
    """
    numbers = pl.Series(NUMBER, range(first, first + batch.num_rows), dtype=pl.Int64)
    names = [f"c{place}" for place in range(len(columns))]
    if form in (Form.JSON, Form.JSON_PATHS, Form.CSV):
        shown = [_text(batch.column(place), column.type) for place, column in enumerate(columns)]
        if form is Form.CSV:
            return _csv([*shown, numbers.cast(pl.String)], null)
        keys = [*names, NUMBER] if form is Form.JSON else None
        return _json_lines(keys, [*shown, numbers.cast(pl.String)], columns)
    if form is Form.PARQUET:
        return _parquet([*names, NUMBER], columns, batch, numbers.to_arrow())
    values = [_avro(batch.column(place), column.type) for place, column in enumerate(columns)]
    fields = {name: _AVRO.get(str(column.type), "string") for name, column in zip(names, columns, strict=True)}
    rows = zip(*values, range(first, first + batch.num_rows), strict=True)
    records = [dict(zip([*names, NUMBER], row, strict=True)) for row in rows]
    return write_avro({**fields, NUMBER: "long"}, records)


def measured(columns: Schema, batch: Any) -> dict[str, int]:
    """Bytes of the longest value of each column of texts or bytes.

    Raises:
        DataError: a value is longer than any column of Redshift's holds, or has a NUL.
    """
    found = {}
    for place, column in enumerate(columns):
        if column.type == t.BINARY:
            found[column.name] = _most(pl.Series(batch.column(place)).cast(pl.Binary).bin.size())
        elif column.type in (t.STRING, t.UNKNOWN):
            values = pl.Series(batch.column(place)).cast(pl.String)
            found[column.name] = _checked(column.name, values)
    return found


def _checked(name: str, values: pl.Series) -> int:
    lengths = values.str.len_bytes()
    longest = _most(lengths)
    if longest > LONGEST:
        start = str(values[lengths.arg_max() or 0])[:40]
        raise DataError(
            f'A value of "{name}" has {longest} bytes, and a column of Redshift\'s holds {LONGEST}: {start!r} ...',
            hint="cut it before it goes there",
        )
    if values.str.contains("\0", literal=True).any():
        raise DataError(f'A value of "{name}" has a NUL, which no text of Redshift\'s can have.', hint=WITHOUT_NUL)
    return longest


def _most(lengths: pl.Series) -> int:
    found = lengths.max()
    return found if isinstance(found, int) else 0


def _text(array: Any, kind: t.Type) -> pl.Series:
    """Values as the text that COPY reads for their type."""
    if kind == t.UUID:
        raw = pl.Series(array.storage if hasattr(array, "storage") else array).bin.encode("hex")
        cuts = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
        parts = [raw.str.slice(start, size) for start, size in cuts]
        return pl.select(pl.concat_str(parts, separator="-")).to_series()
    if isinstance(kind, t.List | t.Map | t.Struct):
        return pl.Series([None if one is None else _json(one, kind) for one in array.to_pylist()], dtype=pl.String)
    values = pl.Series(array)
    if kind == t.BINARY:
        return values.bin.encode("hex")
    if kind in (t.FLOAT, t.DOUBLE):
        return values.cast(pl.String).replace({"inf": "Infinity", "-inf": "-Infinity"})
    if kind == t.TIME:
        return values.dt.to_string("%H:%M:%S%.6f")
    if kind == t.TIMESTAMP:
        return values.dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
    if kind == t.TIMESTAMPTZ:
        return values.dt.strftime("%Y-%m-%d %H:%M:%S%.6f+00")
    return values.cast(pl.String)


def _json(value: Any, kind: t.Type) -> str:
    return json.dumps(_plain(value, kind), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _plain(value: Any, kind: t.Type) -> Any:
    """A value within SUPER: what JSON has no word for is text; a number that is none is null."""
    if value is None:
        return None
    match kind:
        case t.List(element):
            return [_plain(one, element) for one in value]
        case t.Struct(fields):
            return {name: _plain(value[name], inner) for name, inner in fields}
        case t.Map(key, inner):
            return {str(_plain(name, key)): _plain(one, inner) for name, one in value}
        case t.Primitive("float" | "double"):
            return value if value == value and abs(value) != float("inf") else None
        case t.Primitive("binary"):
            return value.hex()
        case t.Primitive("boolean" | "int" | "long" | "string"):
            return value
    return str(value)


def _json_lines(names: Sequence[str] | None, shown: Sequence[pl.Series], columns: Schema) -> bytes:
    """An object a line, or an array where there are no names."""
    kinds = [*(column.type for column in columns), t.LONG]
    opening, closing = ("[", "]\n") if names is None else ("{", "}\n")
    parts: list[Any] = []
    for place, (values, kind) in enumerate(zip(shown, kinds, strict=True)):
        bare = kind in (t.BOOLEAN, t.INT, t.LONG) or isinstance(kind, t.List | t.Map | t.Struct)
        value = values if bare else _quoted(values)
        parts.append(pl.lit((opening if not place else ",") + ("" if names is None else f'"{names[place]}":')))
        parts.append(value.fill_null("null").alias(f"v{place}"))
    text = pl.select(pl.concat_str([*parts, pl.lit(closing)])).to_series().str.join("")
    return str(text[0] or "").encode()


def _quoted(values: pl.Series) -> pl.Series:
    """Texts as JSON. Only structs can be written so: each goes in as the one field of one, and its shell is cut off."""
    shell = '{"v":'
    written = pl.DataFrame({"v": values}).select(pl.struct("v").struct.json_encode()).to_series()
    return written.str.slice(len(shell)).str.head(-1).set(values.is_null(), None)


def _csv(shown: Sequence[pl.Series], null: str) -> bytes:
    frame = pl.DataFrame([values.alias(str(place)) for place, values in enumerate(shown)])
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=False, quote_style="non_numeric", null_value=null)
    return buffer.getvalue()


def _avro(array: Any, kind: t.Type) -> list[Any]:
    return list(array.to_pylist() if str(kind) in _AVRO else _text(array, kind).to_list())


def _parquet(names: Sequence[str], columns: Schema, batch: Any, numbers: Any) -> bytes:
    import pyarrow.parquet as pq

    arrays = []
    for place, column in enumerate(columns):
        array = batch.column(place)
        if column.type == t.TIMESTAMPTZ:
            array = array.cast(pa.timestamp("us"))
        elif (
            str(column.type) not in _AVRO
            and column.type not in (t.DATE, t.TIMESTAMP, t.STRING)
            and not isinstance(column.type, t.Decimal)
        ):
            array = pa.array(_text(array, column.type).to_list(), pa.string())
        arrays.append(array)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays([*arrays, numbers], names=list(names)), sink, compression="snappy")
    return bytes(sink.getvalue())
