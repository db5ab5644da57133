"""Death at moments of a project's first run, with lake and archive in an object store; see `test_crashes.py`.

The server is slow: some seconds a death. So each session dies at a twentieth of the effects, another one each time;
`TIDEMILL_S3_STEP=1` dies at all of them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from harness import services
from harness.deaths import Eve, die_everywhere
from harness.objectstore import ObjectStore

STEP = int(os.environ.get("TIDEMILL_S3_STEP", "20"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.usefixtures("object_keys")
def test_death_at_effects_of_the_first_run_in_an_object_store_loses_and_doubles_nothing(
    tmp_path: Path, object_store: ObjectStore, request: pytest.FixtureRequest
) -> None:
    first = random.randrange(STEP)
    deaths = die_everywhere(Eve(tmp_path, days=0, store=object_store), first, STEP)
    assert deaths > 100 // STEP
    services.tell(request, f"deaths: {deaths} in a run that makes tables in an object store, from effect {first} on")
