"""Loading the drivers without the garbage collector's help.

Modules are never garbage, but they are 170,000 objects that it looks at: again and again while they are loaded
(0.06 s of 0.6), in each full collection of a run, and three times when the process ends (0.15 s).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_done = False


@contextmanager
def loading() -> Iterator[None]:
    """Import within this: it is quicker, and what exists at its end is never looked at again.

    Only the first use in a process does so: what a notebook's user makes later must be collected.
    """
    global _done
    if _done or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        _done = True
