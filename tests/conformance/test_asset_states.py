"""Promises of the port `AssetStates`, in memory and in the bookmarks of both databases."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread

import pytest

from harness.records import start_run
from tidemill.adapters.memory.asset_states import MemoryAssetStates
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.asset_states import ProjectAssetStates
from tidemill.ports.tasks import AssetStates
from tidemill.testing.clock import ManualClock


@dataclass(frozen=True)
class Kept:
    """A store, and a batch that changes something."""

    states: AssetStates
    batch: int


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def kept(request: pytest.FixtureRequest, clock: ManualClock) -> Kept:
    """Every store that there is."""
    if request.param == "memory":
        return Kept(MemoryAssetStates(), 1)
    store: SqlMetadata = request.getfixturevalue("store")
    batch, _ = start_run(store, clock)
    return Kept(ProjectAssetStates(lambda: store), batch.id)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> object:
    """The database of a parameter of `kept`: None is SQLite."""
    return request.getfixturevalue("postgres") if "postgresql" in request.node.name else None


def test_values_are_kept_changed_and_forgotten_by_asset(kept: Kept) -> None:
    states = kept.states
    assert states.all("orders") == {}
    states.change("orders", {"far": '"2026-01-01"', "rows": "3"}, kept.batch)
    states.change("s3://lake/ä.csv", {"far": "null"}, kept.batch)
    states.change("orders", {"rows": None, "none": None, "more": "[1]"}, kept.batch)
    assert states.all("orders") == {"far": '"2026-01-01"', "more": "[1]"}
    assert states.all("s3://lake/ä.csv") == {"far": "null"}


def test_nothing_is_lost_when_tasks_change_an_asset_at_once(kept: Kept) -> None:
    def change(name: str) -> None:
        for number in range(5):
            kept.states.change("orders", {f"{name}{number}": "1"}, kept.batch)

    threads = [Thread(target=change, args=(name,)) for name in "abc"]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(kept.states.all("orders")) == {f"{name}{number}" for name in "abc" for number in range(5)}
