"""Runs a command in a fresh process and tells its wall time, processor time and peak memory.

Peak memory is that of the largest process of the command's tree, as the kernel counted it (`wait4`). A child
begins with its parent's pages, so this module and those that use it import the standard library only: what they
hold (about 20 MB) is less than any Python program that loads data.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One execution."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    code: int
    output: str
    errors: str
    timed_out: bool = False


def run(
    command: Sequence[str], *, at: Path | None = None, env: Mapping[str, str] | None = None, limit: float = 3600
) -> Run:
    """Run `command` and wait for it; after `limit` seconds it and its children are killed."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=at, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(limit, stop)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes there, kilobytes on Linux
        return Run(
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_mb=usage.ru_maxrss / unit,
            code=process.returncode,
            output=output.read(),
            errors=errors.read(),
            timed_out=late.is_set(),
        )


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on, and how busy it was."""
    model = ""
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "processor": model,
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": sys.version.split()[0],
        "load_before": round(os.getloadavg()[0], 2),
    }
