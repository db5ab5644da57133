"""Promises of the port `runstore` to runs that lost a race: they begin with the tickets of their tables (rule 3)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harness.driving import dag, define, queue
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.graph import Node
from tidemill.model.run import RunState
from tidemill.model.table import TableName
from tidemill.ports.runstore import Progress
from tidemill.testing.clock import ManualClock

LEASE = timedelta(seconds=15)


@pytest.fixture
def runs(store: SqlMetadata, clock: ManualClock) -> SqlRunStore:
    return SqlRunStore(store, clock, own_time=False)


def test_a_run_that_lost_a_race_begins_when_no_other_has_its_tickets(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    """Else it would lose against the one that has them, as often as it begins before that one publishes (rule 3)."""
    made = define(store, dag("p", Node("a")), clock)
    for key, lost_on in {"k0": ["p.x"], "k1": ["p.x", "p.y"], "k2": ["p.y"], "k3": []}.items():
        queue(store, made, "p", clock, key, conflicts=1, lost_on=tuple(lost_on))

    def taken() -> list[str | None]:
        return [one.info.run_key for one in runs.claim("a", LEASE, 10)]

    x, y = TableName("p", "x"), TableName("p", "y")
    first = runs.claim("b", LEASE, 10)
    assert [one.info.run_key for one in first] == ["k0", "k2", "k3"]
    with store.read() as tx:
        assert (tx.refs.ticket_holder(x, clock.now()), tx.refs.ticket_holder(y, clock.now())) == (
            first[0].id, first[1].id,
        )  # fmt: skip
    assert taken() == []
    runs.save([Progress(first[0].id, first[0].fence, clock.now(), end=RunState.FAILED, error="no")])
    assert taken() == [], "it needs both"
    runs.save([Progress(first[1].id, first[1].fence, clock.now(), end=RunState.FAILED, error="no")])
    assert taken() == ["k1"]


def test_the_tickets_of_a_driver_that_vanished_go_over_with_its_run(
    store: SqlMetadata, runs: SqlRunStore, clock: ManualClock
) -> None:
    made = define(store, dag("p", Node("a")), clock)
    for key in ("k0", "k1"):
        queue(store, made, "p", clock, key, conflicts=1, lost_on=("p.x",))
    assert len(runs.claim("a", LEASE, 1)) == 1
    assert runs.claim("b", LEASE, 1) == []
    clock.advance((LEASE + timedelta(seconds=1)).total_seconds())
    assert [one.info.run_key for one in runs.claim("b", LEASE, 10)] == ["k0"], "it goes on, with its tickets"
