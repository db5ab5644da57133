"""What code hears of a run's beginning, on SQLite and PostgreSQL: the store notes it, the attendant tells it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from harness.driving import dag, define, queue
from tidemill.adapters.sql.runstore import SqlRunStore
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.attending import Attendant
from tidemill.flow.others import OtherPipelines
from tidemill.flow.triggers import Surroundings
from tidemill.model.graph import Node
from tidemill.ports.metadata import Event
from tidemill.testing.clock import ManualClock


def test_a_runs_beginning_is_told_once_and_before_its_end(store: SqlMetadata, clock: ManualClock) -> None:
    """Where code wants to hear of it: not again when another scheduler takes the run over."""
    runs = SqlRunStore(store, clock, own_time=False)
    made = define(store, replace(dag("p", Node("a")), callbacks=("begun",)), clock)
    queued = queue(store, made, "p", clock, "k")
    runs.claim("a", timedelta(seconds=15), 10)
    clock.advance(60)
    assert len(runs.claim("b", timedelta(seconds=15), 10)) == 1
    with store.write() as tx:
        tx.events.add("ended", {"run_id": queued.id, "pipeline": "p", "state": "failed"}, clock.now())
    called: list[str] = []

    def call_back(event: Event) -> None:
        called.append(event.payload.get("event") or event.kind)

    about = Surroundings(clock, Path(), OtherPipelines(lambda: store, clock, lambda: None))
    attendant = Attendant("p", store, clock, about, [], lambda: None, call_back)

    async def look_often() -> None:
        for _ in range(1000):
            await attendant.look()
            if len(called) == 2:
                break
        await attendant.close()

    asyncio.run(look_often())
    assert called == ["begun", "ended"]
