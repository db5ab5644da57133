"""Columns that a writer adds to the batches it is given: copies, running numbers, values that all rows share."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

_MOMENT = pa.timestamp("us", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Completion:
    """What to add where a batch does not bring it.

    Args:
        fill: column -> the value of every row.
        copies: column -> the column that it repeats.
        number: the column that numbers the rows, counting on over all batches.
        next: the next number.
    """

    fill: Mapping[str, Any] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)
    number: str | None = None
    next: int = 0

    def of(self, batch: Any, schema: Any) -> Any:
        """`batch`, a RecordBatch, with the columns that it lacks; their types are those of `schema`."""
        names, columns = list(batch.schema.names), list(batch.columns)
        given = set(names)
        for name, source in self.copies.items():
            if name not in given and source in given:
                names.append(name)
                columns.append(columns[names.index(source)])
        if self.number is not None and self.number not in given:
            names.append(self.number)
            columns.append(pa.array(range(self.next, self.next + batch.num_rows), pa.int64()))
            self.next += batch.num_rows
        for name, value in self.fill.items():
            if name not in given and (at := schema.get_field_index(name)) >= 0:
                names.append(name)
                columns.append(_repeated(value, schema.field(at).type, batch.num_rows))
        return batch if len(names) == len(given) else pa.RecordBatch.from_arrays(columns, names=names)


def _repeated(value: Any, kind: Any, rows: int) -> Any:
    """A column of one value. Arrow loads pandas, where it is installed, to make a scalar of a Python value: that takes
    0.2 s, so what every row of every table gets is written down as the numbers that it is.
    """
    if isinstance(value, datetime) and value.tzinfo is not None and kind == _MOMENT:
        return _numbers((value - _EPOCH) // timedelta(microseconds=1), kind, rows)
    if isinstance(value, int) and kind == pa.int64():
        return _numbers(value, kind, rows)
    return pa.repeat(pa.scalar(value, kind), rows)


def _numbers(value: int, kind: Any, rows: int) -> Any:
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(struct.pack("=q", value) * rows)])
