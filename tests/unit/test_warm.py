"""A forked command is like a new process: whatever a test sees of one, it would see of the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from harness import warm

TELL = """
import json, os, signal, sys, threading, time
import random
umask = os.umask(0)
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv, "path": sys.path, "name": __name__, "file": globals().get("__file__"),
    "names": sorted(globals()), "main": sys.modules["__main__"].__dict__ is globals(), "cwd": os.getcwd(),
    "env": {n: v for n, v in os.environ.items() if n not in ("_", "OLDPWD", "PWD")}, "zone": time.tzname,
    "umask": umask, "threads": threading.active_count(), "leads a session": os.getsid(0) == os.getpid(),
    "handlers": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)],
    "blocked": [str(one) for one in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
    "streams": [[s.name if s.name != 0 else "<stdin>", s.mode, s.encoding, s.errors, s.line_buffering, s.isatty()]
                for s in (sys.stdin,)] + [[s.mode, s.encoding, s.errors, s.line_buffering, s.write_through, s.isatty()]
                for s in (sys.stdout, sys.stderr)],
    "given": sys.stdin.read(), "harness": [n for n in sys.modules if n.startswith("harness")],
    "bytecode": sys.dont_write_bytecode, "open": len(os.listdir("/proc/self/fd")),
}, indent=1))
print("to standard error", file=sys.stderr)
"""


def new(
    words: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What `warm.run` does, by a process that imports for itself."""
    with tempfile.TemporaryFile() as stdin:
        stdin.write((given or "").encode())
        stdin.seek(0)
        return subprocess.run(
            words, cwd=cwd, env=env, stdin=stdin, capture_output=True, text=True, start_new_session=True,
            # A suite that was begun in the background ignores SIGINT, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


@pytest.mark.parametrize("way", ["-c", "file", "-m"])
def test_it_finds_what_a_new_process_finds(tmp_path: Path, way: str) -> None:
    (tmp_path / "tidemill_tells").mkdir()
    for file in ("tell.py", "tidemill_tells/__main__.py"):
        (tmp_path / file).write_text(TELL)
    words = [sys.executable, *{"-c": ["-c", TELL], "file": ["tell.py"], "-m": ["-m", "tidemill_tells"]}[way], "a", "-b"]
    env = {**os.environ, "TZ": "Asia/Tokyo", "ONLY": "here", "PYTHONPATH": str(tmp_path / "more")}
    del env["PATH"]
    before = os.umask(0o027)
    try:
        told, wanted = (run(words, cwd=tmp_path, env=env, given="läuft\n") for run in (warm.run, new))
    finally:
        os.umask(before)
    assert told.stdout == wanted.stdout
    assert (told.stderr, told.returncode) == (wanted.stderr, wanted.returncode) == ("to standard error\n", 0)
    assert '"harness": []' in told.stdout


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        ("import sys; sys.exit(7)", 7),
        ("import sys; sys.exit('no')", 1),
        ("def f():\n    1 / 0\nf()", 1),
        ("raise KeyboardInterrupt", -2),
        ("import os; print('lost', end=''); os.kill(os.getpid(), 9)", -9),
        ("import atexit; atexit.register(print, 'bye'); print('end', end=' ')", 0),
        ("import threading; threading.Timer(0.1, print, ['late']).start()", 0),
        ("if", 1),
    ],
)
def test_it_ends_as_a_new_process_ends(tmp_path: Path, code: str, ends: int) -> None:
    (tmp_path / "file.py").write_text(code)
    told, wanted = (run([sys.executable, "file.py"], cwd=tmp_path, env=os.environ) for run in (warm.run, new))
    assert (told.returncode, told.stdout, told.stderr) == (wanted.returncode, wanted.stdout, wanted.stderr)
    assert told.returncode == ends


def test_two_of_them_share_no_chance_and_no_state(tmp_path: Path) -> None:
    code = "import random, numpy, tidemill, click; print(random.random(), numpy.random.rand(), vars(tidemill).get('x'))"
    first, second = (
        warm.run([sys.executable, "-c", f"{code}; tidemill.x = 1"], cwd=tmp_path).stdout.split() for _ in range(2)
    )
    assert first[:2] != second[:2]
    assert first[2] == second[2] == "None"


def test_what_an_interpreter_reads_at_its_start_gets_a_new_one(tmp_path: Path) -> None:
    code = "import sys; print(sys.stdout.encoding, 'polars' in sys.modules)"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    assert warm.run([sys.executable, "-c", code], cwd=tmp_path).stdout.split()[1] == "True"
    assert warm.run([sys.executable, "-c", code], cwd=tmp_path, env=environment).stdout == "iso8859-1 False\n"


def test_a_command_that_takes_too_long_can_be_ended(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w+b") as out:
        child = warm.started(
            [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
            stdin=out, stdout=out, stderr=out,
        )  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
        child.kill()
        assert child.wait(60) == -9
