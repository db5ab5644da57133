"""Rule 11: clearing opens the next attempt on a fresh fork; cancelling keeps the branch; branches come with writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.project import Project
from tidemill.model.branch import RefKind, RefState
from tidemill.model.run import RunState


def test_clearing_a_published_run_opens_the_next_attempt_with_the_same_batch(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"n": 1}])
    first, second = project.run(p, "2026-01-01"), project.run(p, "2026-01-01")
    assert (second.batch.id, second.run.attempt) == (first.batch.id, 2)
    assert second.run.id != first.run.id


def test_tables_of_tasks_that_were_not_cleared_come_from_main(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    calls: list[str] = []
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"n": 1}])

    @p.table
    def middle(orders: Any) -> Any:
        calls.append("middle")
        return orders

    @p.table
    def end(middle: Any) -> Any:
        calls.append("end")
        return middle

    project.run(p, "2026-01-01")
    calls.clear()
    assert project.run(p, "2026-01-01", start=["end"]).ok
    assert calls == ["end"]
    assert project.table("shop.end") == [(1,)]


def test_a_stopped_run_keeps_its_branch(project: Project, declare_feed: Callable[..., None]) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"n": 1}])

    @p.table
    def stopped(orders: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.run(p, "2026-01-01")
    with project.services.metadata.read() as tx:
        run = tx.runs.get(1)
        assert run is not None
        assert run.state is RunState.CANCELLED
        assert run.branch == "batch-1"
    assert project.table("shop.orders", branch="batch-1") == [(1,)]
    assert project.tables() == set()


def test_a_branch_is_made_at_the_first_table_write_and_goes_with_the_publish(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    seen: list[list[str]] = []
    p = project.pipeline()

    def branches() -> list[str]:
        with project.services.metadata.read() as tx:
            return [r.name for r in tx.refs.all(kinds=[RefKind.RUN], states=[RefState.OPEN])]

    def rows(interval: Any) -> list[dict[str, Any]]:
        seen.append(branches())
        return [{"n": 1}]

    declare_feed(p, rows)

    @p.table
    def out(orders: Any) -> Any:
        seen.append(branches())
        return orders

    project.run(p, "2026-01-01")
    assert seen == [[], ["batch-1"]]
    assert branches() == []


def test_events_of_a_publish_are_in_its_transaction(project: Project, declare_feed: Callable[..., None]) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"n": 1}])
    project.run(p, "2026-01-01")
    with project.services.metadata.read() as tx:
        (event,) = tx.events.pending("published")
    assert event.payload["tables"] == ["shop.orders"]
    assert event.payload["batch_id"] == 1


def test_a_load_without_rows_makes_no_branch(project: Project, declare_feed: Callable[..., None]) -> None:
    p = project.pipeline()
    declare_feed(p, lambda _: [])
    report = project.run(p, "2026-01-01")
    assert report.ok
    assert report.run.branch is None
