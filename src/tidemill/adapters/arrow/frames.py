"""Between Arrow's columns and the Polars frames that codecs give and take."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from tidemill.adapters.arrow.types import from_arrow, to_arrow
from tidemill.model.errors import UnknownName
from tidemill.model.table import Schema


def frame_of(batch: pa.RecordBatch | pa.Table, rows: int | None = None) -> pl.DataFrame:
    """The rows as a frame; a uuid is its 16 bytes, as in all frames. `rows`: how many, where there are no columns."""
    if not batch.num_columns:
        return pl.DataFrame(height=batch.num_rows if rows is None else rows)
    made = pl.from_arrow(_without_extensions(batch), rechunk=False)
    assert isinstance(made, pl.DataFrame), "a batch has columns"
    return made


def batches_of(rows: pl.DataFrame) -> tuple[Schema, list[pa.RecordBatch]]:
    """A frame's columns, as tables have them, and its rows as record batches of these."""
    table = rows.to_arrow()
    schema = from_arrow(table.schema)
    return schema, table.cast(to_arrow(schema)).to_batches()


def narrowed(schema: Schema, names: Sequence[str]) -> Schema:
    """The columns `names`, in that order.

    Raises:
        UnknownName: there is no such column.
    """
    for name in names:
        if name not in schema:
            raise UnknownName.of("column", name, schema.names)
    return Schema(tuple(schema[name] for name in names))


def _without_extensions(batch: pa.RecordBatch | pa.Table) -> pa.RecordBatch | pa.Table:
    kinds = [_stored(kind) for kind in batch.schema.types]
    if kinds == batch.schema.types:
        return batch
    columns = [
        column.cast(kind) if kind != column.type else column for column, kind in zip(batch.columns, kinds, strict=True)
    ]
    return type(batch).from_arrays(columns, names=batch.schema.names)


def _stored(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.binary()
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", _stored(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(_stored(kind.key_type), _stored(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _stored(field.type)) for field in kind])
    return kind
