"""Rule 10: a reader takes all pointers of a query at once; views are resolved on the reader's ref."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.branches import create_branch
from tidemill.flow.query import query, reading
from tidemill.model.errors import UnknownName


def pair(project: Project, declare_feed: Callable[..., None]) -> Pipeline:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"n": 1}])

    @p.table(write="append")
    def facts(orders: Any) -> Any:
        return orders

    p.sql(text="select count(*) as n from {{ ref('facts') }}", name="total")
    p.sql(text="select n * 10 as tenfold from {{ ref('total') }}", name="shown", materialized="view")
    return p


def test_a_reader_never_sees_two_tables_of_two_runs(project: Project, declare_feed: Callable[..., None]) -> None:
    p = pair(project, declare_feed)
    project.run(p, "2026-01-01")
    sql = "select (select count(*) from shop.facts) as facts, (select n from shop.total) as total"
    with reading(project.services) as seen:
        project.run(p, "2026-01-02")
        with query(project.services, sql, seen) as reader:
            assert reader.read_all().to_pylist() == [{"facts": 1, "total": 1}]
    assert project.rows(sql) == [{"facts": 2, "total": 2}]


def test_a_view_reads_the_tables_of_its_readers_ref(project: Project, declare_feed: Callable[..., None]) -> None:
    p = pair(project, declare_feed)
    project.run(p, "2026-01-01")
    create_branch(project.services, "before")
    project.run(p, "2026-01-02")
    assert project.rows("select tenfold from shop.shown") == [{"tenfold": 20}]
    assert project.rows("select tenfold from shop.shown", branch="before") == [{"tenfold": 10}]


def test_a_view_is_published_with_its_run(project: Project, declare_feed: Callable[..., None]) -> None:
    p = pair(project, declare_feed)

    @p.table
    def broken(total: Any) -> Any:
        raise RuntimeError

    assert not project.run(p, "2026-01-01").ok
    with pytest.raises(UnknownName):
        project.rows("select * from shop.shown")
    assert project.rows("select * from shop.shown", branch="batch-1") == [{"tenfold": 10}]


def test_a_bare_name_is_enough_where_one_pipeline_has_it(project: Project, declare_feed: Callable[..., None]) -> None:
    project.run(pair(project, declare_feed), "2026-01-01")
    assert project.rows("select count(*) as n from facts") == [{"n": 1}]


def test_system_tables_are_read_in_sql(project: Project, declare_feed: Callable[..., None]) -> None:
    project.run(pair(project, declare_feed), "2026-01-01")
    (row,) = project.rows("select pipeline, state from tidemill.batches")
    assert row == {"pipeline": "shop", "state": "published"}
    assert project.rows("select count(*) as n from tidemill.tasks") == [{"n": 5}]
