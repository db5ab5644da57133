"""What the demo prints: commands that a user would type, and facts, one a line; colours on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

_VERBS: Mapping[str, Mapping[str, Any]] = {
    "failed": {"fg": "red"},
    "killed": {"fg": "red"},
    "published": {"fg": "green"},
}


class Screen:
    """Writes to standard output."""

    def __init__(self) -> None:
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def chapter(self, text: str) -> None:
        """What comes next, in a sentence; a line is left free before it."""
        self._line()
        self._line(text, bold=True)

    def command(self, text: str) -> None:
        """What a user would type for the facts below it."""
        self._line(f"$ {text}", fg="cyan")

    def fact(self, verb: str, *parts: str) -> None:
        """One fact: a verb in the past tense, then what it is about."""
        self._line(f"{verb:<11}" + "  ".join(parts), **_VERBS.get(verb, {}))

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows, numbers aligned to the right."""
        if not rows:
            self._line("  (no rows)")
            return
        headings = list(rows[0])
        texts = [["" if v is None else str(v) for v in row.values()] for row in rows]
        widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
        right = [all(isinstance(row[name], int | float | None) for row in rows) for name in headings]
        for line in (headings, *texts):
            cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)]
            self._line("  " + "  ".join(cells).rstrip(), **({"dim": True} if line is headings else {}))

    def _line(self, text: str = "", **style: Any) -> None:
        click.echo(click.style(text, **style) if style and self._colours else text)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[str], None]]:
        """A bar on standard error while something long goes on, where a person watches.

        Gives a function to call with the name of each thing that is done.
        """
        if not sys.stderr.isatty():
            yield lambda _done: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda done: bar.update(task, advance=1, description=f"{title} {done}")
