"""A source that is read in a thread of its own, so that whoever feeds a topic gives signs of life meanwhile.

Sorting a large table takes minutes, a connection may take ten seconds; a member of a group that is silent for so long
loses its task, and the one that takes it over would begin the same again.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from tidemill.ports.live import LiveSource, Reading, Taken

_log = logging.getLogger("tidemill")

#: Seconds for which a source is waited for at the end; one that takes longer is left to itself.
_PATIENCE = 5.0

T = TypeVar("T")


class ReadAside(Generic[T]):
    """A source that is read at request, one piece at a time: nothing of it runs while nobody has asked.

    Args:
        source: what is read.
        position: from where.
        make: what becomes of a piece; in that thread, too.
        wait: seconds that the source may wait for a piece.
        name: for logs.
    """

    def __init__(self, source: LiveSource, position: Any, make: Callable[[Taken], T], wait: float, name: str) -> None:
        self._source = source
        self._position = position
        self._make = make
        self._wait = wait
        self._name = name
        self._reading: Reading | None = None
        self._asked: queue.SimpleQueue[Literal["read", "close"]] = queue.SimpleQueue()
        self._given: queue.SimpleQueue[tuple[Taken, T] | Exception | None] = queue.SimpleQueue()
        #: Whether the source has been asked, and has not answered yet.
        self.is_asked = False
        self._is_closed = threading.Event()
        threading.Thread(target=self._run, name=f"source-{name}", daemon=True).start()

    def take(self, timeout: float) -> tuple[Taken, T] | None:
        """A piece, and what was made of it; None: there is none, or not yet. Raises what the source raises."""
        if not self.is_asked:
            self._asked.put("read")
            self.is_asked = True
        try:
            found = self._given.get(timeout=timeout)
        except queue.Empty:
            return None
        self.is_asked = False
        if isinstance(found, Exception):
            raise found
        return found

    def committed(self) -> None:
        """The piece that was taken last counts. The thread waits to be asked, so this one may speak to the source."""
        assert self._reading is not None
        self._reading.committed()

    def close(self) -> None:
        """Let the source go, once it is done with what it was asked for."""
        self._asked.put("close")
        if not self._is_closed.wait(_PATIENCE):
            _log.warning("%s has not ended within %g seconds, and is left to itself.", self._name, _PATIENCE)

    def _run(self) -> None:
        while self._asked.get() == "read":
            self._given.put(self._read())
        try:
            if self._reading is not None:
                self._reading.close()
        except Exception as error:  # it may be a user's; what was committed stands
            _log.warning("%s did not close: %s", self._name, error)
        self._is_closed.set()

    def _read(self) -> tuple[Taken, T] | Exception | None:
        try:
            if self._reading is None:
                self._reading = self._source.open(self._position)
            taken = self._reading.read(self._wait)
            return None if taken is None else (taken, self._make(taken))
        except Exception as error:  # whatever a source, or a user's function in it, raises
            return error
