"""Port `reader`: a fork of this process, or, where forking is not safe, a new interpreter.

A fork takes 2 ms, as what is imported here is there at once, and needs a process that has no threads (a fork after a
Polars query, which begins some, hangs); a new interpreter takes 150 ms.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from tidemill.model.definition import Definition
from tidemill.ports.reader import FileRead, Told

_CHUNK = 1 << 20
_PR_SET_PDEATHSIG = 1
_MOMENTS = 250
#: Libraries with threads of their own, which elsewhere than on Linux cannot be counted.
_THREADED = ("polars", "duckdb", "pyarrow")


def may_fork() -> bool:
    """Whether this process may fork: nothing runs in it but this thread."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/task")) == 1
    return threading.active_count() == 1 and not any(name in sys.modules for name in _THREADED)


class ChildReader:
    """A child of this process that reads files, and the socket to it.

    Args:
        channel: our end.
        pid: the child, which leads a session of its own.
    """

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel = channel
        self._pid = pid
        channel.setblocking(False)
        self._told = bytearray()

    @classmethod
    def forked(cls, serve: Callable[[int], None]) -> ChildReader:
        """A fork of this process that calls `serve` with its end of the socket."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _be_child(theirs, serve)
        theirs.close()
        return cls(ours, pid)

    @classmethod
    def started(cls, command: Sequence[str]) -> ChildReader:
        """A program whose standard input is its end of the socket."""
        ours, theirs = socket.socketpair()
        nowhere = subprocess.DEVNULL
        made = subprocess.Popen(
            list(command), stdin=theirs.fileno(), stdout=nowhere, stderr=nowhere, start_new_session=True
        )
        theirs.close()
        made.returncode = 0  # not known yet: `end` waits for it by its id, as for a fork
        return cls(ours, made.pid)

    def fileno(self) -> int:
        """Becomes readable when there is an answer, or the child has ended."""
        return self._channel.fileno()

    def ask(self, file: str) -> None:
        """Have a file read."""
        with suppress(BrokenPipeError, ConnectionResetError):  # `answer` will tell that it has ended
            self._channel.sendall(json.dumps(file).encode() + b"\n")

    def answer(self) -> FileRead | None:
        """What became of it."""
        with suppress(BlockingIOError):
            while not self._told.endswith(b"\n"):
                try:
                    got = self._channel.recv(_CHUNK)
                except ConnectionResetError:
                    got = b""
                if not got:
                    self._await_end()
                    raise EOFError
                self._told += got
        if not self._told.endswith(b"\n"):
            return None
        line, self._told = bytes(self._told), bytearray()
        return file_read(json.loads(line))

    def _await_end(self) -> None:
        """A child that has closed its end of the socket is about to end: how it does is worth a moment."""
        for _ in range(_MOMENTS):
            with suppress(ChildProcessError):
                if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return
            time.sleep(0.002)

    def end(self) -> str:
        """End the child and those that it started."""
        self._channel.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        if os.WIFSIGNALED(status):
            return f"killed by signal {os.WTERMSIG(status)}"
        return f"ended with exit code {os.WEXITSTATUS(status)}"


def end_with_parent() -> None:
    """Have the kernel end this process when its parent goes, however that goes; elsewhere than on Linux, nothing."""
    parent = os.getppid()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def file_read(found: dict[str, Any]) -> FileRead:
    """What a child wrote."""
    error = found.get("error")
    return FileRead(
        found["file"],
        tuple(Definition.from_json(one) for one in found.get("definitions", ())),
        frozenset(found.get("used", ())),
        None if error is None else Told(**error),
        found.get("gone", False),
        found.get("late", False),
    )


def _be_child(channel: socket.socket, serve: Callable[[int], None]) -> None:
    """Serve, and never return into the parent's code."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nowhere, standard)
        # Whatever the parent had put in their place.
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(n, m, closefd=False) for n, m in ((0, "r"), (1, "w"), (2, "w")))
        os.closerange(3, channel.fileno())
        os.closerange(channel.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        serve(channel.fileno())
        code = 0
    finally:
        os._exit(code)
