"""What an executor and its worker say to each other: frames over a pair of sockets.

    executor -> worker   JOB      begin this, and go on without a word until then
                         RENEW    go on until then
                         STOP     stop this job
    worker -> executor   READY    it has been forked
                         STARTED  this job runs, and is not over at once
                         ENDED    the job's end; LAST: and the worker leaves
                         BACK     this job was not begun: somebody else may have it
                         ALIVE    the answer to RENEW

A job is known by its ticket, a number of the executor's. Moments are seconds of the machine's monotonic clock, which
all its processes share, so that neither a clock that is set nor a message that was late changes what they mean.
"""

from __future__ import annotations

import struct
from enum import IntEnum

_HEAD = struct.Struct("!IBQ")
MOMENT = struct.Struct("!d")
#: A frame that says to be larger was not written by us: a task has written into the socket.
MOST_BYTES = 64 * 1024 * 1024


class Kind(IntEnum):
    """What a frame is; see above."""

    JOB = 1
    RENEW = 2
    STOP = 3
    READY = 4
    STARTED = 5
    ENDED = 6
    LAST = 7
    BACK = 8
    ALIVE = 9


class Garbled(Exception):
    """What came is no frame."""


def frame(kind: Kind, ticket: int = 0, body: bytes = b"") -> bytes:
    """A frame as bytes."""
    return _HEAD.pack(len(body), kind, ticket) + body


class Frames:
    """Cuts what is received into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, int, bytes]]:
        """Take in bytes; returns the frames that are whole by now.

        Raises:
            Garbled: these are no frames.
        """
        rest = self._rest
        rest += data
        found: list[tuple[Kind, int, bytes]] = []
        at = 0
        while len(rest) - at >= _HEAD.size:
            length, kind, ticket = _HEAD.unpack_from(rest, at)
            if length > MOST_BYTES or not Kind.JOB <= kind <= Kind.ALIVE:
                raise Garbled
            end = at + _HEAD.size + length
            if end > len(rest):
                break
            found.append((Kind(kind), ticket, bytes(rest[at + _HEAD.size : end])))
            at = end
        del rest[:at]
        return found
