"""Lists of runs: each filter, and all of them together, give what a look at every run gives."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from harness.records import MINUTE, START, start_run
from tidemill.adapters.sql import run_lists
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.batch import BatchKey, Interval
from tidemill.model.run import RunState, TaskState
from tidemill.ports.runs import ListedRun
from tidemill.testing.clock import ManualClock

DAY = timedelta(days=1)


@pytest.mark.parametrize(("lists", "few"), [(64, 2000), (64, 1), (1, 1)])
def test_a_list_is_what_a_look_at_every_run_gives(
    store: SqlMetadata, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, lists: int, few: int
) -> None:
    """Whichever way it is found: from one index, from several, from the batches of a stretch, or on a walk."""
    monkeypatch.setattr(run_lists, "_LISTS", lists)
    monkeypatch.setattr(run_lists, "_FEW", few)
    for number in range(18):
        interval = Interval(START + number // 3 * DAY, START + (number // 3 + 1) * DAY)
        _, run = start_run(store, clock, BatchKey(("ants", "bees", "cats")[number % 3], interval))
        if number % 4:
            with store.write() as tx:
                tx.runs.move(run.id, run.fence, RunState.CANCELLED if number % 4 == 1 else RunState.FAILED, now=START)
    clock.advance(10 * MINUTE)
    with store.read() as tx:
        every = tx.runs.listed()
        assert [one.run.id for one in every] == sorted((one.run.id for one in every), reverse=True)
        assert len(every) == 18
        for pipelines, states, since, until, before, limit in itertools.product(
            (None, ["bees"], ["ants", "cats"], []), (None, [RunState.FAILED], [RunState.FAILED, RunState.RUNNING]),
            (None, START + 2 * DAY), (None, START + 4 * DAY), (None, every[5].run.id), (3,),
        ):  # fmt: skip

            def fits(one: ListedRun) -> bool:
                begins = one.interval.start if one.interval is not None else START
                return (
                    (pipelines is None or one.pipeline in pipelines)  # noqa: B023
                    and (states is None or one.run.state in states)  # noqa: B023
                    and (since is None or begins >= since)  # noqa: B023
                    and (until is None or begins < until)  # noqa: B023
                    and (before is None or one.run.id < before)  # noqa: B023
                )

            found = tx.runs.listed(
                pipelines=pipelines, states=states, since=since, until=until, before=before, limit=limit
            )
            assert found == [one for one in every if fits(one)][:limit]
        newest = {
            name: [(one.run.id, one.run.state) for one in every if one.pipeline == name][:2]
            for name in ("bees", "ants")
        }
        assert tx.runs.strips(["bees", "none", "ants"], 2) == newest


def test_the_newest_attempts_and_what_they_counted(store: SqlMetadata, clock: ManualClock) -> None:
    batch, old = start_run(store, clock)
    with store.write() as tx:
        tx.runs.move(old.id, old.fence, RunState.FAILED, now=START)
    _, new = start_run(store, clock)
    with store.write() as tx:
        tx.runs.set_task(new.id, new.fence, "load.a", TaskState.RUNNING, now=START, rows=3)
        tx.runs.set_task(new.id, new.fence, "load.b", TaskState.RUNNING, now=START)
    with store.read() as tx:
        assert {id_: run.id for id_, run in tx.runs.newest_of([batch.id, 99]).items()} == {batch.id: new.id}
        assert tx.runs.row_counts([old.id, new.id]) == {new.id: {"load.a": 3}}
        assert tx.archive.of([]) == tx.archive.of([batch.id]) == []
