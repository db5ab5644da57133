"""The command table: complete, lazy, documented."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import click
import pytest

import layering
from tidemill.cli.command import Command
from tidemill.cli.main import ENTRIES

ROOT = Path(__file__).parents[2]


def reference():
    """The script that makes the page."""
    spec = importlib.util.spec_from_file_location("make_cli_reference", ROOT / "scripts" / "make_cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = dict(reference().commands())


def test_there_are_at_most_19_top_level_commands():
    """Eighteen are about one's own project; `import` is about what another tool has, and may begin a project."""
    assert len(ENTRIES) <= 19


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name):
    """The first sentence fits on one line of a list, and each option has help."""
    command = COMMANDS[name]
    first = (command.help or "").strip().split("\n", 1)[0]
    assert first.endswith("."), name
    assert len(first) < 65, first
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help] == []


@pytest.mark.parametrize("name", ENTRIES)
def test_the_table_says_what_the_command_says(name):
    """`tidemill --help` shows the table's summary without importing the command: both must be the same sentence."""
    command = COMMANDS[f"tidemill {name}"]
    assert ENTRIES[name].summary == (command.help or "").strip().split("\n", 1)[0]


def test_every_command_takes_the_global_options():
    missing = []
    for name, command in COMMANDS.items():
        opts = {o for p in command.params for o in p.opts}
        missing += [(name, o) for o in ("--project", "--json", "--quiet", "--verbose", "--debug") if o not in opts]
    assert missing == []


def test_every_leaf_is_a_command_of_ours():
    """A plain click command would take no global options and would ignore --branch."""
    assert [n for n, c in COMMANDS.items() if not isinstance(c, Command | click.Group)] == []


def test_the_page_is_current():
    """Every command is documented; `python scripts/make_cli_reference.py` writes the page."""
    script = reference()
    assert script.PAGE.read_text("utf-8") == script.page()


HEAVY = {"sqlalchemy", "polars", "duckdb", "pyarrow", "pyiceberg", "rich", "alembic", "sqlglot", "jinja2"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["query", "--help"], ["nonsense"]])
def test_help_and_mistakes_load_no_driver(arguments):
    """What needs no data is answered without loading anything heavy."""
    program = (
        "import contextlib, io, sys\nfrom tidemill.cli.main import root\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()), "
        f"contextlib.redirect_stderr(io.StringIO()):\n    root.main({arguments!r}, prog_name='tidemill')"
    )
    assert layering.loaded_by(program, HEAVY) == set()
