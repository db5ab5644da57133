"""What fork servers in tests do: functions that run in a process of their own, and write what they saw to a folder."""

from __future__ import annotations

import io
import json
import os
import selectors
import signal
import sys
import time
from functools import partial
from pathlib import Path

from harness.executing import job, perform
from tidemill.adapters.processes.executor import LocalExecutor
from tidemill.adapters.processes.forker import Forker
from tidemill.adapters.processes.forkserver import ForkServer
from tidemill.adapters.processes.worker import work
from tidemill.adapters.system.clock import SystemClock


def note(folder: Path, name: str, text: object = "") -> None:
    """Write a file whole, or not at all."""
    part = folder / f".{name}"
    part.write_text(f"{text} ")
    part.rename(folder / name)


def exit_with(code: int) -> int:
    """A child that ends at once."""
    return code


def wait_for_end(folder: Path, polite: bool) -> int:
    """A child that runs until it is asked to end, or longer."""
    if not polite:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        note(folder, "stubborn", os.getpid())
        while True:
            time.sleep(1000)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    note(folder, "polite", os.getpid())
    while not asked:
        time.sleep(0.01)
    note(folder, "asked")
    return 0


def keep_one_busy(forker: Forker, folder: Path) -> int:
    """A scheduler's stand-in: one worker that holds a job, one that waits for some."""
    executor = LocalExecutor(forker, SystemClock(), workers=2)
    executor.submit(job(f"hold:{folder}"))
    executor.submit(job("done", run_id=2))
    selector = selectors.DefaultSelector()
    for handle in executor.handles():
        selector.register(handle, selectors.EVENT_READ)
    note(folder, "scheduler", os.getpid())
    while True:
        executor.events()
        if len(executor.workers) == 2:
            note(folder, "workers", " ".join(map(str, executor.workers)))
        selector.select(executor.pause())


# -- roots


def tell_ends(folder: Path) -> None:
    """Note how children end."""
    with ForkServer() as server:
        children = {
            server.spawn(exit_with, 3): "three",
            server.spawn(_killed): "killed",
            server.spawn(_raised): "raised",
        }
        found: dict[str, int] = {}
        while len(found) < len(children):
            found |= {children[ended.pid]: ended.status for ended in server.wait()}
    note(folder, "ends", json.dumps(found))


def _killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def _raised() -> int:
    sys.stderr = io.StringIO()  # the traceback belongs to no test
    raise ValueError


def run_until_stopped(folder: Path, grace: float) -> None:
    """A root with a child that ends when it is asked to, one that does not, and one that has workers."""
    with ForkServer() as server:
        server.spawn(wait_for_end, folder, True)
        if grace:
            server.spawn(wait_for_end, folder, False)
        server.spawn(keep_one_busy, folder, forking=partial(work, perform))
        while not server.stopping:
            server.wait()
        server.stop(grace or 30)
    note(folder, "ended")


def restart(folder: Path) -> None:
    """Start a child again as often as it ends, three times."""
    with ForkServer() as server:
        ends = []
        for _ in range(3):
            server.spawn(keep_one_busy, folder / str(len(ends)), forking=partial(work, perform))
            ends += [ended.status for ended in server.wait()]
    note(folder, "ends", ends)
