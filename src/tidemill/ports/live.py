"""Port `live`: what feeds a topic from elsewhere. `flow/live/feeding.py` asks it, and commits what it gives.

    LiveSource.open(position) -> Reading.read() -> Taken: messages, and the position after them
                                                   both are committed in one step, then Reading.committed()

The position is the source's own affair: any JSON value from which it can go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidemill.ports.topic import Headers


@dataclass(frozen=True, slots=True)
class Taken:
    """What a source gives at once: messages or rows, neither or one of them; and how far it is with these.

    Args:
        position: after these messages; JSON.
        values: messages as they came.
        rows: rows (Arrow data), which are written as the topic's messages are.
        keys: of `values`; None, all or one: by the topic's key, as far as the value can be read.
        timestamps: of the messages or rows, in milliseconds; None: now.
        headers: of `values`.
    """

    position: Any
    values: Sequence[bytes | None] = ()
    rows: Any = None
    keys: Sequence[bytes | None] | None = None
    timestamps: Sequence[int] | None = None
    headers: Sequence[Headers] | None = None


class Reading(Protocol):
    """A source that is being read: one call at a time, though not by the same thread."""

    def read(self, timeout: float) -> Taken | None:
        """What there is, in bounded pieces; None: nothing within about `timeout` seconds.

        Raises:
            Unreachable: what is read from has gone away. After any error the reading is closed, and the source opened
            again later, at the position that was committed last.
        """
        ...

    def committed(self) -> None:
        """Everything that `read` has given counts. It is called after each commit, before the next `read`."""
        ...

    def close(self) -> None:
        """Let everything go. What was given and not committed does not count."""
        ...


class LiveSource(Protocol):
    """Something that a topic can be fed from.

    Promises:
      - Read on from a position that it gave, it gives what comes after, each message once: none is left out, none
        comes twice. A source that cannot look back (a WebSocket) says so, and goes on with what comes from now on.
      - Nothing counts before it is committed: one that has to answer (HTTP) does so then.
    """

    def open(self, position: Any) -> Reading:
        """Begin to read.

        Args:
            position: that of the last commit; None: there is none yet.

        Raises:
            Unreachable: it does not answer now. UserError: it is declared wrongly.
        """
        ...
