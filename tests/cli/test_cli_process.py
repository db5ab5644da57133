"""The program as a process: exit codes, streams, signals, terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios

import pytest

from harness import warm

TIDEMILL = [sys.executable, "-m", "tidemill.cli"]


def test_help_is_on_standard_output(cli):
    result = cli.process("--help", new=True)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: tidemill [OPTIONS] COMMAND [ARGS]...")
    assert cli.process(new=True).stdout == result.stdout


def test_a_mistake_exits_with_2(cli):
    result = cli.process("doctr", new=True)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == 'error: There is no command "doctr".\n  try: did you mean "tidemill doctor"?\n'


def test_a_server_that_does_not_answer_exits_with_3(cli):
    result = cli.process("data", "batches", TIDEMILL_METADATA_URL="postgresql://me@127.0.0.1:1/lake")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: The metadata database does not answer")
    assert "Traceback" not in result.stderr


def test_a_pipe_that_closes_early_is_no_error(cli):
    """`tidemill query ... | head -1`."""
    shell = f"{' '.join(TIDEMILL)} query 'select i from range(200000) t(i)' --limit 0 | head -1"
    made = subprocess.run(shell, shell=True, cwd=cli.folder, capture_output=True, text=True)
    assert made.stdout.strip() == "i"
    assert "Traceback" not in made.stderr
    assert "BrokenPipe" not in made.stderr


def test_a_stream_that_is_not_utf_8_gets_question_marks(cli):
    result = cli.process("query", "select '東京' as city", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == ["city", "??"]


WAITS = """
import pathlib
import time
import tidemill as tm

p = tm.Pipeline("waits")


@p.source
def rows():
    yield {"id": 1}


@p.table
def late(rows):
    pathlib.Path("ready").touch()
    time.sleep(600)
"""


def test_ctrl_c_exits_with_130_and_leaves_main_alone(cli):
    cli.write("pipelines/waits.py", WAITS)
    process = subprocess.Popen(
        [*TIDEMILL, "-q", "run", "waits", "k"],
        cwd=cli.folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while process.poll() is None and not (cli.folder / "ready").exists():
            select.select([], [], [], 0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert told.splitlines()[-2:] == [
        "interrupted: nothing of this run was published", "resume:  tidemill run waits k",
    ]  # fmt: skip
    assert cli("data", "batches", "--json").object["batches"][0]["state"] == "cancelled"


def on_terminal(folder, columns, *arguments, **environment):
    """What a person sees: standard output and error on one terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    names = {**os.environ, "TERM": "xterm-256color", **environment}
    names.pop("COLUMNS", None)
    process = warm.started([*TIDEMILL, *arguments], cwd=folder, stdin=slave, stdout=slave, stderr=slave, env=names)
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(master)
    return process.wait(), seen.decode()


def without_colours(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("columns", [80, 140])
def test_no_line_is_wider_than_the_terminal(published, columns):
    for command in (
        ["data", "batches"], ["data", "batches", "1"], ["data", "show", "clean_orders"],
        ["query", "select *, repeat('x', 300) as long from clean_orders"],
    ):  # fmt: skip
        code, seen = on_terminal(published.folder, columns, *command)
        assert code == 0
        notes = ("hidden:", "cut to", "not listed")
        lines = [line for line in without_colours(seen).splitlines() if not any(n in line for n in notes)]
        assert max(len(line) for line in lines) <= columns, command


def test_a_run_on_a_terminal_shows_progress_that_goes_away(shop):
    code, seen = on_terminal(shop.folder, 80, "run", "shop", "2026-01-01")
    assert code == 0
    assert "batch 1  shop 2026-01-01" in without_colours(seen)
    assert "\x1b[2K" in seen, "live lines are cleared"
    assert without_colours(seen).splitlines()[-1] == "next: tidemill data show shop.revenue_by_country"


def test_no_color(published):
    _, with_colour = on_terminal(published.folder, 80, "data", "batches")
    _, without = on_terminal(published.folder, 80, "data", "batches", NO_COLOR="1")
    assert "\x1b[1m" in with_colour
    assert "\x1b" not in without
