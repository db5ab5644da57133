"""Rule 12: publish="run" lets all tables go together; publish="table" each when its own checks pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.expectation import not_null


def two_tables(project: Project, declare_feed: Callable[..., None], **options: Any) -> Pipeline:
    p = project.pipeline(**options)
    declare_feed(p, lambda interval: [{"n": 1, "m": None}], columns={"n": "long", "m": "string"})

    @p.table
    def good(orders: Any) -> Any:
        return orders

    @p.table
    def bad(orders: Any) -> Any:
        return orders

    p.expect("good", [not_null("n")])
    p.expect("bad", [not_null("m")])
    return p


def test_by_default_one_failing_table_keeps_all_back(project: Project, declare_feed: Callable[..., None]) -> None:
    assert not project.run(two_tables(project, declare_feed), "2026-01-01").ok
    assert project.tables() == set()


def test_by_table_what_passed_its_checks_is_published(project: Project, declare_feed: Callable[..., None]) -> None:
    report = project.run(two_tables(project, declare_feed, publish="table"), "2026-01-01")
    assert not report.ok
    assert project.tables() == {"shop.orders", "shop.good"}
    assert project.tables("batch-1") >= {"shop.bad"}


def test_by_table_a_second_run_finishes_the_rest(project: Project, declare_feed: Callable[..., None]) -> None:
    p = two_tables(project, declare_feed, publish="table")
    project.run(p, "2026-01-01")
    p._checks.pop("bad")
    assert project.run(p, "2026-01-01").ok
    assert project.table("shop.good") == [(1, None)]
    assert project.table("shop.bad") == [(1, None)]


def test_by_table_a_source_moves_with_its_bookmark(project: Project) -> None:
    p = project.pipeline(schedule=None, publish="table")

    @p.source
    def changes(bookmark: Any) -> Iterator[dict[str, Any]]:
        yield {"n": (bookmark.value or 0) + 1}
        bookmark.advance((bookmark.value or 0) + 1)

    @p.table
    def broken(changes: Any) -> Any:
        raise RuntimeError

    assert not project.run(p, "first").ok
    assert project.table("shop.changes") == [(1,)]
    with project.services.metadata.read() as tx:
        assert tx.bookmarks.get("shop", "changes").value == 1
