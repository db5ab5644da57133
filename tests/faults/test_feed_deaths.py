"""Runs of feeds that have a state of their own die at any moment: rows and state stay together, each row once."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.feed_deaths import FEEDS, rehearse
from harness.forking import ran

#: With `TIDEMILL_DEATHS=all` a run dies at each of its effects.
DEATHS = 2


@pytest.mark.parametrize("kind", FEEDS)
def test_wherever_a_run_dies_rows_and_state_are_of_one_moment(kind: str, tmp_path: Path) -> None:
    report = tmp_path / "report"
    assert ran(rehearse, kind, tmp_path, DEATHS, report) == 0, report.read_text()
    assert int(report.read_text()) >= DEATHS
