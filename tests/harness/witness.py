"""A process that only sleeps and looks, and so knows when the computer stood still: `python witness.py FILE`.

Each standstill is a line of FILE: when it began and ended, in seconds of the monotonic clock, and what was seen. The
process ends with the one that began it. It needs the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

#: Seconds between two looks.
LOOK = 0.2
#: A sleeper that is woken this many seconds late was not served; on a busy computer it is some hundredths.
LATE = 1.0
#: Seconds that the disk takes for one byte.
SLOW_DISK = 3.0
#: Seconds of a window in which everything waited for the disk or for memory, or the processors were lent to others ...
WINDOW = 5.0
#: ... for more than this part.
PRESSED = 0.6


def watch(notes: Path) -> None:
    """Write a line for each standstill, until the process that began this one is gone."""
    parent = os.getppid()
    with notes.open("a", buffering=1) as file, tempfile.TemporaryFile(dir=notes.parent, buffering=0) as disk:
        opened, before = time.monotonic(), pressures()
        while os.getppid() == parent:
            began = time.monotonic()
            time.sleep(LOOK)
            if time.monotonic() - began - LOOK > LATE:
                file.write(line(began, "nobody was served"))
            if time.monotonic() - opened < WINDOW:
                continue
            now, length = pressures(), time.monotonic() - opened
            for what, seconds in now.items():
                if seconds - before[what] > PRESSED * length:
                    file.write(line(opened, what))
            opened, before = time.monotonic(), now
            disk.write(b".")
            os.fsync(disk.fileno())
            if time.monotonic() - opened > SLOW_DISK:
                file.write(line(opened, "a byte was written"))


def line(began: float, what: str) -> str:
    """A note of what ends now."""
    return f"{began:.1f} {time.monotonic():.1f} {what}\n"


def pressures() -> dict[str, float]:
    """Seconds since the computer's start in which nothing went on for want of something, by what all waited for."""
    found: dict[str, float] = {}
    for what, name in {"disk": "io", "memory": "memory"}.items():
        with contextlib.suppress(OSError, ValueError):
            text = Path(f"/proc/pressure/{name}").read_text()
            found[f"all waited for the {what}"] = int(text.partition("full")[2].rpartition("total=")[2]) / 1e6
    with contextlib.suppress(OSError, ValueError, IndexError):
        stolen = int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
        found["the processors were lent to others"] = stolen / (os.cpu_count() or 1)
    return found


def seen(notes: Path, since: float) -> list[str]:
    """The standstills that ended after `since`, in words."""
    found = []
    with contextlib.suppress(OSError):
        for one in notes.read_text().splitlines():
            began, ended, what = one.split(" ", 2)
            if float(ended) > since:
                found.append(f"{what} for {float(ended) - float(began):.0f} s")
    return found


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
