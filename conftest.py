"""What a test session says before its last line: which real services were used, and what was skipped and why.

A machine without a service may skip its tests; with CI=true that fails the session, so that a service that went
missing cannot pass for a green run.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

#: Marker of a test -> the service that it talks to.
SERVICES = {"postgres": "PostgreSQL"}


def _reports(config: pytest.Config, *outcomes: str) -> list[Any]:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return [report for outcome in outcomes for report in reporter.stats.get(outcome, ())] if reporter else []


def _of_services(reports: list[Any]) -> Counter[str]:
    return Counter(name for report in reports for marker, name in SERVICES.items() if marker in report.keywords)


def _missing(config: pytest.Config) -> Counter[str]:
    """Services of which tests were skipped although they must not be."""
    return _of_services(_reports(config, "skipped")) if os.environ.get("CI") == "true" else Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session that would have passed without a service that has to be there."""
    if session.exitstatus == pytest.ExitCode.OK and _missing(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the services and the reasons."""
    used = _of_services(_reports(config, "passed", "failed"))
    reasons = Counter(_reason(report) for report in _reports(config, "skipped"))
    if used:
        terminalreporter.write_line("real services: " + ", ".join(f"{name} ({n} tests)" for name, n in used.items()))
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
    for name, count in _missing(config).items():
        terminalreporter.write_line(f"{name} is missing: {count} of its tests were skipped, and CI=true forbids it")


def _reason(report: Any) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
