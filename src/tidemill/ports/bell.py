"""Port `bell`: wakes schedulers when something is to be done, so that nobody has to look all the time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Bell(Protocol):
    """A bell of a project, heard by all its schedulers.

    Promises: who rings never waits, and need not know who listens; a ring while nobody waits is heard by the next
    wait; a ring may get lost with a server or a process that goes away, so a listener looks now and then all the same.
    """

    def ring(self) -> None:
        """Wake all others that listen."""
        ...

    def listen(self) -> None:
        """Be woken from now on."""
        ...

    def wait(self, seconds: float, handles: Iterable[int] = ()) -> bool:
        """Sleep until somebody rings, one of the file descriptors is readable, or the time is over.

        Returns:
            Whether somebody rang.
        """
        ...

    def close(self) -> None:
        """Listen no more."""
        ...
