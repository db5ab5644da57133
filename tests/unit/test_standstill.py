"""A test that failed in a standstill of the computer runs once more; any other failure stays one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: A service that fails once: at its start, or for a test. The witness is stopped, as all is in a standstill.
FAILING = """
import os, signal, time
import pytest
from harness import standstill, witness
from pathlib import Path

tries = {"service": 0, "test": 0}

def still():
    if not STILL:
        return
    process = standstill._witnesses[0]
    while not Path("/proc", str(process.pid), "fd", "3").exists():  # it has begun
        time.sleep(0.02)
    time.sleep(0.1)
    process.send_signal(signal.SIGSTOP)
    time.sleep(witness.LATE + 2 * witness.LOOK)
    process.send_signal(signal.SIGCONT)
    while not witness.seen(Path(os.environ[standstill.NOTES]), 0):
        time.sleep(0.02)

@pytest.fixture(scope="session")
def service():
    tries["service"] += 1
    if WHERE == "service" and tries["service"] == 1:
        still()
        raise OSError("away")
    return tries["service"]

def test_before(): pass

def test_one(service):
    tries["test"] += 1
    if tries["test"] == 1 and WHERE == "test":
        still()
        assert service == 2
    assert service == 2

def test_after(service):
    assert service == 2
"""


@pytest.mark.parametrize(("still", "where", "code"), [(True, "test", 0), (True, "service", 0), (False, "test", 1)])
def test_what_failed_in_a_standstill_runs_once_more_with_all_services_begun_anew(
    still: bool, where: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "test_failing.py").write_text(f"STILL, WHERE = {still}, {where!r}\n" + FAILING, encoding="utf-8")
    mine = ("TIDEMILL_STANDSTILLS", "PYTEST_XDIST_WORKER")
    others = {name: value for name, value in os.environ.items() if name not in mine}
    alone = {"PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "harness.standstill", "test_failing.py"],
        cwd=tmp_path, env=others | alone, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert ("3 passed" in done.stdout) is still
    assert done.stdout.count("test_one FAILED") == (0 if still else 1)
