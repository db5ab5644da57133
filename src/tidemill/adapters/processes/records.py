"""What a child and the fork server say to each other: records of one size, some with a file descriptor.

child -> server   FORK    fork a worker with this end of a pair of sockets, under this number
KILL    end that worker and all that it has started
server -> child   FORKED  the worker's process id
GONE    it has ended with this status, or could not be forked (its error's number, negative)
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from enum import IntEnum

_RECORD = struct.Struct("!BIi")
_MOST_FDS = 16


class Word(IntEnum):
    """What a record is; see above."""

    FORK = 1
    KILL = 2
    FORKED = 3
    GONE = 4


class Records:
    """One end of a stream of records; nothing in it waits.

    Args:
        end: a connected stream socket; it belongs to this object from now on.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.end = end
        self._out: deque[tuple[bytes, socket.socket | None]] = deque()
        self._rest = b""
        self._fds: deque[int] = deque()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self.end.fileno()

    @property
    def unsent(self) -> bool:
        """Whether the other side does not take more at the moment."""
        return bool(self._out)

    def send(self, word: Word, number: int, value: int = 0, passed: socket.socket | None = None) -> None:
        """Say something; `passed` is closed here once it is on its way."""
        self._out.append((_RECORD.pack(word, number, value), passed))
        self.flush()

    def flush(self) -> None:
        """Send what the other side had no room for."""
        while self._out:
            data, passed = self._out[0]
            try:
                sent = socket.send_fds(self.end, [data], [] if passed is None else [passed.fileno()])
            except BlockingIOError:
                return
            except OSError:  # the other side is gone: `receive` tells
                sent = len(data)
            if passed is not None:
                passed.close()
            if sent < len(data):
                self._out[0] = (data[sent:], None)
            else:
                self._out.popleft()

    def receive(self) -> list[tuple[Word, int, int]] | None:
        """What the other side has said; None: it is gone."""
        found: list[tuple[Word, int, int]] = []
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.end, 64 * _RECORD.size, _MOST_FDS)
            except BlockingIOError:
                return found
            except OSError:
                return found or None
            if not data:
                return found or None
            for fd in fds:
                os.set_inheritable(fd, False)
            self._fds += fds
            data = self._rest + data
            whole = len(data) - len(data) % _RECORD.size
            self._rest = data[whole:]
            found += [(Word(word), number, value) for word, number, value in _RECORD.iter_unpack(data[:whole])]

    def take_fd(self) -> int:
        """The descriptor that came with a record; they come in the order of the records."""
        return self._fds.popleft()

    def close(self) -> None:
        """Close this end, and what never was used."""
        for fd in self._fds:
            os.close(fd)
        for _, passed in self._out:
            if passed is not None:
                passed.close()
        self.end.close()
