"""Port `bell` for the processes of one machine: each listener has a named pipe in a folder, who rings writes a byte."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import uuid
from collections.abc import Iterable
from pathlib import Path


class PipeBell:
    """A bell by named pipes.

    Args:
        folder: where the listeners' pipes are; made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pipe: Path | None = None
        self._end = -1

    def ring(self) -> None:
        """Wake all others that listen; pipes that nobody reads any more are taken away."""
        if not self._folder.is_dir():
            return
        for pipe in self._folder.glob("*.pipe"):
            if pipe == self._pipe:
                continue
            try:
                end = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    pipe.unlink(missing_ok=True)
                continue
            try:
                os.write(end, b"!")
            except (BlockingIOError, BrokenPipeError):
                pass  # full: it has been rung often enough
            finally:
                os.close(end)

    def listen(self) -> None:
        """Make this process's pipe."""
        if self._pipe is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Made under another name: a ringer must not take it for one whose reader is gone.
            made = self._folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
            os.mkfifo(made, 0o600)
            # Open for writing too, so that it never is at its end.
            self._end = os.open(made, os.O_RDWR | os.O_NONBLOCK)
            self._pipe = made.rename(made.with_suffix(".pipe"))

    def wait(self, seconds: float, handles: Iterable[int] = ()) -> bool:
        """Sleep; returns whether somebody rang."""
        ready = select.poll()
        for handle in (*handles, *((self._end,) if self._pipe else ())):
            ready.register(handle, select.POLLIN)
        # Rounded up: a wait that ends a moment too early would be followed by many.
        found = ready.poll(max(-(-seconds * 1000 // 1), 0))
        if self._pipe is None or not any(handle == self._end for handle, _ in found):
            return False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._end, 4096):
                pass
        return True

    def close(self) -> None:
        """Take the pipe away."""
        if self._pipe is not None:
            self._pipe.unlink(missing_ok=True)
            os.close(self._end)
            self._pipe, self._end = None, -1
