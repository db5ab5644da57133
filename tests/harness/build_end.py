"""A plugin of pytest: a build that has an end. Tests that would begin after it are skipped, and counted as that at the
end of the session; where they are more than a quarter of all, the session has failed.

A computer that lends its processors to others may take several times as long as it mostly does, and a build that is
ended from outside says nothing at all, not even what has failed. `TIDEMILL_TESTS_END` is when the last test may begin,
in seconds since 1970; without it all tests run, however long they take.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest

END = float(os.environ.get("TIDEMILL_TESTS_END") or "inf")
#: What the block about skipped tests says.
REASON = "the build's time is over"
#: The most that may be left out: a part of all tests.
MOST = 0.25

_tests: Counter[str] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin no test after the end."""
    if time.time() > END:
        pytest.skip(REASON)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count, those of other processes too."""
    if report.when == "setup":
        _tests["left out" if report.skipped and REASON in str(report.longrepr) else "begun"] += 1


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session that has looked at too little."""
    if "PYTEST_XDIST_WORKER" not in os.environ and _tests["left out"] > MOST * _tests.total():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
