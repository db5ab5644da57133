"""Processes that say something into a task's log; see `forking.py` and `executing.py`."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tidemill.adapters.localfs.tasklogs import LocalTaskLogs
from tidemill.adapters.processes.forkserver import ForkServer
from tidemill.adapters.processes.worker import work
from tidemill.adapters.system.clock import SystemClock
from tidemill.flow.tasklog import Spool, captured
from tidemill.model.instance import Outcome, Report, Succeeded
from tidemill.model.masking import Masker
from tidemill.ports.executor import Job
from tidemill.ports.tasklogs import TryPlace

SECRET = "hunter2hunter2"


def place_of(job: Job) -> TryPlace:
    return TryPlace("p", job.run_id, job.key[0], job.key[1], job.number)


def talk_in_turns() -> None:
    """Each way to say something, one after the other."""
    print("one")
    logging.getLogger("my.task").info("two %d", 2)
    os.write(1, b"three\n")
    logging.getLogger("my.task").debug("not asked for")
    subprocess.run(["sh", "-c", "echo four; echo five >&2"], check=True)
    print("six", file=sys.stderr)
    try:
        raise ValueError("seven")
    except ValueError:
        logging.getLogger("my.task").exception("it failed")
    sys.stdout.buffer.write("äch".encode() + b"\xff\n")
    print("no end", end="")


def talk_secretly() -> None:
    print("password", SECRET)
    subprocess.run(["echo", SECRET], check=True)
    logging.getLogger("my.task").warning("%s", SECRET)


def talk_much() -> None:
    """More than the log's limit, by a program and by print, and one very long line."""
    print("x" * 100_000)
    subprocess.run(["sh", "-c", "yes | head -c 30000000"], check=True)
    for _ in range(10_000):
        print("y" * 1_000)


def talk_and_wait() -> None:
    os.write(2, b"begun\n")
    time.sleep(1000)


def talk_and_die() -> None:
    os.write(2, b"last words\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def say_nothing() -> None:
    pass


DEEDS: dict[str, Callable[[], None]] = {
    deed.__name__: deed for deed in (talk_in_turns, talk_secretly, talk_much, talk_and_wait, talk_and_die, say_nothing)
}


def serve_talkers(end: socket.socket, folder: Path) -> None:
    """A fork server whose workers do what a job's task id names, and log it below `folder`."""
    logs = LocalTaskLogs(folder, SystemClock(), limit=1_000_000)

    def main(channel: socket.socket) -> int:
        spool = Spool.redirect()

        def perform(job: Job) -> tuple[Outcome, Report]:
            with captured(logs.open(place_of(job)), Masker([SECRET]), spool):
                DEEDS[job.key[0]]()
            return Succeeded(), Report()

        return work(perform, channel, spool.readers)

    with ForkServer() as server:
        server.attach(end, main)
        while not server.stopping:
            server.wait()
    sys.exit(0)
