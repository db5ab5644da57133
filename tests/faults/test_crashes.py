"""Death at any moment: a run dies before and after external effects, for every write mode, and nothing is lost.

Some seconds a death, and hundreds of effects: each session dies at some of them, others each time; with
`TIDEMILL_DEATHS=all` at every one. `test_crashes_first.py` has the same for the run that makes the tables: two files,
as processes that share a suite take files.
"""

from __future__ import annotations

import json
import re

import pytest

from harness import crashing, services
from harness.deaths import Eve, die_at_effects

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def eve(tmp_path_factory: pytest.TempPathFactory) -> Eve:
    return Eve(tmp_path_factory.mktemp("crashes"), days=2)


def test_every_effect_of_a_run_passes_a_fault_point(eve: Eve) -> None:
    """Files are looked for on the disk and statements in the driver, so what goes past the wrapped ports is found."""
    seen = json.loads(eve.watched())
    passed: list[str] = seen["passed"]
    visible = {p.removeprefix("visible ") for p in passed if p.startswith("visible ")}
    assert {re.sub(r"^\.tidemill/(lake|archive)/", "", path) for path in seen["made"]} == visible
    assert seen["gone"] == []
    assert seen["loose"] == []
    assert seen["commits"] == passed.count("before commit") == passed.count("after commit")
    for step in ("begin", "written", "visible"):
        for write, table in crashing.WRITES.items():
            for kind in ("data", "metadata"):
                pattern = rf"{step} shop/{table}-\w+/{kind}/"
                assert [p for p in passed if re.match(pattern, p)], f"{step} {kind} of {write}"


def test_death_at_effects_of_a_run_loses_and_doubles_nothing(eve: Eve, request: pytest.FixtureRequest) -> None:
    deaths, first = die_at_effects(eve, step=12)
    services.tell(request, f"deaths: {deaths} in a run that adds to tables, from effect {first} on")
