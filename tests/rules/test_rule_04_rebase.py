"""Rule 4: rebase where both sides only changed rows of their own; conflict otherwise, never last-writer-wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.branches import create_branch, merge_branch
from tidemill.flow.publish import PublishConflict
from tidemill.model.expectation import unique
from tidemill.model.run import RunState

Rows = Callable[[Any], list[dict[str, Any]]]


def overtaken(
    project: Project, declare_feed: Callable[..., None], once: Any, rows: Rows, **options: Any
) -> tuple[Pipeline, Any]:
    """Run the 1st of January; while it computes, the 2nd is run and published. Gives the pipeline and the report."""
    p = project.pipeline()
    declare_feed(p, rows)

    @p.table(**options)
    def out(orders: Any) -> Any:
        during()
        return orders

    for checks in options.pop("checks", ()):
        p.expect("out", checks)
    during = once(lambda: project.run(p, "2026-01-02"))
    return p, project.run(p, "2026-01-01")


def test_appends_of_two_batches_are_rebased_without_computing_again(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    _, report = overtaken(project, declare_feed, once, lambda i: [{"day": "d" + i.ds[-2:]}])
    assert report.ok
    assert report.run.attempt == 1, "a rebase is no second attempt"
    assert project.table("shop.out") == [("d01",), ("d02",)]


def test_a_rebase_reuses_the_branchs_data_files(project: Project, declare_feed: Callable[..., None], once: Any) -> None:
    p = project.pipeline()
    declare_feed(p, lambda i: [{"day": "d" + i.ds[-2:]}])
    project.run(p, "2026-01-03")
    written: list[set[str]] = []

    @p.table
    def after(orders: Any) -> Any:
        written.append({f.path for f in project.services.lake.list() if f.path.endswith(".parquet")})
        during()
        return orders

    during = once(lambda: project.run(p, "2026-01-02"))
    assert project.run(p, "2026-01-01").ok
    with project.services.metadata.read() as tx:
        pointers = tx.refs.pointers("main")
    (name,) = [n for n in pointers if n.table == "orders"]
    files = project.services.catalog.scan(name, pointers[name]).files
    (own,) = [f for f in files if f.batch_id == 2]
    assert project.services.lake.relative(own.path) in written[0]


def test_two_branches_that_create_one_table_are_joined_by_column_name(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    _, report = overtaken(project, declare_feed, once, lambda i: [{"day": "d" + i.ds[-2:], "n": 1}])
    assert report.ok
    assert project.table("shop.orders") == [("d01", 1), ("d02", 1)]


def test_two_branches_adding_different_columns_keep_both(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    base = {"id": 1}
    by_day = {"2026-01-01": {"a": "x"}, "2026-01-02": {"b": "y"}, "2026-01-03": {}}
    p = project.pipeline()
    declare_feed(p, lambda i: [{**base, "day": "d" + i.ds[-2:], **by_day[i.ds]}])
    project.run(p, "2026-01-03")

    @p.table
    def later(orders: Any) -> Any:
        during()
        return orders

    during = once(lambda: project.run(p, "2026-01-02"))
    assert project.run(p, "2026-01-01").ok
    rows = project.rows("select day, a, b from shop.orders order by day")
    assert rows == [
        {"day": "d01", "a": "x", "b": None},
        {"day": "d02", "a": None, "b": "y"},
        {"day": "d03", "a": None, "b": None},
    ]


def test_two_runs_appending_one_key_under_a_unique_check_do_not_both_publish(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    p = project.pipeline()
    declare_feed(p, lambda i: [{"id": 7}])
    p.expect("orders", [unique("id")])
    reports: list[Any] = []

    @p.table
    def out(orders: Any) -> Any:
        during()
        return orders

    during = once(lambda: reports.append(project.run(p, "2026-01-02")))
    report = project.run(p, "2026-01-01")
    assert reports[0].ok
    assert report.state is RunState.FAILED, "checked again on the head that it would be published onto"
    assert "unique(id)" in str(report.error)
    assert project.rows("select count(*) as n from shop.orders") == [{"n": 1}]


def test_upserts_of_two_runs_conflict_and_are_computed_again(
    project: Project, declare_feed: Callable[..., None], once: Any
) -> None:
    p, report = overtaken(
        project, declare_feed, once, lambda i: [{"id": 1, "day": "d" + i.ds[-2:]}], key="id", write="upsert"
    )
    assert report.ok
    assert report.run.attempt == 2
    assert project.table("shop.out") == [(1, "d02")], "the newest interval wins, whoever publishes last"
    assert p.name == "shop"


def test_a_drop_against_a_change_is_a_conflict(project: Project, declare_feed: Callable[..., None]) -> None:
    p = project.pipeline()
    declare_feed(p, lambda i: [{"day": "d" + i.ds[-2:]}])
    project.run(p, "2026-01-01")
    create_branch(project.services, "trial")
    with project.services.metadata.write() as tx:
        (name,) = tx.refs.pointers("trial")
        tx.refs.swap("trial", name, tx.refs.pointers("trial")[name], None)
    project.run(p, "2026-01-02")
    with pytest.raises(PublishConflict) as error:
        merge_branch(project.services, "trial")
    assert [c.reason for c in error.value.conflicts] == ["the branch dropped it and the head changed it"]
