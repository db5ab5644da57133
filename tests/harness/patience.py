"""A plugin of pytest: a test that is allowed to take long is given that time, also where a hang would end the session.

`faulthandler_timeout` ends a session whose test hangs where no signal reaches it. It is one number for all tests, and
long sessions (`TIDEMILL_DEATHS=all`) take longer; so a test with a limit of its own is waited for until that is over.
"""

from __future__ import annotations

import faulthandler

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

#: Seconds beyond a test's own limit, in which it may end by itself.
GRACE = 60.0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Wait longer for a test whose own limit is beyond what all tests have."""
    marker = item.get_closest_marker("timeout")
    given = marker.args[0] if marker is not None and marker.args else item.config.getoption("timeout", None)
    usual = float(item.config.getini("faulthandler_timeout") or 0)
    if given and usual and float(given) + GRACE > usual:
        ends = bool(item.config.getini("faulthandler_exit_on_timeout"))
        file = item.config.stash[fault_handler_stderr_fd_key]
        faulthandler.dump_traceback_later(float(given) + GRACE, file=file, exit=ends)
