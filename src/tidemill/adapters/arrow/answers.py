"""Answers of engines outside as record batches, which the command line shows and writes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa

from tidemill.adapters.arrow.types import to_arrow_type
from tidemill.model.errors import DataError
from tidemill.ports.queries import Answer

_AT_A_TIME = 2000


def batches_of(answer: Answer, most: int | None) -> pa.RecordBatchReader:
    """The rows of an answer, `most` of them at most. Raises DataError: a value is none of its column's type."""
    schema = pa.schema([(name, to_arrow_type(kind)) for name, kind in answer.columns])
    return pa.RecordBatchReader.from_batches(schema, _batches(answer, schema, most))


def _batches(answer: Answer, schema: pa.Schema, most: int | None) -> Iterator[pa.RecordBatch]:
    rows = islice(answer.rows, most)
    while part := list(islice(rows, _AT_A_TIME)):
        columns = []
        for number, field in enumerate(schema):
            try:
                columns.append(pa.array([row[number] for row in part], type=field.type))
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                raise DataError(f'A value of column "{field.name}" is no {field.type}: {error}.') from None
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
