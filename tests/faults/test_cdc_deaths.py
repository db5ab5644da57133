"""Death at any moment of a run that follows a database: nothing is lost, nothing comes twice, and no slot is ahead.

Two runs: the one that takes the snapshot, and one that takes changes. Each session dies at some effects, others each
time, and always at one that is done to a slot; with `TIDEMILL_DEATHS=all` at every one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from harness import services
from harness.change_deaths import TABLES, Deaths
from harness.changing import followed
from harness.postgres import Postgres

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("first", [True, False], ids=["snapshot", "changes"])
def test_death_at_effects_of_a_run_loses_and_doubles_no_change(
    first: bool, postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with followed(postgres, tmp_path / "project", *TABLES) as shop:
        deaths = Deaths(shop, first=first)
        effects = deaths.effects()
        of_slots = [at for at, name in enumerate(effects) if name.endswith(("of a slot", "is made"))]
        # Made, copied, dropped; or moved.
        assert len(of_slots) == (6 if first else 2), [effects[at] for at in of_slots]
        places = [random.choice(of_slots), random.randrange(len(effects))]
        if os.environ.get("TIDEMILL_DEATHS") == "all":
            places = list(range(len(effects)))
        for at in places:
            try:
                deaths.die_and_recover(at)
            except AssertionError as error:
                error.add_note(f"died at effect {at} of {len(effects)}: {effects[at]}")
                raise
    services.tell(request, f"changes followed: deaths at {len(places)} of {len(effects)} effects, first={first}")
