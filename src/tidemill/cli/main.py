"""The entry of the command line: the table of commands. A command's module is imported when it is called.

`tidemill --help` reads this table only, so it needs click and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from tidemill.cli.command import GLOBAL_OPTIONS, Command, Group, adopted
from tidemill.cli.failure import guarded


@dataclass(frozen=True, slots=True)
class Entry:
    """A top-level command: where it is defined (`module:name`), and what it is for in one line."""

    target: str
    summary: str


#: Every top-level command, in the order in which a newcomer meets them, under the headings of `--help`.
TABLE: Mapping[str, Mapping[str, Entry]] = {
    "Begin": {
        "init": Entry("tidemill.cli.init:init", "Write a new project that runs as it is."),
        "import": Entry("tidemill.cli.importing:imports", "Take over what another tool has: Airflow's DAGs and past."),
        "demo": Entry("tidemill.demo.command:demo", "Run a week of real flights through a pipeline, failure included."),
    },
    "Run": {
        "up": Entry("tidemill.cli.up:up", "Start all that a project needs to run by itself."),
        "serve": Entry("tidemill.cli.up:serve", "Run one part of an installation; say who may use it."),
        "stream": Entry("tidemill.cli.stream:stream", "Run streams, and look after them."),
        "run": Entry("tidemill.cli.run:run", "Run a pipeline: all of it is published, or nothing."),
        "backfill": Entry("tidemill.cli.backfill:backfill", "Run a pipeline for a range of intervals."),
        "pipelines": Entry("tidemill.cli.pipelines:pipelines", "Look at pipelines and their schedules; pause them."),
        "runs": Entry("tidemill.cli.runs:runs", "Look at runs; stop them, clear and mark their tasks."),
        "logs": Entry("tidemill.cli.logs:logs", "Show what tasks of a run have said."),
        "replay": Entry("tidemill.cli.run:replay", "Run batches again from their archived input."),
        "check": Entry("tidemill.cli.check:check", "Validate the project and show what each table promises."),
    },
    "Read": {
        "query": Entry("tidemill.cli.query:query", "Read tables with SQL (DuckDB's dialect)."),
        "data": Entry("tidemill.cli.data:data", "Look at tables, their history and their batches."),
        "branch": Entry("tidemill.cli.branch:branch", "Compare, merge, tag and drop versions; undo a batch."),
    },
    "Care": {
        "schema": Entry("tidemill.cli.schema:schema", "Change destinations' tables by revisions, kept in Git."),
        "connections": Entry("tidemill.cli.connections:connections", "Look at connections, add them, and test them."),
        "doctor": Entry("tidemill.cli.doctor:doctor", "Look for what is wrong with the project's surroundings."),
    },
}  # fmt: skip

ENTRIES: Mapping[str, Entry] = {name: entry for section in TABLE.values() for name, entry in section.items()}


class Root(Group):
    """The group `tidemill`: knows its commands by the table, and turns every failure into a message and a code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the table."""
        return list(ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        entry = ENTRIES.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.target.partition(":")
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, click.Command), f"{entry.target} is no command"
        return found if isinstance(found, Command | Group) else adopted(found)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, section by section, without importing anything."""
        width = max(map(len, ENTRIES))
        for section, entries in TABLE.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in entries.items()])

    def main(self, *args: Any, **options: Any) -> Any:
        """Run, and exit with the code that says how it went."""
        return guarded(super().main, *args, **options)


root = Root(
    "tidemill",
    help="""Feeds lakes, warehouses and streams from Python. A run is a transaction: run = batch = branch.""",
    epilog="Exit codes: 0 ok, 1 a run or check failed, 2 usage or configuration, 3 a service is unreachable, "
    "130 interrupted. `tidemill COMMAND --help` says more.",
    params=[option() for option in GLOBAL_OPTIONS],
    no_args_is_help=True,
)


def main() -> None:
    """The program `tidemill`."""
    root.main(prog_name="tidemill")


__all__ = ["ENTRIES", "TABLE", "Command", "Entry", "Root", "main", "root"]
