"""The server that processes are forked from has imported everything and run nothing: else its children would hang."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness import forked
from harness.forking import ran

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")

_NO_FILES = ("pipe:", "socket:", "anon_inode:", "/dev/null")
_IMPORTED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from harness import preloaded
from harness.forked import threads
import polars as pl
if sys.argv[2] == "run":
    pl.LazyFrame({"n": range(1000)}).group_by(pl.col("n") % 7).agg(pl.len()).collect()
print(*threads(os.getpid()), sep="\\n")
"""


def threads_after(what: str) -> list[str]:
    """The threads of a new interpreter that has imported what the server has, and then does `what`."""
    tests = str(Path(forked.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", _IMPORTED, tests, what], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def told(target: Any, *args: Any, report: Path) -> Any:
    assert ran(target, *args, report) == 0
    return json.loads(report.read_text(encoding="utf-8"))


def test_the_server_owns_no_thread_but_those_that_imports_start(tmp_path: Path) -> None:
    server = told(forked.look_at_server, report=tmp_path / "server.json")
    imports, run = (Counter(threads_after(what)) for what in ("nothing", "run"))
    assert not Counter(server["threads"]) - imports
    assert run - imports, "threads of a library that has run would not be seen"


def test_the_server_holds_no_file_open(tmp_path: Path) -> None:
    server = told(forked.look_at_server, report=tmp_path / "server.json")
    assert [name for name in server["open"] if not name.startswith(_NO_FILES)] == []


def test_a_forked_run_imports_no_library_of_its_own(tmp_path: Path) -> None:
    """The server skips modules that it cannot import, without a word; a death would then cost a second again."""
    imported = told(forked.run_and_list_imports, tmp_path / "project", report=tmp_path / "imports.json")
    libraries = {"alembic", "duckdb", "pandas", "polars", "pyarrow", "pyiceberg", "sqlalchemy", "sqlglot", "tidemill"}
    assert [name for name in imported if name.partition(".")[0] in libraries] == []
