"""Rule 7: a keyed table is a function of its inputs, whatever the order of runs, re-runs and reverts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.branches import revert_batch

Feed = dict[str, list[dict[str, Any]]]


def keyed(project: Project, declare_feed: Callable[..., None], feed: Feed, **options: Any) -> Pipeline:
    p = project.pipeline()
    declare_feed(p, lambda interval: feed[interval.ds[-2:]])

    @p.table(key="id", **options)
    def out(orders: Any) -> Any:
        return orders

    return p


def day(number: str) -> str:
    return f"2026-01-{number}"


def test_running_an_older_batch_again_does_not_win_over_a_newer_one(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    feed = {"01": [{"id": 1, "v": "old"}], "02": [{"id": 1, "v": "new"}]}
    p = keyed(project, declare_feed, feed, write="upsert")
    for number in ("01", "02"):
        project.run(p, day(number))
    feed["01"] = [{"id": 1, "v": "old again"}, {"id": 2, "v": "late"}]
    assert project.run(p, day("01"), refetch=True).ok
    assert project.table("shop.out") == [(1, "new"), (2, "late")]


def test_a_key_that_a_batch_no_longer_brings_falls_back_to_what_it_was(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    feed = {"01": [{"id": 1, "v": "first"}], "02": [{"id": 1, "v": "mistake"}, {"id": 2, "v": "x"}]}
    p = keyed(project, declare_feed, feed, write="upsert")
    for number in ("01", "02"):
        project.run(p, day(number))
    feed["02"] = [{"id": 2, "v": "x"}]
    assert project.run(p, day("02"), refetch=True).ok
    assert project.table("shop.out") == [(1, "first"), (2, "x")]


def test_runs_out_of_order_give_what_runs_in_order_give(project: Project, declare_feed: Callable[..., None]) -> None:
    feed = {"01": [{"id": 1, "v": "a"}], "02": [{"id": 1, "v": "b"}], "03": [{"id": 1, "v": "c"}]}
    p = keyed(project, declare_feed, feed, write="upsert")
    for number in ("03", "01", "02"):
        assert project.run(p, day(number)).ok
    assert project.table("shop.out") == [(1, "c")]


def test_within_a_batch_the_last_row_of_a_key_wins(project: Project, declare_feed: Callable[..., None]) -> None:
    feed = {"01": [{"id": 1, "v": "a"}, {"id": 1, "v": "b"}]}
    project.run(keyed(project, declare_feed, feed, write="upsert"), day("01"))
    assert project.table("shop.out") == [(1, "b")]


def test_a_declared_order_column_ranks_before_the_interval(project: Project, declare_feed: Callable[..., None]) -> None:
    feed = {"01": [{"id": 1, "v": "a", "seq": 9}], "02": [{"id": 1, "v": "b", "seq": 3}]}
    p = keyed(project, declare_feed, feed, write="upsert", order="seq")
    for number in ("01", "02"):
        project.run(p, day(number))
    assert project.table("shop.out") == [(1, "a", 9)]


def test_a_delete_flag_takes_the_key_out_and_a_revert_brings_it_back(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    feed = {"01": [{"id": 1, "v": "a", "gone": False}], "02": [{"id": 1, "v": "a", "gone": True}]}
    p = keyed(project, declare_feed, feed, write="upsert", delete_flag="gone")
    for number in ("01", "02"):
        project.run(p, day(number))
    assert project.table("shop.out") == []
    revert_batch(project.services, 2)
    assert project.table("shop.out") == [(1, "a")]


def test_a_revert_undoes_a_batch_on_all_its_tables_and_a_re_run_brings_it_back(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    feed = {"01": [{"id": 1, "v": "a"}], "02": [{"id": 1, "v": "b"}, {"id": 2, "v": "c"}]}
    p = keyed(project, declare_feed, feed, write="upsert")

    @p.table(write="replace")
    def copy(out: Any) -> Any:
        return out

    project.run(p, day("01"))
    before = {name: project.table(name) for name in project.tables()}
    project.run(p, day("02"))
    after = {name: project.table(name) for name in project.tables()}
    revert_batch(project.services, 2)
    assert {name: project.table(name) for name in project.tables()} == before
    assert project.run(p, day("02")).ok
    assert {name: project.table(name) for name in project.tables()} == after


def test_history_keeps_every_version_and_a_late_batch_splits_one(
    project: Project, declare_feed: Callable[..., None]
) -> None:
    feed = {"01": [{"id": 1, "v": "a"}], "03": [{"id": 1, "v": "c"}], "02": [{"id": 1, "v": "b"}]}
    p = keyed(project, declare_feed, feed, write="history", surrogate_key="sk")
    sql = "select v, day(valid_from) as f, day(valid_to) as t, is_current from shop.out order by valid_from"
    for number in ("01", "03"):
        project.run(p, day(number))
    assert [tuple(r.values()) for r in project.rows(sql)] == [("a", 2, 4, False), ("c", 4, None, True)]
    keys = {r["v"]: r["sk"] for r in project.rows("select v, sk from shop.out")}
    project.run(p, day("02"))
    assert [tuple(r.values()) for r in project.rows(sql)] == [
        ("a", 2, 3, False),
        ("b", 3, 4, False),
        ("c", 4, None, True),
    ]
    again = {r["v"]: r["sk"] for r in project.rows("select v, sk from shop.out")}
    assert {v: again[v] for v in keys} == keys, "surrogate keys depend on nothing but key and valid_from"
    assert len(set(again.values())) == 3


def test_a_row_without_a_key_goes_to_quarantine(project: Project, declare_feed: Callable[..., None]) -> None:
    feed = {"01": [{"id": 1, "v": "a"}, {"id": None, "v": "b"}]}
    assert project.run(keyed(project, declare_feed, feed, write="upsert"), day("01")).ok
    assert project.table("shop.out") == [(1, "a")]
    (row,) = project.rows("select error, raw from shop.out__quarantine")
    assert row["error"] == 'the key column "id" is empty'
    assert '"v": "b"' in row["raw"]


def test_append_replaces_the_batchs_own_rows_and_no_others(project: Project, declare_feed: Callable[..., None]) -> None:
    feed = {"01": [{"id": 1}], "02": [{"id": 2}, {"id": 3}]}
    p = project.pipeline()
    declare_feed(p, lambda interval: feed[interval.ds[-2:]])
    for number in ("01", "02"):
        project.run(p, day(number))
    feed["02"] = [{"id": 4}]
    project.run(p, day("02"), refetch=True)
    assert project.table("shop.orders") == [(1,), (4,)]


@pytest.mark.parametrize("option", ["key", "order", "delete_flag"])
def test_a_column_that_the_write_needs_and_the_rows_lack_is_told(
    project: Project, declare_feed: Callable[..., None], option: str
) -> None:
    p = project.pipeline()
    declare_feed(p, lambda interval: [{"id": 1}])
    options: dict[str, Any] = {"key": "id", "write": "upsert", option: "nope"}

    @p.table(**options)
    def out(orders: Any) -> Any:
        return orders

    report = project.run(p, day("01"))
    assert f'Table "shop.out" has {option}="nope", and its rows have no such column.' in str(report.error)
