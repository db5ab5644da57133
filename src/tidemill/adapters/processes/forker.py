"""A child's way to ask the fork server for workers: a process that does more than the server must not fork itself."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import dataclass

from tidemill.adapters.processes.records import Records, Word


@dataclass(frozen=True, slots=True)
class Forked:
    """A worker lives."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Gone:
    """A worker has ended, or could not be forked; `why` says how, as a part of a sentence."""

    number: int
    why: str


class ServerGone(Exception):
    """The fork server has ended, and with it every worker: this process ends too."""


class Forker:
    """Asks for workers. Nothing in it waits.

    Args:
        end: the socket whose other end the server has.
    """

    def __init__(self, end: socket.socket) -> None:
        self._records = Records(end)
        self._number = 0

    def fileno(self) -> int:
        """Readable when `heard` has something to say."""
        return self._records.fileno()

    def fork(self, end: socket.socket) -> int:
        """Ask for a worker that has `end`, which is closed here; returns the number by which it is known."""
        self._number += 1
        self._records.send(Word.FORK, self._number, passed=end)
        return self._number

    def kill(self, number: int) -> None:
        """End a worker and all that it has started."""
        self._records.send(Word.KILL, number, signal.SIGKILL)

    def heard(self) -> list[Forked | Gone]:
        """What the server has said of workers.

        Raises:
            ServerGone: see there.
        """
        self._records.flush()
        said = self._records.receive()
        if said is None:
            raise ServerGone
        return [
            Forked(number, value) if word is Word.FORKED else Gone(number, _reason(value))
            for word, number, value in said
        ]

    def close(self) -> None:
        """Ask for nothing any more: all workers are told to end."""
        self._records.close()


def _reason(value: int) -> str:
    if value < 0:
        return f"it could not be forked: {os.strerror(-value)}"
    if value < 1_000:
        return f"it ended with exit code {value}"
    number = value - 1_000
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    return f"it was ended by {name}" + (" (out of memory, or killed by hand)" if number == signal.SIGKILL else "")
