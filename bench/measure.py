"""Runs a command in a fresh process and tells its wall time, processor time and peak memory.

Peak memory is that of the largest process of the command's tree, as the kernel counted it (`wait4`). The kernel
counts from the fork on, when a child still has all its parent's pages: measured from a test session, an empty Python
seemed to take 246 MB. So a command is started by a launcher (this file, run as a program), which holds about 12 MB.
"""

from __future__ import annotations

import json
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
    timed_out: bool
    output: str
    errors: str


def run(
    command: Sequence[str], *, at: Path | None = None, env: Mapping[str, str] | None = None, limit: float = 3600
) -> Run:
    """Run `command` and wait for it; after `limit` seconds it and its children are killed."""
    with tempfile.TemporaryDirectory(prefix="tidemill-measure-") as folder:
        output, errors, told = (Path(folder) / name for name in ("output", "errors", "told"))
        launcher = [sys.executable, "-S", "-E", __file__, str(told), str(limit), *command]
        with output.open("wb") as out, errors.open("wb") as err:
            subprocess.run(launcher, cwd=at, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=True)
        figures = json.loads(told.read_text("utf-8"))
        return Run(output=output.read_text("utf-8", "replace"), errors=errors.read_text("utf-8", "replace"), **figures)


def launch(command: Sequence[str], limit: float) -> dict[str, float | int | bool]:
    """Run `command` as a child of this process and measure it."""
    late = threading.Event()
    begun = time.perf_counter()
    process = subprocess.Popen(command, start_new_session=True)

    def stop() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit, stop)
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # bytes there, kilobytes on Linux
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / unit,
        "code": process.returncode,
        "timed_out": late.is_set(),
    }


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


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(launch(sys.argv[3:], float(sys.argv[2]))), encoding="utf-8")
