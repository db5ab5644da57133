"""How often Python looks for garbage in cycles while a stream runs."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects before the youngest generation is looked at. A batch has some 10,000 rows, each a dict of a user's
#: function; at Python's 700 they are looked at again and again while they live, for a fifth of the processor's time.
_OBJECTS = 50_000


_lock = threading.Lock()
#: How many streams run in this process, each in a thread of its own, and what was set before the first of them.
_running = 0
_before = (0, 0, 0)


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Within this, cycles are looked for less often; garbage without cycles goes at once, as ever."""
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(more: int) -> None:
    global _running, _before
    with _lock:
        if _running == 0:
            _before = gc.get_threshold()
        _running += more
        youngest = _before[0]
        if _running and youngest:  # 0: whoever runs us has turned it off
            youngest = max(youngest, _OBJECTS)
        gc.set_threshold(youngest, *_before[1:])
