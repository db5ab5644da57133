"""Death at moments of a project's first run, with lake and archive in an object store; see `test_crashes.py`.

The server is slow, so it dies at fewer of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import services
from harness.deaths import Eve, die_at_effects
from harness.objectstore import ObjectStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.usefixtures("object_keys")
def test_death_at_effects_of_the_first_run_in_an_object_store_loses_and_doubles_nothing(
    tmp_path: Path, object_store: ObjectStore, request: pytest.FixtureRequest
) -> None:
    deaths, first = die_at_effects(Eve(tmp_path, days=0, store=object_store), step=40)
    services.tell(request, f"deaths: {deaths} in a run that makes tables in an object store, from effect {first} on")
