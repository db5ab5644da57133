"""What the executor of one machine knows of a job in hand, and of a worker."""

from __future__ import annotations

import os
import socket
from collections import deque
from dataclasses import dataclass, field

from tidemill.adapters.processes.channel import Frames
from tidemill.model.instance import Failed
from tidemill.ports.executor import Job

_MOST_OUTPUTS = 4
#: Bytes that are kept of what a worker wrote before it died.
_MOST_LAST_WORDS = 1 << 16


@dataclass(eq=False, slots=True)
class Hand:
    """A job that was submitted and whose end was not acknowledged. Moments are of the monotonic clock."""

    job: Job
    ticket: int
    #: While it waits here: nobody vouches for it after that.
    until: float
    member: Member | None = None
    #: When a worker had nothing else to do before it.
    begun: float = 0.0
    #: When it was asked to stop.
    stopped: float | None = None
    #: What became of it if its worker is killed; None: it is lost.
    fate: Failed | None = None
    ended: bool = False

    def due(self, grace: float) -> float:
        """When it must have ended, begun as it is."""
        due = float("inf")
        if self.job.timeout is not None:
            due = self.begun + self.job.timeout.total_seconds() + grace
        if self.stopped is not None:
            due = min(due, max(self.stopped, self.begun) + grace)
        return due

    def overdue(self, now: float, grace: float) -> bool:
        """Whether it must have ended by now."""
        return self.due(grace) <= now


@dataclass(eq=False, slots=True)
class Member:
    """A worker, from when it is asked for until its end is known."""

    number: int
    end: socket.socket
    frames: Frames
    idle_since: float
    pid: int | None = None
    #: Its jobs; it performs the first.
    queue: deque[Hand] = field(default_factory=deque)
    out: bytearray = field(default_factory=bytearray)
    done: int = 0
    #: It has said something, and has shared what it writes to.
    greeted: bool = False
    outputs: list[int] = field(default_factory=list)
    #: Its first job is known to run; its last one was over at once.
    started: bool = False
    quick: bool = False
    #: It gets nothing more.
    leaving: bool = False
    killed: bool = False
    why: str = ""
    #: Until when it has confirmed that it may go on.
    until: float = float("inf")

    def due(self, grace: float) -> float:
        """When it will have been silent, or its job under way, for too long."""
        if not self.queue or self.killed:
            return float("inf")
        return min(self.until, self.queue[0].due(grace))

    def begin_next(self, now: float) -> None:
        """Its first job has ended."""
        self.started = False
        if self.queue:
            self.queue[0].begun = now
        else:
            self.idle_since = now

    def send(self, data: bytes) -> None:
        """Send what it takes; the rest stays in `out`."""
        if self.out:
            self.out += data
            data = bytes(self.out)
        try:
            sent = self.end.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:  # it has ended: its socket and the fork server tell
            sent = len(data)
        self.out = bytearray(data[sent:])

    def receive(self, most: int) -> bytes:
        """What it has said; with its first words come descriptors."""
        if self.greeted:
            return self.end.recv(most)
        data, fds, _, _ = socket.recv_fds(self.end, most, _MOST_OUTPUTS)
        for fd in fds:
            os.set_inheritable(fd, False)
        self.outputs += fds
        return data

    def last_words(self) -> list[bytes]:
        """What it has written and nobody has read."""
        return [_rest(fd) for fd in self.outputs]

    def close(self) -> None:
        """Let go of it."""
        self.end.close()
        for fd in self.outputs:
            os.close(fd)
        self.outputs.clear()


def _rest(fd: int) -> bytes:
    size = os.fstat(fd).st_size - os.lseek(fd, 0, os.SEEK_CUR)
    if size > _MOST_LAST_WORDS:
        os.lseek(fd, -_MOST_LAST_WORDS, os.SEEK_END)
    return os.read(fd, _MOST_LAST_WORDS)
