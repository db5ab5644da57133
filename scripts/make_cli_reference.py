"""Writes `docs/reference/cli.md` from the command line's own table, so that the page says what `--help` says.

    python scripts/make_cli_reference.py

A test holds the page against what this would write.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from tidemill.cli.main import ENTRIES, TABLE, root

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"

HEAD = """# The command line

This page is made from the commands themselves (`scripts/make_cli_reference.py`); `tidemill COMMAND --help` says the
same.

Results go to standard output; progress, notes and errors to standard error. With `--json` standard output gets one
object and nothing else. Colours and live progress are for terminals; `NO_COLOR` switches colours off.

| exit code | means |
|---|---|
| 0 | it went well |
| 1 | a run or a check failed, or an operation was refused |
| 2 | the command line, a file of the project, or a setting is wrong |
| 3 | a service is unreachable |
| 130 | interrupted |
"""

PLACES = """They are taken before or after the command's name. `--branch` is for commands that read, `--server` for
those that can [ask a server](../api.md#commands-by-the-api)."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups before what is in them."""
    context = click.Context(root, info_name="tidemill")
    for name in ENTRIES:
        command = root.get_command(context, name)
        assert command is not None
        yield from _within(f"tidemill {name}", command)


def _within(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for inner, found in command.commands.items():
            yield from _within(f"{name} {inner}", found)


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Commands", _overview(), "## Global options", _options(root), PLACES]
    for name, command in commands():
        parts += [f"## {name}", f"```text\n{_usage(name, command)}\n```", _prose(command), _options(command)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _overview() -> str:
    rows = [
        f"| {section} | [`tidemill {name}`](#tidemill-{name}) | {entry.summary} |"
        for section, entries in TABLE.items()
        for name, entry in entries.items()
    ]
    return "\n".join(["| to | command | does |", "|---|---|---|", *rows])


def _usage(name: str, command: click.Command) -> str:
    pieces = command.collect_usage_pieces(click.Context(command, info_name=name))
    return " ".join([name, *pieces])


def _prose(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(p.split()), 118, break_long_words=False) for p in paragraphs)


def _options(command: click.Command) -> str:
    context = click.Context(command)
    records = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None
    ]
    rows = [f"| `{_cell(names)}` | {_cell(text)} |" for names, text in records if names != "--help"]
    return "\n".join(["| option | does |", "|---|---|", *rows]) if rows else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
