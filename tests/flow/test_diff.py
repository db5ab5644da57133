"""`branch diff` over a real lake: which tables differ, in which columns, in which rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from harness.project import Project
from tidemill.flow.branches import create_branch
from tidemill.flow.diff import BranchDiff, ColumnChange, TableDiff, diff_branch
from tidemill.model.branch import RefKind
from tidemill.model.errors import Refused, UnknownName, UserError
from tidemill.model.expectation import not_null

DAY, NEXT = "2026-01-01", "2026-01-02"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    yield made
    made.close()


@dataclass
class Failing:
    """A pipeline whose second day does not pass its check, so that its branch stays."""

    project: Project

    def diff(self, first: list[dict[str, Any]], second: list[dict[str, Any]], **table: Any) -> BranchDiff:
        """Publish the first day's rows, let the second day's fail, and compare the branch."""
        p = self.project.pipeline()
        feed = {DAY: first, NEXT: second}

        @p.source
        def orders(interval: Any) -> Iterator[dict[str, Any]]:
            yield from feed[interval.ds]

        @p.table(name="made", **table)
        def made(orders: Any) -> Any:
            return orders

        @p.table
        def last(made: Any) -> Any:
            return made.select("id").with_columns(wrong=pl.lit(None, pl.Int64))

        assert self.project.run(p, DAY).ok
        p.expect("last", [not_null("wrong")])
        report = self.project.run(p, NEXT)
        assert report.branch is not None
        return diff_branch(self.project.services, report.branch, limit=10)


@pytest.fixture
def failing(project: Project) -> Failing:
    return Failing(project)


def table(found: BranchDiff, name: str = "shop.made") -> TableDiff:
    return next(t for t in found.tables if str(t.name) == name)


def test_an_upsert_table_is_compared_by_its_key(failing: Failing) -> None:
    first = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]
    found = table(failing.diff(first, [{"id": 2, "v": "B"}, {"id": 3, "v": "c"}], key="id", write="upsert"))
    assert (found.change, found.key, found.added, found.removed, found.changed) == ("changed", ("id",), 1, 0, 1)
    assert [(r.kind, dict(r.key), r.before, r.after) for r in found.rows] == [
        ("added", {"id": 3}, None, {"v": "c"}), ("changed", {"id": 2}, {"v": "b"}, {"v": "B"}),
    ]  # fmt: skip


def test_an_append_table_is_compared_by_whole_rows(failing: Failing) -> None:
    found = table(failing.diff([{"id": 1}], [{"id": 1}, {"id": 1}]))
    assert (found.key, found.added, found.removed, found.changed) == ((), 2, 0, 0)


def test_a_key_that_is_not_unique_matches_nothing(failing: Failing) -> None:
    found = table(failing.diff([{"id": 1}], [{"id": 2}, {"id": 2}], key="id"))
    assert (found.key, found.added, found.changed) == ((), 2, 0)


def test_a_history_table_is_compared_by_version(failing: Failing) -> None:
    """The version that ends is a changed row, the one that begins an added one."""
    found = table(failing.diff([{"id": 1, "v": "a"}], [{"id": 1, "v": "b"}], key="id", write="history"))
    assert found.key == ("id", "valid_from")
    assert (found.added, found.removed, found.changed) == (1, 0, 1)
    changed = next(r for r in found.rows if r.kind == "changed")
    assert changed.before is not None
    assert changed.before["is_current"] is True
    assert changed.before["valid_to"] is None


def test_a_replaced_table_is_compared_by_content(failing: Failing) -> None:
    """All files are new; rows that are in both versions are no difference."""
    rows = [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]
    found = table(failing.diff(rows, [*rows, {"id": 3, "v": "c"}], key="id", write="replace"))
    assert (found.key, found.added, found.removed, found.changed) == (("id",), 1, 0, 0)


def test_columns_are_compared_too(failing: Failing) -> None:
    found = table(failing.diff([{"id": 1}], [{"id": 1, "gate": "B7"}], key="id", write="upsert"))
    assert found.columns == (ColumnChange(None, "gate string"),)
    (row,) = found.rows
    assert (row.kind, row.before, row.after) == ("changed", {"gate": None}, {"gate": "B7"})


def test_tables_that_are_the_same_and_inputs_are_left_out(failing: Failing) -> None:
    found = failing.diff([{"id": 1}], [{"id": 2}], key="id", write="upsert")
    assert [str(t.name) for t in found.tables] == ["shop.last", "shop.made", "shop.orders"]
    inner = diff_branch(failing.project.services, found.ref.name, "shop.made__input")
    assert inner.tables[0].added == 1


def test_a_table_that_the_branch_made(project: Project) -> None:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Iterator[dict[str, Any]]:
        yield {"id": 1, "v": None}

    p.expect("orders", [not_null("v")])
    report = project.run(p, DAY)
    assert report.branch is not None
    found = table(diff_branch(project.services, report.branch), "shop.orders")
    assert (found.change, found.added, found.columns) == ("created", 1, ())


def test_what_main_changed_since_is_no_difference_of_the_branch(failing: Failing) -> None:
    found = failing.diff([{"id": 1}], [{"id": 2}])
    assert not table(found).moved
    create_branch(failing.project.services, "mine")
    assert diff_branch(failing.project.services, "mine").tables == ()


def test_a_tag_is_compared_with_main_as_it_is_now(project: Project) -> None:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Iterator[dict[str, Any]]:
        yield {"day": interval.ds}

    project.run(p, DAY)
    create_branch(project.services, "v1", kind=RefKind.TAG)
    project.run(p, NEXT)
    found = table(diff_branch(project.services, "v1"), "shop.orders")
    assert (found.added, found.removed) == (0, 1), "the tag lacks the second day"


def test_a_view_is_compared_by_its_sql(project: Project) -> None:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Iterator[dict[str, Any]]:
        yield {"id": 1}

    p.sql(text="select * from {{ ref('orders') }}", name="shown", materialized="view")

    @p.table
    def fails(orders: Any) -> Any:
        raise ValueError

    report = project.run(p, DAY)
    assert report.branch is not None
    (view,) = diff_branch(project.services, report.branch).views
    assert (str(view.name), view.before) == ("shop.shown", None)
    assert "orders" in (view.after or "")


def test_the_files_are_kept_while_they_are_compared(failing: Failing) -> None:
    """Both sides are under a lease during the comparison, and under none afterwards (rule 8)."""
    found = failing.diff([{"id": 1}], [{"id": 2}])
    services = failing.project.services
    with services.metadata.read() as tx:
        assert [x for x in tx.leases.live(services.clock.now()) if x.holder.startswith("reader")] == []
    assert found.tables


def test_what_cannot_be_compared(project: Project) -> None:
    create_branch(project.services, "mine")
    with pytest.raises(UserError, match="what branches are compared with"):
        diff_branch(project.services, "main")
    with pytest.raises(UnknownName, match='There is no branch "mien"'):
        diff_branch(project.services, "mien")
    with pytest.raises(UnknownName, match='There is no table "nothing"'):
        diff_branch(project.services, "mine", "nothing")
    with project.services.metadata.write() as tx:
        tx.refs.remove_pointers("mine")
        tx.refs.update("mine", state="dropped")
    with pytest.raises(Refused, match="its tables are gone"):
        diff_branch(project.services, "mine")
