"""The process that all others of a machine are forked from: what `tidemill up` is.

    root (ForkServer) -+- scheduler   asks over a socket for workers, and is told how they ended
                       +- web, parser
                       '- workers     forked for the scheduler, each with one end of a pair of sockets

The root has one thread, opens no database and never executes Polars, Arrow or DuckDB: a fork of a process that has
hangs. What it has imported its children share; `gc.freeze` keeps their collectors from touching, and so copying, it.
Each child has a session of its own: Ctrl-C reaches the root only, which asks the others to end, and when a child is
gone, whatever it has started goes too.

    with ForkServer() as server:
        scheduler = server.spawn(schedule, forking=partial(work, perform))     # schedule(forker) -> exit code
        while not server.stopping:
            for ended in server.wait():
                ...                                  # start it again, or give up: the caller's policy
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, TypeAlias

from tidemill.adapters.processes.forker import Forker
from tidemill.adapters.processes.records import Records, Word

#: What a forked worker runs, with its end of the pair of sockets; returns its exit code.
WorkerMain: TypeAlias = Callable[[socket.socket], int]

#: How long children have to end when they are asked to, and workers when whoever had them forked is gone (they stop
#: their tasks politely, for 5 s, and then end themselves).
GRACE = 30.0
ORPHANS_GRACE = 8.0
_FAILED = 70
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """A child that `spawn` started has ended. `status` is its exit code, or a signal's number, negative."""

    pid: int
    status: int


@dataclass(eq=False, slots=True)
class _Client:
    """A child that asks for workers."""

    records: Records
    main: WorkerMain
    #: Process ids by the child's numbers.
    workers: dict[int, int] = field(default_factory=dict)
    gone: bool = False


class ForkServer:
    """Forks children and reaps them. To be made and used in the main thread of a process without other threads."""

    def __init__(self) -> None:
        self._children: set[int] = set()
        self._clients: list[_Client] = []
        self._orphans: dict[int, float] = {}
        self._ended: list[Ended] = []
        self._signals = 0
        self._before: dict[int, Any] = {}
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()
        self._frozen = False

    def __enter__(self) -> ForkServer:
        for end in (self._wake, self._waker):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._asked_to_stop)
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _only_wake)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._selector.close()
        self._wake.close()
        self._waker.close()

    @property
    def stopping(self) -> bool:
        """Whether somebody has asked this process to end, by SIGTERM or Ctrl-C."""
        return self._signals > 0

    # -- starting

    def spawn(self, main: Callable[..., int], *args: Any, forking: WorkerMain | None = None) -> int:
        """Fork a long-lived child that runs `main(*args)` and ends with the exit code that it returns.

        Args:
            main: with `forking`, its first argument is a `Forker`.
            args: further arguments.
            forking: what the workers run that the child may ask for.

        Returns:
            Its process id; `wait` tells when it has ended. It is asked to end by SIGTERM.
        """
        if forking is None:
            pid = self._fork(main, args, ())
        else:
            ours, theirs = socket.socketpair()
            client = self.attach(ours, forking)
            forker = Forker(theirs)
            pid = self._fork(main, (forker, *args), (forker.fileno(),))
            forker.close()
            assert client in self._clients
        self._children.add(pid)
        return pid

    def attach(self, end: socket.socket, forking: WorkerMain) -> object:
        """Fork workers for whoever has a `Forker` at the other end of this socket."""
        client = _Client(Records(end), forking)
        self._clients.append(client)
        self._selector.register(end, selectors.EVENT_READ, client)
        return client

    def _fork(self, main: Callable[..., int], args: tuple[Any, ...], keep: tuple[int, ...]) -> int:
        if threading.active_count() > 1:
            raise RuntimeError(f"a process with threads must not be forked: {threading.enumerate()}")
        if not self._frozen:
            self._frozen = True
            gc.collect()
            gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()
        root = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = _FAILED
        try:
            self._leave_root(root, keep)
            code = main(*args)
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _leave_root(self, root: int, keep: tuple[int, ...]) -> None:
        """What a child does first: it ends with its root, and holds nothing of it."""
        signal.set_wakeup_fd(-1)
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _end_with_parent(root)
        self._selector.close()
        self._wake.close()
        self._waker.close()
        for client in self._clients:
            if client.records.fileno() not in keep:
                client.records.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        if nothing:
            os.dup2(nothing, 0)
            os.close(nothing)

    # -- serving

    def wait(self, timeout: float | None = None) -> list[Ended]:
        """Serve children until one that was spawned ends, somebody asks to stop, or the time is over."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            self._reap()
            if self._ended or self.stopping:
                break
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            self._serve(left)
        ended, self._ended = self._ended, []
        return ended

    def _serve(self, timeout: float | None) -> None:
        if self._orphans:
            due = max(min(self._orphans.values()) - time.monotonic(), 0)
            timeout = due if timeout is None else min(due, timeout)
        for key, ready in self._selector.select(timeout):
            client = key.data
            if client is None:
                self._drain()
            elif ready & selectors.EVENT_WRITE:
                client.records.flush()
                self._watch(client)
            else:
                self._listen(client)
        now = time.monotonic()
        for pid in [pid for pid, due in self._orphans.items() if due <= now]:
            del self._orphans[pid]
            _kill_child(pid)

    def _drain(self) -> None:
        try:
            while self._wake.recv(4096):
                pass
        except BlockingIOError:
            return

    def _listen(self, client: _Client) -> None:
        said = client.records.receive()
        if said is None:
            self._lose(client)
            return
        for word, number, value in said:
            if word is Word.FORK:
                self._fork_worker(client, number)
            elif word is Word.KILL and number in client.workers:
                _kill_child(client.workers[number], value)
        self._watch(client)

    def _fork_worker(self, client: _Client, number: int) -> None:
        end = socket.socket(fileno=client.records.take_fd())
        try:
            pid = self._fork(client.main, (end,), ())
        except OSError as error:
            client.records.send(Word.GONE, number, -(error.errno or 1))
        else:
            client.workers[number] = pid
            client.records.send(Word.FORKED, number, pid)
        finally:
            end.close()

    def _watch(self, client: _Client) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.records.unsent else 0)
        if not client.gone:
            self._selector.modify(client.records.end, events, client)

    def _lose(self, client: _Client) -> None:
        """A child that had workers is gone: they have heard so too, and stop; the time for that is limited."""
        client.gone = True
        self._selector.unregister(client.records.end)
        client.records.close()
        self._clients.remove(client)
        due = time.monotonic() + ORPHANS_GRACE
        self._orphans.update(dict.fromkeys(client.workers.values(), due))

    # -- ends

    def _reap(self) -> None:
        for pid in list(self._children):
            status = _ended(pid)
            if status is not None:
                self._children.discard(pid)
                self._ended.append(Ended(pid, status))
        for client in self._clients:
            for number, pid in list(client.workers.items()):
                status = _ended(pid)
                if status is not None:
                    del client.workers[number]
                    client.records.send(Word.GONE, number, _as_value(status))
            if client.records.unsent:
                self._watch(client)
        for pid in list(self._orphans):
            if _ended(pid) is not None:
                del self._orphans[pid]

    def stop(self, grace: float = GRACE) -> None:
        """Ask all children to end, wait, and kill those that have not; a second Ctrl-C kills at once."""
        asked = self._signals
        for pid in self._children:
            os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + grace
        while (self._children or self._orphans) and self._signals <= max(asked, 1) and time.monotonic() < until:
            self._serve(0.2)
            self._reap()
        left = {pid for client in self._clients for pid in client.workers.values()}
        for pid in left | self._children | set(self._orphans):
            _kill_child(pid)
            os.waitpid(pid, 0)
        self._children.clear()
        self._orphans.clear()
        for client in list(self._clients):
            client.workers.clear()
            self._lose(client)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1


def _only_wake(number: int, frame: FrameType | None) -> None:
    """Signals without a handler do not reach the wake-up socket."""


def _as_value(status: int) -> int:
    """How a worker's end is told: exit codes from 0 on, signals from 1,000 on; negative numbers are errors of fork."""
    return status if status >= 0 else 1_000 - status


def _ended(pid: int) -> int | None:
    """The exit code of a child, or a signal's number, negative; None: it runs. What it has started is ended."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if not found:
        return None
    # Its number cannot be taken again while its group has members; if it has none, not within microseconds.
    _kill_group(pid)
    return os.waitstatus_to_exitcode(status)


def _kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:  # what is left there runs as another user
        return


def _kill_child(pid: int, number: int = signal.SIGKILL) -> None:
    """End a child that is not reaped yet, with what it has started. One that was just forked has no group so far."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:  # what is left there runs as another user
        return


def _end_with_parent(parent: int) -> None:
    """Have the system send SIGTERM when the parent dies; where it cannot, the end of its sockets tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before that
        os._exit(_FAILED)
