"""`tidemill data crawl`: what lies below a folder or a bucket's prefix, as sources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command
from tidemill.cli.grid import Column
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.text import count, size

if TYPE_CHECKING:
    from tidemill.plan.crawl import Crawled

_DRIFT = click.Choice(["evolve", "fail", "ignore"])


@click.command(cls=Command)
@click.argument("root")
@click.option("--write", "file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Keep it as a pipeline, pipelines/raw.yaml say, or add to that file.")  # fmt: skip
@click.option("--drift", type=_DRIFT, default="evolve", show_default=True,
              help="When columns change: take them over, refuse the data, or leave them out.")  # fmt: skip
@click.option("--connection", metavar="NAME", help="Which one reaches the root.")
@click.option("--pipeline", metavar="NAME", help="The pipeline's name; else the root's.")
@click.option("--schedule", metavar="WHEN", help="Of a new pipeline, from today on: '@daily'.")
@click.option("--samples", type=click.IntRange(min=1), default=5, show_default=True, metavar="N",
              help="Files of each table that are read.")  # fmt: skip
@pass_invocation
def crawl(
    invocation: Invocation,
    root: str,
    file: Path | None,
    drift: str,
    connection: str | None,
    pipeline: str | None,
    schedule: str | None,
    samples: int,
) -> None:
    """Find tables in files: format, dialect, partitions, types.

    ROOT is a folder of the project, or an address such as s3://bucket/raw/. Each folder below it is a table, those
    named key=value are columns of it. With --write they become sources of a pipeline, each of which loads what is new.
    """
    from tidemill.wiring.crawling import crawl_root, keep, pipeline_of

    settings = invocation.known_settings()
    found = crawl_root(settings, root, connection, samples)
    changed = []
    if file is not None:
        when = _when(schedule)
        changed = keep(found, settings.root / file, pipeline, drift, when)
    out = invocation.out
    if invocation.json:
        out.object({"root": found.root, "tables": [_object(one) for one in found.tables],
                    "drift": {one.table: list(one.changes) for one in changed}})  # fmt: skip
        return
    columns = [Column("table"), Column("format"), Column("files", right=True), Column("size", right=True),
               Column("read", right=True), Column("partitions"), Column("columns", yields=1, wraps=True)]  # fmt: skip
    out.grid(columns, [_row(one) for one in found.tables])
    out.facts([("changed", drifted.table, change) for drifted in changed for change in drifted.changes])
    for one in found.tables:
        if one.group.trouble:
            out.note(f"left out: {one.group.name}: {one.group.trouble}")
    if file is not None:
        out.facts([("wrote", str(file), count(len(found.usable), "sources"))])
        out.next(f"tidemill run {pipeline_of(found, pipeline)}")
    else:
        out.next(f"tidemill data crawl {root} --write pipelines/{pipeline_of(found, pipeline)}.yaml")


def _when(schedule: str | None) -> dict[str, str]:
    from tidemill.wiring.services import system_clock

    return {} if schedule is None else {"schedule": schedule, "start": system_clock().now().date().isoformat()}


def _object(one: Crawled) -> dict[str, Any]:
    group = one.group
    return {
        "name": group.name,
        "pattern": group.pattern,
        "files": len(group.files),
        "bytes": sum(file.bytes for file in group.files),
        "read": one.sampled,
        "format": one.format or None,
        "csv": dict(one.csv),
        "partitions": {name: str(kind) for name, kind in group.keys.items()},
        "columns": {column.name: str(column.type) for column in one.columns},
        "trouble": group.trouble or None,
    }


def _row(one: Crawled) -> list[str]:
    found = _object(one)
    dialect = "".join(f" {name}={value!r}" for name, value in one.csv.items())
    keys = ", ".join(f"{name} {kind}" for name, kind in found["partitions"].items())
    listed = ", ".join(f"{name} {kind}" for name, kind in found["columns"].items())
    return [found["name"], f"{one.format or '-'}{dialect}", str(found["files"]), size(found["bytes"]),
            str(found["read"]), keys or "-", listed or "-"]  # fmt: skip
