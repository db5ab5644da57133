"""The server that commands of tests are forked from; see `warm.py`, which starts it.

    python -m harness.warmserver LISTENING_SOCKET PYTHONPATH

It has one thread, imports only and runs nothing. A fork becomes what a new process would be: folder, environment,
time zone, arguments, search path, the three streams, a session, handlers of signals, random numbers and an empty
`__main__` are its own; it holds nothing of the server, and goes the way of an interpreter that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import random
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import types
from importlib.machinery import SourceFileLoader
from typing import Any, NoReturn

import numpy

from harness.libraries import import_all
from harness.warm import LENGTH

#: The search path of any interpreter here: without what the server was started with.
_REST = [place for place in sys.path[1:] if place not in sys.argv[2:3] and place not in sys.argv[2].split(os.pathsep)]


class _Server:
    """Forks commands and tells those who asked for them how they ended."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._wake, self._waker = socket.socketpair()
        self._asked: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()

    def serve(self) -> tuple[dict[str, Any], list[int]] | None:
        """Serve until standard input ends: None. In a fork: what it is to run, and its streams."""
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (self._listening, self._wake, sys.stdin):
            self._selector.register(each, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in self._selector.select()]
            if self._wake in ready:
                self._tell_ends()
            if sys.stdin in ready:
                return None
            if self._listening in ready:
                command = self._fork()
                if command is not None:
                    return command

    def end(self) -> None:
        """What still runs is ended, with what it has started in its session's first group."""
        for pid in self._asked:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _fork(self) -> tuple[dict[str, Any], list[int]] | None:
        asking, _ = self._listening.accept()
        head, streams, _, _ = socket.recv_fds(asking, LENGTH.size, 16)
        try:
            with asking.makefile("rb") as reading:
                command = json.loads(reading.read(*LENGTH.unpack(head)))
        except (OSError, ValueError, struct.error):  # whoever asked is gone
            pid = -1
        else:
            pid = os.fork()
        if not pid:
            os.setsid()
            asking.close()
            self._forget()
            return command, streams
        for stream in streams:
            os.close(stream)
        if pid < 0:
            asking.close()
            return None
        self._asked[pid] = asking
        with contextlib.suppress(OSError):
            asking.sendall(b"%d\n" % pid)
        return None

    def _tell_ends(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                pass
        for pid in list(self._asked):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                asking = self._asked.pop(pid)
                with asking, contextlib.suppress(OSError):  # whoever asked may be gone
                    asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    def _forget(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for each in (self._listening, self._wake, self._waker, *self._asked.values()):
            each.close()
        self._asked.clear()


def _become(command: dict[str, Any], streams: list[int]) -> None:
    """Everything that a new process gets from the one that starts it."""
    # None of them may stand where another one shall be.
    free = [fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, 1 + max(command["streams"])) for stream in streams]
    for stream, number in zip(free, command["streams"], strict=True):
        os.dup2(stream, number)
    for stream in {*free, *streams} - set(command["streams"]):
        os.close(stream)
    os.chdir(command["cwd"])
    os.umask(command["umask"])
    os.environ.clear()
    os.environ.update(command["env"])
    time.tzset()
    random.seed()
    numpy.random.seed()
    _open_streams()
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.partition(".")[0] == "harness"]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.modules["__main__"].__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={})


def _open_streams() -> None:
    """As the interpreter does: standard error is flushed by lines, standard output only on a terminal."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        opened = open(number, "wb" if number else "rb", buffering=0 if unbuffered and number else -1, closefd=False)  # noqa: SIM115
        raw = opened if isinstance(opened, io.RawIOBase) else opened.raw
        new = io.TextIOWrapper(
            opened, encoding=old.encoding, errors=old.errors, write_through=unbuffered,
            line_buffering=not unbuffered and (raw.isatty() or number == 2),
        )  # fmt: skip
        new.mode = "w" if number else "r"
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _run(words: list[str]) -> None:
    """What the interpreter does with its command line; `words[0]` is it, or a script."""
    searched = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    main = sys.modules["__main__"].__dict__
    sys.orig_argv = list(words)
    if words[1:2] == ["-m"]:
        sys.path[:] = [os.getcwd(), *searched, *_REST]
        sys.argv[:] = ["-m", *words[3:]]
        runpy._run_module_as_main(words[2])  # type: ignore[attr-defined]
    elif words[1:2] == ["-c"]:
        sys.path[:] = ["", *searched, *_REST]
        sys.argv[:] = words[1:2] + words[3:]
        exec(compile(words[2], "<string>", "exec"), main)
    else:
        file, *rest = words[1:] if words[0] == sys.executable else words
        sys.path[:] = [os.path.dirname(os.path.realpath(file)), *searched, *_REST]
        sys.argv[:] = [file, *rest]
        main.update(__file__=os.path.abspath(file), __loader__=SourceFileLoader("__main__", file), __cached__=None)
        with open(file, "rb") as source:
            code = compile(source.read(), os.path.abspath(file), "exec")
        exec(code, main)


def _code_of(words: list[str]) -> int:
    """Run the command and return its exit code, as the interpreter finds it."""
    try:
        _run(words)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return (left.code or 0) & 0xFF
        print(left.code, file=sys.stderr)
        return 1
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _end(code: int) -> NoReturn:
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError):  # the command has closed it
                stream.flush()
    except OSError:
        code = code or 120
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


if __name__ == "__main__":
    import_all()
    # A fork's collector would else walk over everything imported, and so copy its pages.
    gc.collect()
    gc.freeze()
    _server = _Server(socket.socket(fileno=int(sys.argv[1])))
    _command = _server.serve()
    if _command is None:
        _server.end()
        os._exit(0)
    else:
        del _server
        _become(*_command)
        _end(_code_of(_command[0]["words"]))
