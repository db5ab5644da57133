"""The command line in tests: a project in a temporary folder, commands run in this process or in one of their own.

cli = CommandLine(folder)
cli.write("pipelines/shop.py", "...")
result = cli("run", "shop", "2026-01-01")      # .stdout, .stderr, .exit_code, .facts
cli.process("run", "shop")                     # in a process of its own, which is forked with all imported
cli.process("run", "shop", new=True)           # the same through a new interpreter
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from harness import warm
from tidemill.cli.main import root

_TIMES = [
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)?"), "TIME"),
    (re.compile(r"\d+\.\d\d? s\b|\d+ min \d\d s"), "SECONDS"),
    # Drawn from 63 bits: one in a hundred has fewer than 18 digits, one in ten million fewer than 13.
    (re.compile(r"\b\d{13,19}\b"), "SNAPSHOT"),
]


def steady(text: str) -> str:
    """The text without what differs from run to run: times, durations, snapshot ids, and the padding they cause."""
    for pattern, word in _TIMES:
        text = pattern.sub(word, text)
    return "\n".join(re.sub(r"(?<=\S) {2,}", "  ", line) for line in text.splitlines())


@dataclass(frozen=True)
class Told:
    """What a command said."""

    stdout: str
    stderr: str
    exit_code: int

    @property
    def out(self) -> str:
        """Standard output, steady."""
        return steady(self.stdout)

    @property
    def err(self) -> str:
        """Standard error, steady."""
        return steady(self.stderr)

    @property
    def object(self) -> Any:
        """The one object that `--json` writes."""
        return json.loads(self.stdout)


class CommandLine:
    """Runs commands in a project's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project; the text is dedented."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return file

    def copied(self, folder: Path) -> CommandLine:
        """The same project elsewhere: for what costs to make. Tables cannot move, as their files name each other."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, symlinks=True)
        return CommandLine(folder)

    def __call__(self, *arguments: str, given: str | None = None) -> Told:
        """Run a command in this process."""
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(root, list(arguments), input=given, prog_name="tidemill")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Told(result.stdout, result.stderr, result.exit_code)

    def process(self, *arguments: str, new: bool = False, **environment: str) -> Told:
        """Run a command in a process of its own; `new`: in one that imports what it needs by itself."""
        words, names = [sys.executable, "-m", "tidemill.cli", *arguments], {**os.environ, **environment}
        if new:
            made = subprocess.run(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=names
            )
        else:
            made = warm.run(words, cwd=self.folder, env=names)
        return Told(made.stdout, made.stderr, made.returncode)
