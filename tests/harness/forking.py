"""Processes for tests that kill them or let them race, forked from a server that has imported all and run nothing.

A process that imports Polars, Arrow, DuckDB, PyIceberg and SQLAlchemy for itself spends 1.3 s of CPU time on it; a
fork of the server takes 0.03 s. The test's own process cannot be forked: it has run them, and a fork would hang.

code = ran(work, root, report)        # to its end; the exit code, negative for a signal
child = started(work, root, report)   # a process; `child.join(seconds)`, `child.exitcode`
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

#: A process that takes longer than this many seconds hangs.
PATIENCE = 600

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["harness.preloaded"])
_TESTS = str(Path(__file__).parent.parent)


def started(target: Callable[..., None], *args: Any) -> BaseProcess:
    """Start a function in a forked process."""
    _start_server()
    child = _CONTEXT.Process(target=target, args=args)
    child.start()
    return child


def ran(target: Callable[..., None], *args: Any) -> int:
    """Run a function in a forked process to its end; the exit code."""
    child = started(target, *args)
    child.join(PATIENCE)
    assert child.exitcode is not None, "the process hangs"
    return child.exitcode


def pipe() -> tuple[Connection, Connection]:
    """A reading and a writing end, to be given to processes."""
    reading, writing = _CONTEXT.Pipe(duplex=False)
    return reading, writing


def _start_server() -> None:
    """Start the server where it does not run; it looks for its modules on PYTHONPATH, and skips those it misses."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = _TESTS if before is None else os.pathsep.join([_TESTS, before])
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
