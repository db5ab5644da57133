"""Loading the drivers without the garbage collector's help.

Modules are never garbage, but they are 170,000 objects that it looks at: again and again while they are loaded
(0.06 s of 0.6), in each full collection of a run, and three times when the process ends (0.15 s).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_done = False
_own = False


def own_process() -> None:
    """Say that this process is a command of ours: what it has loaded need never be looked at again.

    In a user's process, a notebook say, what he made before must be collected like anything else.
    """
    global _own
    _own = True


@contextmanager
def loading() -> Iterator[None]:
    """Import within this: it is quicker; in a process of our own, what exists at its end is never looked at again.

    Only the first use in a process does so.
    """
    global _done
    if _done or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if _own:
            gc.freeze()
        gc.enable()
        _done = True
