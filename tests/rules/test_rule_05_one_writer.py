"""Rule 5: one live run per batch, by lease; a stale worker's commit is refused; a task that runs again starts anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.project import Project
from tidemill.flow.attempt import open_attempt
from tidemill.flow.run import open_batch
from tidemill.model.batch import BatchKey
from tidemill.model.errors import Busy, Fenced
from tidemill.model.run import RunState
from tidemill.wiring.runner import keys_of


def test_a_second_run_of_a_live_batch_is_refused_and_says_who_has_it(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    p = project.pipeline()
    refused: list[Busy] = []

    def second() -> None:
        with pytest.raises(Busy) as error:
            project.run(p, "2026-01-01")
        refused.append(error.value)

    during = once(second)

    def rows(interval: Any) -> list[dict[str, Any]]:
        during()
        return [{"id": 1}]

    declare_feed(p, rows)
    assert project.run(p, "2026-01-01").ok
    assert project.services.holder in str(refused[0])


def test_a_worker_that_was_replaced_cannot_commit(project: Project, declare_feed: Callable[..., None]) -> None:
    """The first attempt's process is taken for dead; when it comes back its branch commit is rejected."""
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"id": 1}])
    spec = p.spec()
    (key,) = keys_of(spec, "2026-01-01", project.services)
    batch = open_batch(project.services, spec, key)
    with open_attempt(project.services, spec, batch) as stale:
        believed_dead = replace(project.services, alive=lambda holder: False)
        with open_attempt(believed_dead, spec, batch) as fresh:
            assert fresh.run.attempt == 2
            with pytest.raises(Fenced):
                stale.commit({})
            fresh.commit({})
    with project.services.metadata.read() as tx:
        states = {r.attempt: r.state for r in tx.runs.recent(batch_id=batch.id)}
    assert states[1] is RunState.FAILED


def test_an_attempt_starts_from_the_fork_and_not_from_what_a_dead_one_wrote(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    p = project.pipeline()
    fail = [True]
    declare_feed(p, lambda interval: [{"id": 1}])

    @p.table
    def out(orders: Any) -> Any:
        return orders

    @p.table
    def later(out: Any) -> Any:
        if fail:
            fail.clear()
            raise RuntimeError("the first attempt dies here")
        return out

    assert not project.run(p, "2026-01-01").ok
    report = project.run(p, "2026-01-01")
    assert report.run.attempt == 2
    assert project.table("shop.out") == [(1,)]
    assert project.table("shop.later") == [(1,)]


def test_the_lease_of_a_batch_ends_with_its_run(project: Project, declare_feed: Callable[..., None]) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"id": 1}])
    project.run(p, "2026-01-01")
    with project.services.metadata.read() as tx:
        batch = tx.batches.find(BatchKey("shop", keys_of(p.spec(), "2026-01-01", project.services)[0].interval))
        assert batch is not None
        run = tx.runs.last(batch.id)
        assert run is not None
        assert run.state is RunState.SUCCESS
    with project.services.metadata.write() as tx:
        assert tx.leases.live(project.services.clock.now()) == []


def test_a_table_that_is_called_like_a_child_of_a_source_is_not_the_loads_to_write(project: Project) -> None:
    """`orders__returns` is a source of its own, not a child that flattening `orders` made."""
    p = project.pipeline()

    @p.source
    def orders__returns(interval: Any) -> Any:
        yield {"id": 7}

    @p.source
    def orders(interval: Any) -> Any:
        yield {"id": 1}

    for _ in range(2):
        assert project.run(p, "2026-01-01").ok
    assert project.table("shop.orders__returns") == [(7,)]
