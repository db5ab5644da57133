"""Loading the drivers without the garbage collector's help.

Modules are never garbage, but they are 170,000 objects that it looks at: again and again while they are loaded
(0.06 s of 0.6), in each full collection of a run, and three times when the process ends (0.15 s).
"""

from __future__ import annotations

import atexit
import gc
import sys
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

    In any other process that is so only from its exit on. Only the first use in a process does something.
    """
    global _done
    if _done or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if _own and not _counts_leaks():
            gc.freeze()
        gc.enable()
        _done = True
        atexit.register(_leave)


def _leave() -> None:
    """When a process ends, nothing has to be looked at once more: its memory goes as a whole."""
    if not _counts_leaks():
        gc.freeze()


def _counts_leaks() -> bool:
    """Whether a module is loaded that prints a page about leaks where it was not collected in the end: what nanobind
    binds does, such as DuckDB, which a pipeline's file may have imported. Imported afterwards, it is collected.
    """
    bound = (m for m in list(sys.modules.values()) if str(getattr(m, "__file__", "")).endswith((".so", ".pyd")))
    return any(type(value).__module__ == "nanobind" for module in bound for value in vars(module).values())
