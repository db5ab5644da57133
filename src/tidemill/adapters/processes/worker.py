"""A worker: a warm process that performs one job after the other.

    socket -> watching thread -> held -> main thread: perform(job) -> socket
                    |                          ^
                    '-- stop, time-out: a signal that raises in the midst of it

Tasks run in the main thread, where signals and debuggers work; the thread beside it answers the executor, notices
time-outs, and ends the process when nobody vouches for its jobs any more. It needs the interpreter's lock for that:
while a library computes and holds the lock (a sort of many million objects does), it is silent, and late.

A job that is over within `QUICK` is told with its end, in one message. Once one has lasted longer, jobs that wait here
behind it are given back.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

from tidemill.adapters.processes.channel import MOMENT, MOST_BYTES, Frames, Garbled, Kind, frame
from tidemill.model.duration import duration_text
from tidemill.model.instance import Failed, Outcome, Report
from tidemill.ports.executor import (
    NOTHING,
    Interrupted,
    Job,
    JobEnded,
    Perform,
    TaskStopped,
    TaskTimeout,
)
from tidemill.ports.jobs import dump_event, load_job

#: Seconds after which a job shows as running. A message less for a job costs the executor 60 us less.
QUICK = 0.02
#: Seconds that a task has to end after it was interrupted.
GRACE = 5.0
#: Seconds that cleaning up has before the task is interrupted in any case; it may then go on beside that.
CLEANING = 1.0
#: Raises in the main thread. Programs use SIGALRM and SIGUSR1 (for time-outs, to print stacks) more often.
_INTERRUPT = signal.SIGUSR2


def work(
    perform: Perform, channel: socket.socket, outputs: Sequence[int] = (), clean_up: Callable[[], None] = lambda: None
) -> int:
    """Perform the jobs that come through `channel` until its end; returns the process's exit code.

    Args:
        perform: what is done with a job.
        channel: the worker's end.
        outputs: descriptors from which the executor may read what this process has written and nobody has read yet,
            if it dies.
        clean_up: called when a task is to be interrupted, in another thread than the task's and before anything is
            raised there: so it also reaches one that is deep in a library.
    """
    return Worker(perform, channel, outputs, clean_up).run()


class Worker:
    """The state of a worker's process. `_held`, `_current` and `_interruption` are shared by its two threads."""

    def __init__(
        self, perform: Perform, channel: socket.socket, outputs: Sequence[int], clean_up: Callable[[], None]
    ) -> None:
        self._clean_up = clean_up
        self._outputs = outputs
        self._perform = perform
        self._channel = channel
        self._pid = os.getpid()
        self._name = f"{socket.gethostname()}:{self._pid}"
        self._queue: SimpleQueue[int | None] = SimpleQueue()
        #: Jobs as they came, by ticket, until one of the threads takes them out.
        self._held: dict[int, bytes] = {}
        self._sending = threading.Lock()
        self._current: int | None = None
        self._begun = 0.0
        self._timeout: float | None = None
        self._interruption: Interrupted | None = None
        self._armed = False
        self._leaving = False
        # Of the watching thread only.
        self._unfinished: set[int] = set()
        self._ended: list[int] = []
        self._announced: int | None = None
        self._until = float("inf")
        self._kill_at = float("inf")

    def run(self) -> int:
        """Work until there is nothing more to come."""
        self._channel.setblocking(True)
        _catch_signals(self._interrupted, self._asked_to_end)
        surroundings = _Surroundings()
        socket.send_fds(self._channel, [frame(Kind.READY)], self._outputs)
        threading.Thread(target=self._watch, name="tidemill-watch", daemon=True).start()
        while not self._leaving and (ticket := self._queue.get()) is not None:
            # In this order, so that a stop finds the job in one place or the other.
            self._begun = time.monotonic()
            self._current = ticket
            text = self._held.pop(ticket, None)
            if text is None:
                self._current = None
                continue
            self._do(ticket, text)
            surroundings.restore()
            _catch_signals(self._interrupted, self._asked_to_end)
        return 0

    # -- the main thread

    def _do(self, ticket: int, text: bytes) -> None:
        job = load_job(text)
        begun = self._begun
        self._timeout = None if job.timeout is None else begun + job.timeout.total_seconds()
        outcome, report = self._try(job)
        if os.getpid() != self._pid:  # a task has forked, and its child has come here too
            os._exit(0)
        interruption = self._interruption
        if interruption is not None:
            outcome = _end_of(interruption, job)
        report = replace(
            report,
            seconds=report.seconds or time.monotonic() - begun,
            worker=report.worker or self._name,
        )
        body = _as_text(job, outcome, report)
        if interruption is not None:
            # What was interrupted may hold locks, or half a library's state.
            self._leaving = True
        with self._sending:
            self._current = None
            self._interruption = None
            self._timeout = None
            self._ended.append(ticket)
            data = frame(Kind.LAST if self._leaving else Kind.ENDED, ticket, body)
            if self._leaving:
                data = self._give_back() + data
            self._send(data)

    def _try(self, job: Job) -> tuple[Outcome, Report]:
        """Perform the job; whatever it raises becomes an outcome."""
        try:
            try:
                self._armed = True
                if self._interruption is not None:  # it came before anybody could raise it
                    raise self._interruption
                return self._perform(job)
            finally:
                self._armed = False
        except Interrupted as interruption:
            self._interruption = self._interruption or interruption
            return Failed(), NOTHING
        except SystemExit as left:
            self._leaving = True
            return Failed(f"The task ended its process: SystemExit({left.code!r})."), NOTHING
        except BaseException as error:
            return Failed(f"{type(error).__name__}: {error}"), NOTHING

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._armed and self._interruption is not None:
            self._armed = False
            raise self._interruption

    def _asked_to_end(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: as if the executor had left."""
        try:
            self._channel.shutdown(socket.SHUT_RD)
        except OSError:
            return

    # -- the watching thread

    def _watch(self) -> None:
        frames = Frames()
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        while True:
            if poll.poll(self._patience()) and not self._hear(frames):
                poll.unregister(self._channel)
                self._hang_up()
            # Whoever held the interpreter's lock may have kept us from hearing that we may go on.
            if self._tend() and not poll.poll(0):
                _end_group()

    def _patience(self) -> float | None:
        """Milliseconds until this thread has something to do by itself."""
        self._settle()
        if not self._unfinished and self._kill_at == float("inf"):
            return None
        due = min(self._until, self._kill_at)
        current, began, timeout = self._current, self._begun, self._timeout
        if current is None:
            due = min(due, time.monotonic() + QUICK)
        else:
            if self._announced != current:
                due = min(due, began + QUICK)
            if timeout is not None and self._interruption is None:
                due = min(due, timeout)
        return max((due - time.monotonic()) * 1000 + 1, 1)

    def _settle(self) -> None:
        while self._ended:
            self._unfinished.discard(self._ended.pop())

    def _hear(self, frames: Frames) -> bool:
        """Take in what has come; False: nothing will come any more."""
        try:
            data = self._channel.recv(65536)
            found = frames.feed(data)
        except (OSError, Garbled):
            return False
        for kind, ticket, body in found:
            if kind is Kind.JOB:
                (self._until,) = MOMENT.unpack_from(body)
                self._unfinished.add(ticket)
                self._held[ticket] = body[MOMENT.size :]
                self._queue.put(ticket)
            elif kind is Kind.RENEW:
                (self._until,) = MOMENT.unpack(body)
                with self._sending:
                    self._send(frame(Kind.ALIVE, 0, body))
            elif kind is Kind.STOP:
                self._stop(ticket)
        return bool(data)

    def _stop(self, ticket: int) -> None:
        with self._sending:
            if self._held.pop(ticket, None) is not None:
                self._unfinished.discard(ticket)
                self._send(frame(Kind.BACK, ticket))
                return
        self._interrupt(ticket, TaskStopped())

    def _interrupt(self, ticket: int | None, interruption: Interrupted) -> None:
        with self._sending:
            if ticket is None or self._current != ticket or self._interruption is not None:
                return
            self._interruption = interruption
        cleaning = threading.Thread(target=self._clean_up, name="tidemill-clean-up", daemon=True)
        cleaning.start()
        # Waited for, but not for long: this thread also answers the executor.
        cleaning.join(CLEANING)
        signal.pthread_kill(threading.main_thread().ident or 0, _INTERRUPT)

    def _tend(self) -> bool:
        """Do what is due; True: this process must end now."""
        self._settle()
        now = time.monotonic()
        if now >= self._kill_at or (self._unfinished and now >= self._until):
            return True
        current = self._current
        if current is not None and current != self._announced and now >= self._begun + QUICK:
            with self._sending:
                if self._current == current:
                    self._announced = current
                    self._send(frame(Kind.STARTED, current) + self._give_back())
        timeout = self._timeout
        if timeout is not None and now >= timeout:
            self._interrupt(current, TaskTimeout())
        return False

    def _give_back(self) -> bytes:
        """Frames for jobs that were not begun, the last first, so that they come in their order again."""
        data = b""
        for ticket in reversed(list(self._held)):
            if self._held.pop(ticket, None) is not None:
                self._ended.append(ticket)
                data += frame(Kind.BACK, ticket)
        return data

    def _hang_up(self) -> None:
        """Nobody waits for what is done here: end, at once where nothing runs."""
        self._leaving = True
        self._held.clear()
        self._kill_at = time.monotonic() + GRACE
        self._until = float("inf")
        self._queue.put(None)
        self._interrupt(self._current, TaskStopped())

    def _send(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except OSError:  # the executor is gone: the watching thread notices
            return


# -- ends


def _end_of(interruption: Interrupted, job: Job) -> Failed:
    if isinstance(interruption, TaskTimeout) and job.timeout is not None:
        return timed_out(job)
    return Failed("It was stopped.", again=False)


def timed_out(job: Job, how: str = "") -> Failed:
    """The outcome of a job that took too long."""
    assert job.timeout is not None
    return Failed(f"It timed out after {duration_text(job.timeout)}{how}.")


def _as_text(job: Job, outcome: Outcome, report: Report) -> bytes:
    """The job's end as it is sent."""
    place = (job.run_id, job.fence, job.key, job.number)
    try:
        body = dump_event(JobEnded(*place, outcome, report)).encode()
        if len(body) < MOST_BYTES:
            return body
        why = f"it has {len(body):,} bytes, and at most {MOST_BYTES:,} can be sent"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    report = Report(seconds=report.seconds, worker=report.worker)
    return dump_event(JobEnded(*place, Failed(f"The task's result cannot be sent: {why}."), report)).encode()


def _end_group() -> NoReturn:
    """End this process and all that it has started, at once."""
    sys.stderr.flush()
    os.killpg(0, signal.SIGKILL)
    os._exit(1)


# -- what a task may leave behind


def _catch_signals(
    interrupt: Callable[[int, FrameType | None], None], end: Callable[[int, FrameType | None], None]
) -> None:
    """Install our handlers, again where a task has put others in their place."""
    if signal.getsignal(_INTERRUPT) != interrupt:
        signal.signal(_INTERRUPT, interrupt)
    if signal.getsignal(signal.SIGTERM) != end:
        signal.signal(signal.SIGTERM, end)


class _Surroundings:
    """Variables and folder of the process as they were: a task must not find what the one before it has set."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._folder = os.getcwd()

    def restore(self) -> None:
        """Undo what a task has changed."""
        now = dict(os.environ)
        if now != self._environment:
            for name in now.keys() - self._environment.keys():
                del os.environ[name]
            os.environ.update(self._environment)
        try:
            moved = os.getcwd() != self._folder
        except FileNotFoundError:
            moved = True
        if moved:
            os.chdir(self._folder)
