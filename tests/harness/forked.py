"""What a forked process can tell of the server that it comes from, and of itself; see `forking.py`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from harness import crashing
from harness.project import Project

#: Threads of an allocator: how many there are depends on the number of cores and the time since its start.
_ALLOCATOR = "jemalloc_bg_thd"


def threads(pid: int) -> list[str]:
    """The names of a process's threads."""
    names = [Path(task, "comm").read_text(encoding="utf-8").strip() for task in Path(f"/proc/{pid}/task").iterdir()]
    return sorted(name for name in names if name != _ALLOCATOR)


def look_at_server(report: Path) -> None:
    """Note the server's threads, and what it holds open beside the three standard streams."""
    server = os.getppid()
    opened = [os.readlink(fd) for fd in Path(f"/proc/{server}/fd").iterdir() if int(fd.name) > 2]
    report.write_text(json.dumps({"threads": threads(server), "open": opened}), encoding="utf-8")


def run_and_list_imports(root: Path, report: Path) -> None:
    """Run a day, and note which modules that imported."""
    before = set(sys.modules)
    crashing.write_feeds(root, crashing.DAYS)
    project = Project(root)
    assert project.run(crashing.declare(project), crashing.DAYS[0]).ok
    crashing.check_whole(project, crashing.DAYS[:1])
    report.write_text(json.dumps(sorted(set(sys.modules) - before)), encoding="utf-8")
    os._exit(0)
