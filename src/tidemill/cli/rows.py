"""Rows of a query: as a table on the screen, as objects, as a stream of JSON or CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tidemill.cli.grid import Column, Styled
from tidemill.cli.output import Output
from tidemill.cli.text import cell, count, jsonable, plain

#: A cell takes no more columns than this; JSON and CSV have all of it.
LONGEST_CELL = 48
_NUMBERS = ("int", "uint", "float", "double", "decimal", "halffloat")


@dataclass(frozen=True, slots=True)
class Head:
    """The first rows of a result, and how many it has in all."""

    #: Name -> type, as Arrow calls it.
    columns: dict[str, str]
    rows: list[tuple[Any, ...]]
    total: int

    def objects(self) -> list[dict[str, Any]]:
        """The rows as JSON objects."""
        return [jsonable(dict(zip(self.columns, row, strict=True))) for row in self.rows]


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


def print_rows(out: Output, found: Head, *, total: int | None = None) -> None:
    """Print rows; what is cut or left out is counted on standard error.

    Args:
        out: where to.
        found: the rows.
        total: how many there are in all, where that is not what `found` says.
    """
    columns = [Column(plain(name), right=kind.startswith(_NUMBERS)) for name, kind in found.columns.items()]
    made = out.grid(columns, [[_cell(v) for v in row] for row in found.rows], longest=LONGEST_CELL)
    total = found.total if total is None else total
    if total > len(found.rows):
        out.note(f"{count(len(found.rows))} of {count(total, 'rows')} shown")
    if made.cut_cells:
        out.note(f"{count(made.cut_cells, 'values')} cut to the width of the column (--json has all)")


def _cell(value: Any) -> str:
    return Styled("null", "null") if value is None else cell(value)


def json_parts(reader: Any) -> Iterator[str]:
    """A result as the parts of one JSON object: `{"columns": [...], "rows": [...]}`.

    Streamed: a result of any size takes the memory of one record batch.
    """
    types = [{"name": name, "type": kind} for name, kind in columns_of(reader).items()]
    yield '{"columns": ' + json.dumps(types, ensure_ascii=False) + ', "rows": ['
    separator = "\n"
    for batch in reader:
        for row in batch.to_pylist():
            yield separator + json.dumps(jsonable(row), ensure_ascii=False)
            separator = ",\n"
    yield "\n]}\n"


def csv_rows(reader: Any) -> Iterator[Sequence[Any]]:
    """A result as rows of CSV, the heading first. Null is an empty field, nested values are JSON."""
    yield [field.name for field in reader.schema]
    for batch in reader:
        columns = [[_csv(v) for v in batch.column(i).to_pylist()] for i in range(batch.num_columns)]
        yield from zip(*columns, strict=True)


def _csv(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case None | str() | int():
            return value
        case float():
            return repr(value)
        case list() | tuple() | dict():
            return json.dumps(jsonable(value), ensure_ascii=False)
    return cell(value)
