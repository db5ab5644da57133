"""Which real services a test session used, and what it skipped for want of them: one block at its end.

A suite that uses a service says so with `note_used`; one whose service cannot start calls `missing`.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

_USED: pytest.StashKey[dict[str, str]] = pytest.StashKey()


def in_ci() -> bool:
    """True where every service must be there."""
    return os.environ.get("CI", "").lower() == "true"


def note_used(config: pytest.Config, name: str, version: str) -> None:
    """Remember that tests used the real service `name`."""
    config.stash.setdefault(_USED, {})[name] = version


def missing(name: str, why: str) -> None:
    """Skip the test, printing why; under CI=true it is an error: CI has every service."""
    reason = f"{name} cannot start: {why}"
    if in_ci():
        pytest.fail(f"{reason} (an error because CI=true)", pytrace=False)
    pytest.skip(reason)


def summary(terminal: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the block."""
    used = config.stash.get(_USED, {})
    terminal.section("services", sep="-")
    for name, version in sorted(used.items()):
        terminal.line(f"used     {name} {version}")
    if not used:
        terminal.line("used     none")
    reasons = Counter(_reason(report.longrepr) for report in terminal.stats.get("skipped", []))
    for reason, count in reasons.most_common():
        terminal.line(f"skipped  {count} x {reason}")
    if not reasons:
        terminal.line("skipped  none")


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")
