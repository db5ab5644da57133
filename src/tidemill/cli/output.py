"""Where the command line writes: results to standard output, everything else to standard error.

With `--json` standard output gets one object and nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from tidemill.cli.grid import Column, Grid, render
from tidemill.cli.text import count
from tidemill.model.json_values import jsonable

_CODES = {"heading": "1", "null": "2", "good": "32", "bad": "31;1", "warn": "33", "dim": "2", "added": "32",
          "removed": "31", "changed": "33"}  # fmt: skip


def is_terminal(stream: TextIO) -> bool:
    """True where a person reads the stream."""
    return stream.isatty()


def has_colour(stream: TextIO) -> bool:
    """True for a terminal, unless NO_COLOR is set or the terminal has none."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint_for(stream: TextIO) -> Any:
    """What gives a text on that stream its look."""
    if not has_colour(stream):
        return lambda text, _style: text
    return lambda text, style: f"\x1b[{_CODES[style]}m{text}\x1b[0m"


class Output:
    """Writes for one invocation.

    Args:
        quiet: notes are left out.
    """

    def __init__(self) -> None:
        self.quiet = False
        #: Standard output as it was at first: under `--json`, what users' code prints is sent elsewhere.
        self.stream = sys.stdout

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where the output goes elsewhere."""
        return shutil.get_terminal_size((80, 24)).columns if is_terminal(self.stream) else None

    def line(self, text: str = "") -> None:
        """One line of the result."""
        _write(self.stream, text + "\n")

    def styled(self, text: str, style: str) -> str:
        """The text with a look, where standard output has colours."""
        painted: str = paint_for(self.stream)(text, style)
        return painted

    def note(self, text: str) -> None:
        """One line beside the result: left out by `--quiet`."""
        if not self.quiet:
            _write(sys.stderr, paint_for(sys.stderr)(text, "dim") + "\n")

    def object(self, value: Any) -> None:
        """The one object of `--json`."""
        _write(self.stream, json.dumps(jsonable(value), ensure_ascii=False, indent=2) + "\n")

    def grid(
        self, columns: Sequence[Column], rows: Iterable[Sequence[str]], *, longest: int | None = None, indent: str = ""
    ) -> Grid:
        """A table; says on standard error what did not fit."""
        within = None if self.width is None else self.width - len(indent)
        made = render(columns, rows, within=within, longest=longest, paint=paint_for(self.stream))
        for text in made.lines:
            self.line(indent + text)
        if made.hidden:
            self.note(f"{_listed(made.hidden)} {'does' if len(made.hidden) == 1 else 'do'} not fit (--json has all)")
        return made

    def facts(self, facts: Iterable[Sequence[str]], *, error: bool = False) -> None:
        """One fact a line, verb first, columns aligned."""
        rows = [list(fact) for fact in facts]
        wide = max((len(row) for row in rows), default=0)
        columns = [Column("") for _ in range(wide)]
        padded = [[*row, *[""] * (wide - len(row))] for row in rows]
        stream = sys.stderr if error else self.stream
        made = render(columns, padded, heading=False, paint=paint_for(stream))
        for text in made.lines:
            _write(stream, text + "\n")

    def next(self, command: str) -> None:
        """The command to try next: the last line of a result."""
        self.line(f"next: {self.styled(command, 'heading')}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{count(len(names), 'columns')} ({shown})"


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a terminal or pipe that is not UTF-8 gets question marks, not a traceback
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
