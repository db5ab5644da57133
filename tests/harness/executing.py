"""A fork server for tests of executors, and workers that do what a job's task id says.

The test's process has run Polars and must not fork, so the server is a process of its own (see `forking.py`); the
executor lives in the test, at the other end of a socket.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.forking import started
from tidemill.adapters.processes.forker import Forker
from tidemill.adapters.processes.forkserver import ForkServer
from tidemill.adapters.processes.worker import work
from tidemill.model.graph import WHOLE
from tidemill.model.instance import Failed, Outcome, Report, Skipped, Succeeded
from tidemill.model.run import RunInfo
from tidemill.ports.executor import Executor, Job, JobEnded, JobEvent, TaskStopped

#: A test that waits longer than this hangs.
PATIENCE = 60.0


def perform(job: Job) -> tuple[Outcome, Report]:
    """Do what the task's id says: `what:argument`."""
    what, _, argument = job.key[0].partition(":")
    return _DEEDS[what](job, argument)


def _done(job: Job, argument: str) -> tuple[Outcome, Report]:
    return Succeeded(), Report()


def _sleep(job: Job, seconds: str) -> tuple[Outcome, Report]:
    time.sleep(float(seconds))
    return Succeeded(), Report()


def _hold(job: Job, folder: str) -> tuple[Outcome, Report]:
    """Say that it has begun, wait until somebody lets it go, and say whether it was stopped instead."""
    Path(folder, f"begun-{job.number}").write_text(str(os.getpid()))
    try:
        while not Path(folder, "go").exists():
            time.sleep(0.01)
    except TaskStopped:
        Path(folder, f"stopped-{job.number}").touch()
        raise
    return Succeeded(), Report()


def _stubborn(job: Job, folder: str) -> tuple[Outcome, Report]:
    """A task that lets nothing stop it, and a program that it has started."""
    program = subprocess.Popen(["sleep", "1000"])
    Path(folder, "pids").write_text(f"{os.getpid()} {program.pid}")
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1000)


def _count(job: Job, file: str) -> tuple[Outcome, Report]:
    """Leave a line for each time that it was begun."""
    with Path(file).open("a") as out:
        out.write(f"{job.run_id} {job.number}\n")
    return Succeeded(), Report()


def _fail(job: Job, argument: str) -> tuple[Outcome, Report]:
    raise ValueError(argument)


def _leave(job: Job, code: str) -> tuple[Outcome, Report]:
    raise SystemExit(int(code))


def _os_exit(job: Job, code: str) -> tuple[Outcome, Report]:
    os._exit(int(code))


def _signal(job: Job, number: str) -> tuple[Outcome, Report]:
    os.kill(os.getpid(), int(number))
    time.sleep(1000)
    return Succeeded(), Report()


def _fork(job: Job, seconds: str) -> tuple[Outcome, Report]:
    """Leave behind a process that holds everything open, and die."""
    if os.fork() == 0:
        time.sleep(float(seconds))
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    return Succeeded(), Report()


def _twin(job: Job, argument: str) -> tuple[Outcome, Report]:
    """Fork, and return from both."""
    os.fork()
    return Succeeded(), Report()


def _close_all(job: Job, argument: str) -> tuple[Outcome, Report]:
    os.closerange(3, 1000)
    return Succeeded(), Report()


def _large(job: Job, size: str) -> tuple[Outcome, Report]:
    text = "x" * int(size)
    got = len(str(job.run.conf.get("text", ""))) if job.run else 0
    return Succeeded(length=got), Report(xcoms=(("return_value", f'"{text}"'),))


def _wrong(job: Job, argument: str) -> tuple[Outcome, Report]:
    return Succeeded(length=object()), Report()  # type: ignore[arg-type]  # a mistake


def _surroundings(job: Job, argument: str) -> tuple[Outcome, Report]:
    """Tell of the process, and leave it changed."""
    seen = (os.environ.get("LEFT_BEHIND"), os.getcwd())
    os.environ["LEFT_BEHIND"] = "x"
    os.chdir("/")
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    return Succeeded(), Report(xcoms=(("seen", f"{seen[0]} {seen[1]}"),), worker=str(os.getpid()))


def _pid(job: Job, argument: str) -> tuple[Outcome, Report]:
    return Succeeded(), Report(worker=str(os.getpid()))


def _skip(job: Job, argument: str) -> tuple[Outcome, Report]:
    return Skipped(), Report(rows=7)


def _busy(job: Job, number: str) -> tuple[Outcome, Report]:
    """Compute while holding the interpreter's lock."""
    sum(range(int(number)))
    return Succeeded(), Report()


def _said_failed(job: Job, text: str) -> tuple[Outcome, Report]:
    return Failed(text, again=False, delay=timedelta(seconds=3)), Report()


_DEEDS: dict[str, Callable[[Job, str], tuple[Outcome, Report]]] = {
    "done": _done, "sleep": _sleep, "hold": _hold, "stubborn": _stubborn, "count": _count, "fail": _fail,
    "leave": _leave, "os_exit": _os_exit, "signal": _signal, "fork": _fork, "twin": _twin, "close_all": _close_all,
    "large": _large, "wrong": _wrong, "surroundings": _surroundings, "pid": _pid, "skip": _skip, "busy": _busy,
    "failed": _said_failed,
}  # fmt: skip


# -- a server


def _serve(end: socket.socket) -> None:
    with ForkServer() as server:
        server.attach(end, partial(work, perform))
        while not server.stopping:
            server.wait()
    sys.exit(0)


@contextlib.contextmanager
def serving(serve: Callable[..., None] = _serve, *args: Any) -> Iterator[tuple[Forker, BaseProcess]]:
    """A fork server whose workers perform these tasks, or others."""
    ours, theirs = socket.socketpair()
    server = started(serve, theirs, *args)
    theirs.close()
    try:
        yield Forker(ours), server
    finally:
        server.terminate()
        server.join(PATIENCE)


# -- using an executor


def job(task: str = "done", run_id: int = 1, number: int = 1, **values: Any) -> Job:
    """A job that may go on for an hour."""
    values = {"fence": 1, "queue": "default", "until": datetime.now(UTC) + timedelta(hours=1), **values}
    conf = values.pop("conf", None)
    if conf is not None:
        values["run"] = RunInfo(run_id, 1, 1, "p", "c", "p.py", conf=conf)
    return Job(run_id=run_id, key=(task, WHOLE), number=number, **values)


def wait_until(executor: Executor, done: Callable[[list[JobEvent]], Any], seconds: float = PATIENCE) -> list[JobEvent]:
    """Sleep on the executor's handles until what it tells satisfies `done`; returns that, unacknowledged."""
    until = time.monotonic() + seconds
    while True:
        seen = list(executor.events())
        if done(seen):
            return seen
        left = until - time.monotonic()
        assert left > 0, f"it takes too long; told so far: {seen}"
        pause = executor.pause()
        select.select(executor.handles(), [], [], left if pause is None else min(pause + 0.001, left))


def end_of(executor: Executor, one: Job, seconds: float = PATIENCE) -> JobEnded:
    """Wait for the end of a job, and acknowledge it."""
    place = (one.run_id, one.key, one.number)

    def ends(seen: list[JobEvent]) -> list[JobEnded]:
        return [e for e in seen if isinstance(e, JobEnded) and (e.run_id, e.key, e.number) == place]

    seen = wait_until(executor, ends, seconds)
    executor.acknowledge(seen)
    return ends(seen)[0]


def outcome_of(executor: Executor, one: Job, seconds: float = PATIENCE) -> JobEnded:
    """Submit a job, and wait for its end."""
    executor.submit(one)
    return end_of(executor, one, seconds)


def appears(path: Path, executor: Executor | None = None) -> str:
    """The content of a file that another process writes, once it is there."""
    until = time.monotonic() + PATIENCE
    while not (path.exists() and (text := path.read_text())):
        assert time.monotonic() < until, f"{path} does not appear"
        if executor is not None:
            executor.events()
        time.sleep(0.002)
    return text


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def freeze(pid: int, seconds: float = PATIENCE) -> None:
    """Stop a process, and wait until none of its threads runs any more: only the first of them hears of it at once."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + seconds
    states = [Path(thread.path) / "stat" for thread in os.scandir(f"/proc/{pid}/task")]
    while any(state.read_text().rpartition(")")[2].split()[0] != "T" for state in states):
        assert time.monotonic() < until, f"process {pid} does not stop"
        time.sleep(0.005)


def wait_gone(*pids: int, seconds: float = PATIENCE) -> None:
    """Wait until these processes do not run any more."""
    until = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until, f"still alive: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.005)
