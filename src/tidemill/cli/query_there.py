"""`tidemill query` with a server: the first rows of a SELECT, or all of them as a file that the server makes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click

from tidemill.cli.invocation import Invocation
from tidemill.cli.query import STDOUT, text_stream, whole, wrote
from tidemill.cli.reading import tell_ref
from tidemill.cli.rows import print_rows
from tidemill.cli.text import count

#: More than any server gives at once.
_ALL = 100_000


def query_there(invocation: Invocation, sql: str, at: str | None, limit: int, form: str, target: str | None) -> None:
    """Ask the server, and show or write what it says.

    Args:
        invocation: the call.
        sql: what is asked.
        at: of which moment; None: of now.
        limit: rows to print; 0: as many as the server gives.
        form: of a file: csv, jsonl, parquet; empty: rows are printed.
        target: that file; `-`: standard output.
    """
    from tidemill.wiring.installation import lake_of

    lake, ref, out = lake_of(invocation.installation), tell_ref(invocation), invocation.out
    if target is None:
        found, more = lake.ask(sql, ref, at, min(limit or _ALL, _ALL))
        print_rows(out, found)
        if more:
            out.note(f"the first {count(len(found.rows), 'rows')} shown; there are more (--limit, --csv FILE)")
        return
    if form == "parquet" and target == STDOUT:
        raise click.UsageError("Parquet goes into a file: it cannot be written to standard output.")
    content = lake.download(sql, ref, at, form)
    if form == "jsonl":
        columns = lake.ask(sql, ref, at, 1)[0].columns
        _write_object(invocation, target, columns, content)
        return
    if target == STDOUT:
        with text_stream(invocation, target) as lines:
            lines.write(content.decode())
        return
    with whole(target) as file:
        file.write_bytes(content)
        rows = _rows_of(file, form)
    wrote(invocation, target, rows)


def _write_object(invocation: Invocation, target: str, columns: dict[str, str], content: bytes) -> None:
    """The same object that a query here writes."""
    types = [{"name": name, "type": kind} for name, kind in columns.items()]
    with text_stream(invocation, target) as lines:
        lines.write('{"columns": ' + json.dumps(types, ensure_ascii=False) + ', "rows": [')
        lines.write(",".join("\n" + row for row in content.decode().split("\n") if row))
        lines.write("\n]}\n")
    if target != STDOUT:
        invocation.out.note(f"wrote {target}")


def _rows_of(path: Path, form: str) -> int:
    if form == "parquet":
        from tidemill.adapters.arrow.export import rows_of_parquet

        return rows_of_parquet(path)
    with path.open(encoding="utf-8", newline="") as lines:
        return sum(1 for _ in csv.reader(lines)) - 1
