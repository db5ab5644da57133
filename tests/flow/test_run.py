"""A run is a transaction: what readers of `main` see after runs that succeed, fail, and run again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.expectation import not_null, row_count, unique
from tidemill.model.run import RunState


@pytest.fixture
def project(stored: Project) -> Project:
    """Every test here runs on both metadata stores."""
    return stored


#: What the source gives, by day; tests change it.
Feed = dict[str, list[dict[str, Any]]]


def shop(project: Project, feed: Feed, **options: Any) -> Pipeline:
    p = project.pipeline(**options)

    @p.source
    def orders(interval: Any) -> Iterator[dict[str, Any]]:
        yield from feed.get(interval.ds, [])

    @p.table(key="id", write="upsert")
    def latest(orders: Any) -> Any:
        return orders

    @p.table(write="replace")
    def totals(latest: Any) -> Any:
        return latest.group_by("customer").agg(total=pl.col("amount").sum())

    return p


DAY_1 = [{"id": 1, "customer": "a", "amount": 10}, {"id": 2, "customer": "b", "amount": 20}]
DAY_2 = [{"id": 2, "customer": "b", "amount": 25}, {"id": 3, "customer": "a", "amount": 5}]


def test_a_run_publishes_all_tables_together(project: Project) -> None:
    report = project.run(shop(project, {"2026-01-01": DAY_1}), "2026-01-01")
    assert report.state is RunState.SUCCESS
    assert project.tables() == {"shop.orders", "shop.latest", "shop.latest__input", "shop.totals"}
    assert project.table("shop.latest") == [(1, "a", 10), (2, "b", 20)]


def test_running_an_interval_again_changes_nothing(project: Project) -> None:
    p = shop(project, {"2026-01-01": DAY_1, "2026-01-02": DAY_2})
    for day in ("2026-01-01", "2026-01-02"):
        project.run(p, day)
    before = {name: project.table(name) for name in project.tables()}
    for day in ("2026-01-02", "2026-01-01", "2026-01-02"):
        assert project.run(p, day).ok
    assert {name: project.table(name) for name in project.tables()} == before
    assert project.table("shop.latest") == [(1, "a", 10), (2, "b", 25), (3, "a", 5)]


def test_a_failing_check_leaves_main_untouched_and_the_branch_readable(project: Project) -> None:
    feed = {"2026-01-01": DAY_1, "2026-01-02": [*DAY_2, {"id": None, "customer": "x", "amount": 1}]}
    p = shop(project, feed)
    p.expect("orders", [not_null("id"), row_count(1)])
    assert project.run(p, "2026-01-01").ok
    before = project.pointers()
    report = project.run(p, "2026-01-02")
    assert report.state is RunState.FAILED
    assert [(c.name, c.passed, c.failed) for c in report.checks] == [
        ("not_null(id)", False, 1),
        ("row_count(1..)", True, 0),
    ]
    assert project.pointers() == before
    assert report.branch == "batch-2"
    assert len(project.table("shop.orders", branch="batch-2")) == 5
    assert project.rows("select count(*) as n from shop.orders") == [{"n": 2}]


def test_a_repaired_feed_is_archived_beside_the_first_and_published(project: Project) -> None:
    feed = {"2026-01-01": [*DAY_1, {"id": None, "customer": "x", "amount": 1}]}
    p = shop(project, feed)
    p.expect("orders", [not_null("id")])
    assert not project.run(p, "2026-01-01").ok
    feed["2026-01-01"] = DAY_1
    assert not project.run(p, "2026-01-01").ok, "a re-run reads the archive, not the source"
    assert project.run(p, "2026-01-01", refetch=True).ok
    with project.services.metadata.read() as tx:
        assert [m.version for m in tx.archive.recent()] == [2, 1]
    assert project.table("shop.orders") == [(1, "a", 10), (2, "b", 20)]


def test_an_error_in_user_code_fails_the_run_and_what_depends_on_it(project: Project) -> None:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Iterator[dict[str, Any]]:
        yield from DAY_1

    @p.table
    def broken(orders: Any) -> Any:
        raise ValueError("no such luck")

    @p.table
    def after(broken: Any) -> Any:
        return broken

    report = project.run(p, "2026-01-01")
    assert [(t.task.id, t.state.value) for t in report.tasks] == [
        ("extract.orders", "success"),
        ("load.orders", "success"),
        ("build.broken", "failed"),
        ("build.after", "upstream_failed"),
    ]
    assert isinstance(report.error, ValueError)
    assert project.tables() == set()


def test_a_unique_check_looks_at_the_whole_table(project: Project) -> None:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Iterator[dict[str, Any]]:
        yield {"id": 1}

    p.expect("orders", [unique("id")])
    assert project.run(p, "2026-01-01").ok
    assert not project.run(p, "2026-01-02").ok


def test_only_cleared_tasks_run_again_and_others_come_from_main(project: Project) -> None:
    p = shop(project, {"2026-01-01": DAY_1})
    project.run(p, "2026-01-01")
    report = project.run(p, "2026-01-01", start=["totals"])
    assert report.ok
    assert [t.task.id for t in report.tasks] == ["build.totals"]
    assert report.run.attempt == 2
    assert project.table("shop.totals") == [("a", 10), ("b", 20)]


def test_a_run_without_tables_makes_no_branch(project: Project) -> None:
    p = project.pipeline()
    report = project.run(p, "2026-01-01")
    assert report.ok
    assert report.run.branch is None
