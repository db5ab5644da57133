"""A session ends where a test hangs, and not where a test takes as long as it may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LONG = """
import time
import pytest

{mark}
def test_long():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        pass
"""


@pytest.mark.parametrize(("mark", "code"), [("@pytest.mark.timeout(100)", 0), ("", 1)], ids=["its own limit", "none"])
def test_a_test_with_a_limit_of_its_own_is_waited_for(mark: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "test_long.py").write_text(LONG.format(mark=mark), encoding="utf-8")
    ends = ["-o", "faulthandler_timeout=0.3", "-o", "faulthandler_exit_on_timeout=true", "-o", "timeout=0"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_timeout", "-p", "harness.patience", *ends, "test_long.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert ("1 passed" in done.stdout) is (code == 0)
