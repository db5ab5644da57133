"""A plugin of pytest: a test that failed while the computer stood still says nothing, and runs once more.

Tests with real services have limits: a broker takes a member that was silent for six seconds for dead, a database that
does not answer in five is away. A virtual computer that is copied or moved, or whose disk is throttled, stands still
for longer, and what then fails is right to fail. So a process of its own witnesses the session (`harness/witness.py`).
A test is run once more, with every service begun anew, only if it failed and a standstill was noted since shortly
before it began; both are told at the session's end. A failure without a witness stays one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from harness import services, witness

#: A test can fail for what happened shortly before it: this many seconds.
BEFORE = 15.0

#: Where the file of notes is; processes that run tests for this one inherit it.
NOTES = "TIDEMILL_STANDSTILLS"
_AGAIN = pytest.StashKey[bool]()
_witnesses: list[subprocess.Popen[bytes]] = []
#: The file, taken at the beginning: tests of commands run without variables that begin so.
_notes: list[Path] = []


def pytest_configure() -> None:
    """Begin the witness: one for all processes of a session."""
    if NOTES not in os.environ:
        os.environ[NOTES] = str(Path(tempfile.mkdtemp(prefix="tidemill-standstills-")) / "notes")
        _witnesses.append(subprocess.Popen([sys.executable, "-I", "-S", witness.__file__, os.environ[NOTES]]))
    _notes.append(Path(os.environ[NOTES]))


def pytest_unconfigure() -> None:
    """End it."""
    for process in _witnesses:
        process.kill()
        process.wait()
        shutil.rmtree(Path(os.environ.pop(NOTES)).parent, ignore_errors=True)
    _witnesses.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test; once more where it failed and there was a standstill."""
    if item.stash.get(_AGAIN, False):
        return None
    began = time.monotonic()
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [one for one in reports if one.failed]
    seen = witness.seen(_notes[-1], began - BEFORE) if failed else []
    if not seen:
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
    item.stash[_AGAIN] = True
    services.tell_of(item, f"once more, for {'; '.join(seen)}: {item.nodeid}")
    with contextlib.suppress(Exception):  # what stood still may not end well either
        item.session._setupstate.teardown_exact(None)
    return bool(item.ihook.pytest_runtest_protocol(item=item, nextitem=nextitem))
