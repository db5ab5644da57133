"""A result: its first rows as plain values, or all of it as rows of text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time
from typing import Any

from tidemill.model.json_values import jsonable
from tidemill.ports.asked import Head


def head(reader: Any, limit: int | None) -> Head:
    """Read a result to its end, keeping the first rows; None keeps all."""
    rows: list[tuple[Any, ...]] = []
    total = 0
    for batch in reader:
        room = batch.num_rows if limit is None else max(0, limit - len(rows))
        if room:
            kept = batch.slice(0, room)
            rows += zip(*(kept.column(i).to_pylist() for i in range(kept.num_columns)), strict=True)
        total += batch.num_rows
    return Head(columns_of(reader), rows, total)


def columns_of(reader: Any) -> dict[str, str]:
    """Names and types of a record batch reader's columns."""
    return {field.name: str(field.type) for field in reader.schema}


def csv_rows(reader: Any) -> Iterator[Sequence[Any]]:
    """A result as rows of CSV, the heading first. Null is an empty field, nested values are JSON.

    Streamed: a result of any size takes the memory of one record batch.
    """
    yield [field.name for field in reader.schema]
    for batch in reader:
        columns = [[_csv(v) for v in batch.column(i).to_pylist()] for i in range(batch.num_columns)]
        yield from zip(*columns, strict=True)


def json_rows(reader: Any) -> Iterator[str]:
    """A result as JSON objects, one a row. Streamed likewise."""
    for batch in reader:
        for row in batch.to_pylist():
            yield json.dumps(jsonable(row), ensure_ascii=False)


def _csv(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case None | str() | int():
            return value
        case float():
            return repr(value)
        case datetime():
            return value.isoformat(sep=" ")
        case date() | time():
            return value.isoformat()
        case bytes():
            return "0x" + value.hex()
        case list() | tuple() | dict():
            return json.dumps(jsonable(value), ensure_ascii=False)
    return str(value)
