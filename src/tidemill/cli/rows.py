"""Rows of a query: as a table on the screen, as objects, as a stream of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tidemill.cli.grid import Column, Styled
from tidemill.cli.output import Output
from tidemill.cli.text import cell, count, plain
from tidemill.flow.facts.rows import columns_of, json_rows
from tidemill.ports.asked import Head

#: A cell takes no more columns than this; JSON and CSV have all of it.
LONGEST_CELL = 48
_NUMBERS = ("int", "uint", "float", "double", "decimal", "halffloat")


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
    for row in json_rows(reader):
        yield separator + row
        separator = ",\n"
    yield "\n]}\n"
