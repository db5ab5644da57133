"""Which real services a test session used, what it skipped for want of them, and what it counted: a block at its end.

A suite that uses a service says so with `note_used`; one whose service cannot start calls `missing`; one that counts
something worth reading calls `tell`. All goes into the reports of tests, which come back from other processes too.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

_USED, _TOLD = "service used", "told"


def in_ci() -> bool:
    """True where every service must be there."""
    return os.environ.get("CI", "").lower() == "true"


def note_used(request: pytest.FixtureRequest, name: str, version: str) -> None:
    """Remember that a test used the real service `name`."""
    request.node.user_properties.append((_USED, f"{name} {version}"))


def tell(request: pytest.FixtureRequest, figures: str) -> None:
    """Show at the session's end what a test counted."""
    tell_of(request.node, figures)


def tell_of(test: pytest.Item, figures: str) -> None:
    """As `tell`, where there is no request."""
    test.user_properties.append((_TOLD, figures))


def missing(name: str, why: str) -> None:
    """Skip the test, printing why; under CI=true it is an error: CI has every service."""
    reason = f"{name} cannot start: {why}"
    if in_ci():
        pytest.fail(f"{reason} (an error because CI=true)", pytrace=False)
    pytest.skip(reason)


def summary(terminal: pytest.TerminalReporter) -> None:
    """Print the block."""
    noted: dict[str, set[str]] = {_USED: set(), _TOLD: set()}
    for report in (r for reports in terminal.stats.values() for r in reports):
        for name, value in getattr(report, "user_properties", ()):
            if name in noted:
                noted[name].add(value)
    reasons = Counter(_reason(report.longrepr) for report in terminal.stats.get("skipped", []))
    terminal.section("services", sep="-")
    for service in sorted(noted[_USED]) or ["none"]:
        terminal.line(f"used     {service}")
    for reason, count in reasons.most_common():
        terminal.line(f"skipped  {count} x {reason}")
    if not reasons:
        terminal.line("skipped  none")
    for figures in sorted(noted[_TOLD]):
        terminal.line(f"told     {figures}")


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple | list) else str(longrepr)
    return str(text).removeprefix("Skipped: ")
