"""`tidemill query`: one SELECT over tables, views and Tidemill's own tables, on the screen or into a file."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command, Suggestion, limit_option
from tidemill.cli.invocation import Invocation, current, pass_invocation
from tidemill.cli.reading import tell_ref
from tidemill.cli.text import count

if TYPE_CHECKING:
    from tidemill.ports.asked import Head

#: The engines of wiring/queries.py, which is not loaded for a list of them.
_ENGINES = ("athena", "postgres", "redshift", "trino")
#: Stands for standard output.
STDOUT = "-"


def _keep_json(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value == STDOUT:
        current(ctx).json = True
    return value


@click.command(cls=Command, reads=True, asks=True, own=["json"])
@click.argument("sql", required=False, metavar="SQL")
@click.option("--at", metavar="WHEN", help="Read a time ('2013-01-15 12:00'), or a snapshot id of the one table read.")
@limit_option(100, "Rows to print; 0: all. Files and --json always get all.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write CSV; - is standard output.")
@click.option("--json", "json_file", metavar="[FILE]", is_flag=False, flag_value=STDOUT, callback=_keep_json,
              help="Write one JSON object; without FILE to standard output.")  # fmt: skip
@click.option("--parquet", "parquet_file", metavar="FILE", help="Write Parquet.")
@click.option("--engine", type=click.Choice(_ENGINES), help="Ask another engine, in its own SQL.")
@click.option("--on", metavar="NAME", help="By this connection; else by the one that is called as the engine.")
@pass_invocation
def query(
    invocation: Invocation,
    sql: str | None,
    at: str | None,
    limit: int,
    csv_file: str | None,
    json_file: str | None,
    parquet_file: str | None,
    engine: str | None,
    on: str | None,
) -> None:
    """Read tables with SQL (DuckDB's dialect).

    SQL is one SELECT, or - to read it from standard input. Tables are pipeline.table, or a bare name that only one
    pipeline has. Tidemill's own are tidemill.batches, runs, tasks, checks, files and
    stream_checks.

    All tables are read as of one moment: main's last publish, --branch, or --at.

    With --server the first rows come from there, as many as its settings allow, and files whole, up to 64 MB.

    With --engine or --on, the statement goes elsewhere as it is: to Athena or Trino over the same tables, or to a
    warehouse. What they see is theirs, table by table.
    """
    from tidemill.cli.rows import json_parts, print_rows
    from tidemill.flow.facts.rows import csv_rows, head

    if sql is None and json_file is not None and " " in json_file:
        # `--json "select ..."`: the option may stand alone, so what follows it was taken for its file.
        sql, json_file, invocation.json = json_file, STDOUT, True
    if invocation.json and json_file is None:
        json_file = STDOUT
    targets = [t for t in (csv_file, json_file, parquet_file) if t is not None]
    if len(targets) > 1:
        raise click.UsageError("One of --csv, --json and --parquet can be written at a time.")
    text = _statement(sql)
    if invocation.remote is not None:
        from tidemill.cli.query_there import query_there

        if engine or on:
            raise Suggestion("Another engine cannot be asked by a server.", "--engine and --on, where the project is")
        form = next((f for f, file in (("csv", csv_file), ("jsonl", json_file), ("parquet", parquet_file)) if file), "")
        query_there(invocation, text, at, limit, form, targets[0] if targets else None)
        return
    with _asked(invocation, text, at, engine, on, None if targets else limit or None) as reader:
        if parquet_file is not None:
            from tidemill.adapters.arrow.export import write_parquet

            with _binary(parquet_file) as stream:
                rows = write_parquet(reader, stream)
            wrote(invocation, parquet_file, rows)
        elif csv_file is not None:
            counted = _Counted(csv_rows(reader))
            with text_stream(invocation, csv_file) as lines:
                csv.writer(lines, lineterminator="\n").writerows(counted)
            wrote(invocation, csv_file, counted.passed - 1)
        elif json_file is not None:
            with text_stream(invocation, json_file) as lines:
                lines.writelines(json_parts(reader))
            if json_file != STDOUT:
                invocation.out.note(f"wrote {json_file}")
        elif engine or on:
            _print_first(invocation, head(reader, None), limit)
        else:
            print_rows(invocation.out, head(reader, limit or None))


@contextmanager
def _asked(
    invocation: Invocation, text: str, at: str | None, engine: str | None, on: str | None, most: int | None
) -> Iterator[Any]:
    """The answer's record batches: of the embedded engine, or of another one, asked for a row more than wanted."""
    if engine is None and on is None:
        from tidemill.flow.query import query as run_query
        from tidemill.flow.query import reading

        services = invocation.services
        with reading(services, tell_ref(invocation), at) as seen, run_query(services, text, seen) as reader:
            yield reader
        return
    if at is not None or invocation.branch is not None:
        raise click.UsageError("Other engines see what they have: --at and --branch are of the embedded one.")
    from tidemill.adapters.arrow.answers import batches_of
    from tidemill.plan.asked_sql import only_reads
    from tidemill.wiring.queries import open_queries

    asked = open_queries(invocation.settings, engine, on)
    enough = None if most is None else most + 1
    with asked.ask(only_reads(text, asked.dialect), enough) as answer:
        yield batches_of(answer, enough)


def _print_first(invocation: Invocation, found: Head, limit: int) -> None:
    """Print rows of which one more was asked for than are shown, to know whether there are more."""
    from tidemill.cli.rows import print_rows
    from tidemill.ports.asked import Head

    more = 0 < limit < len(found.rows)
    shown = Head(found.columns, found.rows[:limit] if limit else found.rows, min(found.total, limit or found.total))
    print_rows(invocation.out, shown)
    if more:
        invocation.out.note(f"the first {count(limit, 'rows')} shown; there are more (--limit)")


def _statement(sql: str | None) -> str:
    if sql == "-":
        return sys.stdin.read()
    if sql is None:
        raise click.UsageError("Missing argument 'SQL'.")
    return sql


def wrote(invocation: Invocation, file: str, rows: int) -> None:
    """Say what was written."""
    if file != STDOUT:
        invocation.out.facts([("wrote", file, count(rows, "rows"))])


class _Counted:
    """Counts what passes through an iterator."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.passed = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self.passed += 1
            yield item


@contextmanager
def text_stream(invocation: Invocation, file: str) -> Iterator[IO[str]]:
    """A text stream to standard output or into a file."""
    if file == STDOUT:
        yield invocation.out.stream
        invocation.out.stream.flush()
        return
    with whole(file) as path, path.open("w", encoding="utf-8", newline="") as stream:
        yield stream


@contextmanager
def _binary(file: str) -> Iterator[IO[bytes]]:
    """A binary stream into a file."""
    if file == STDOUT:
        raise click.UsageError("Parquet goes into a file: it cannot be written to standard output.")
    with whole(file) as path, path.open("wb") as stream:
        yield stream


@contextmanager
def whole(file: str) -> Iterator[Path]:
    """A path to write to that becomes `file` when all went well: a query that fails leaves what was there."""
    target = Path(file)
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
