"""A user's function called in a thread of its own, so that the stream's own thread can give signs of life meanwhile.

A group takes its tasks from a member that is silent for ten seconds, and refuses what it commits then. A function that
takes longer would be called with the same rows again and again, for ever.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: A call is waited for so many seconds before anything else is done: most are over long before.
PATIENCE = 1.0


class Caller:
    """Calls a function with one thing after the other, in their order."""

    def __init__(self, function: Callable[[Any], object], name: str) -> None:
        self._function = function
        self._name = name
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._open = 0
        self._error: BaseException | None = None

    def call(self, given: Any) -> None:
        """Have the function called; it may be at work still when this returns. Raises what an earlier call raised."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        already = self.busy(0.0)
        with self._changed:
            self._open += 1
        self._waiting.put(given)
        if not already:
            self.busy(PATIENCE)

    def busy(self, seconds: float) -> bool:
        """Whether it is at work still, after that long at the most. Raises what a call raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0 or self._error is not None, seconds)
            error, self._error = self._error, None
            if error is not None:
                raise error
            return self._open > 0

    def forget(self) -> None:
        """Let go of what it has not begun with, and of what it raised."""
        with self._changed:
            with suppress(queue.Empty):
                while self._waiting.get_nowait() is not self:
                    self._open -= 1
            self._error = None

    def close(self) -> None:
        """Call it no more; a call that has begun is not waited for."""
        if self._thread is not None:
            self._waiting.put(self)

    def _run(self) -> None:
        while (given := self._waiting.get()) is not self:
            error: BaseException | None = None
            try:
                if self._error is None:  # what follows an error is not to be taken before it
                    self._function(given)
            except BaseException as raised:  # the stream's own thread raises it
                error = raised
            with self._changed:
                self._open -= 1
                self._error = self._error or error
                self._changed.notify_all()
