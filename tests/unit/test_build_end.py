"""A build that has an end leaves tests out, says so, and fails where they are many."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: The end comes within the test of this number.
NUMBERED = """
import pytest
from harness import build_end

@pytest.mark.parametrize("number", range(8))
def test_one(number):
    if number == LAST:
        build_end.END = 0
"""


@pytest.mark.parametrize(("last", "code"), [(8, 0), (5, 0), (4, 1)])
def test_what_begins_after_the_end_is_left_out(last: int, code: int, tmp_path: Path) -> None:
    (tmp_path / "test_numbered.py").write_text(NUMBERED.replace("LAST", str(last)), encoding="utf-8")
    mine = ("TIDEMILL_TESTS_END", "PYTEST_XDIST_WORKER")
    others = {name: value for name, value in os.environ.items() if name not in mine}
    alone = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "harness.build_end", "test_numbered.py"],
        cwd=tmp_path, env=others | alone, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert f"{min(last + 1, 8)} passed" in done.stdout
    assert (f"{7 - last} skipped" in done.stdout) is (last < 7)
    assert ("the build's time is over" in done.stdout) is (last < 7)
