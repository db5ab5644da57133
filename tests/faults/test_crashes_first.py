"""Death at any moment of the first run of all, which makes the tables; see `test_crashes.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import services
from harness.deaths import Eve, die_at_effects

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_death_at_effects_of_the_first_run_loses_and_doubles_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    deaths, first = die_at_effects(Eve(tmp_path, days=0), step=12)
    services.tell(request, f"deaths: {deaths} in a run that makes tables, from effect {first} on")
