"""Contracts through whole runs: what a feed may bring, what goes to quarantine, and when the run fails."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.observe import RunReport
from tidemill.model.errors import ContractError, DefinitionError, UnknownName
from tidemill.model.table import TableName

DAY_1 = "id,price\n1,10\n2,20\n"


def feed(project: Project, day: str, text: str) -> None:
    file = project.root / "feeds" / f"{day}.csv"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")


def shop(project: Project, **options: Any) -> Pipeline:
    p = project.pipeline()
    p.files("feeds/{{ ds }}.csv", name="orders", **options)
    return p


def two_days(project: Project, second: str, **options: Any) -> RunReport:
    """The first day's run is published; gives the report of the second day's."""
    feed(project, "2026-01-01", DAY_1)
    feed(project, "2026-01-02", second)
    p = shop(project, **options)
    assert project.run(p, "2026-01-01").ok
    return project.run(p, "2026-01-02")


def columns(project: Project, table: str = "orders") -> dict[str, str]:
    """The user's columns of a table on main."""
    name = TableName("shop", table)
    version = project.services.catalog.load(name, project.pointers()[str(name)])
    return {c.name: str(c.type) for c in version.schema if not c.name.startswith("_")}


def quarantined(project: Project, branch: str = "main") -> list[dict[str, Any]]:
    return project.rows("select file, line, raw, error from shop.orders__quarantine order by file, line", branch=branch)


# -- evolve ------------------------------------------------------------------------------------------------------------


def test_evolve_adds_columns_and_widens_types(project: Project) -> None:
    feed(project, "2026-01-01", "id,n,f,d\n1,1,0.5,1.25\n")
    feed(project, "2026-01-02", f"id,n,f,d,note\n2,{2**40},1e300,123456.75,x\n")
    first = {"n": "int", "f": "float", "d": "decimal(5,2)"}
    then = {"n": "long", "f": "double", "d": "decimal(9,2)"}
    assert project.run(shop(project, columns=first), "2026-01-01").ok
    assert project.run(shop(project, columns=then), "2026-01-02").ok
    assert columns(project) == {"id": "long", **then, "note": "string"}
    assert [tuple(r.values()) for r in project.rows("select id, n, f, d, note from shop.orders order by id")] == [
        (1, 1, 0.5, Decimal("1.25"), None),
        (2, 2**40, 1e300, Decimal("123456.75"), "x"),
    ]


def test_evolve_takes_a_feed_that_lacks_a_column(project: Project) -> None:
    assert two_days(project, "id\n3\n").ok
    assert project.table("shop.orders") == [(1, 10), (2, 20), (3, None)]


def test_evolve_sends_what_cannot_be_widened_to_quarantine(project: Project) -> None:
    report = two_days(project, "id,price\n3,30\n4,cheap\nfive,50\n")
    assert report.ok
    assert [t.rejected for t in report.tasks if t.task.id == "load.orders"] == [2]
    assert project.table("shop.orders") == [(1, 10), (2, 20), (3, 30)]
    rows = quarantined(project)
    assert [(r["file"], r["line"], r["raw"]) for r in rows] == [
        ("feeds/2026-01-02.csv", 3, "4,cheap"),
        ("feeds/2026-01-02.csv", 4, "five,50"),
    ]
    assert "price" in rows[0]["error"]
    assert "id" in rows[1]["error"]


def test_a_quarantined_row_names_its_batch(project: Project) -> None:
    two_days(project, "id,price\n4,cheap\n")
    found = project.rows("select _batch_id as batch, raw from shop.orders__quarantine")
    assert found == [{"batch": 2, "raw": "4,cheap"}]


def test_a_repaired_feed_empties_the_batches_quarantine_and_leaves_that_of_others(project: Project) -> None:
    feed(project, "2026-01-01", DAY_1 + "x,1\n")
    feed(project, "2026-01-02", "id,price\ny,2\n")
    p = shop(project, columns={"id": "long"})
    assert project.run(p, "2026-01-01").ok
    assert project.run(p, "2026-01-02").ok
    assert [r["raw"] for r in quarantined(project)] == ["x,1", "y,2"]
    feed(project, "2026-01-01", DAY_1 + "3,1\n")
    assert project.run(p, "2026-01-01", refetch=True).ok
    assert [r["raw"] for r in quarantined(project)] == ["y,2"]
    assert [row[0] for row in project.table("shop.orders")] == [1, 2, 3]


# -- freeze ------------------------------------------------------------------------------------------------------------


def test_freeze_refuses_the_batch_and_shows_the_whole_difference(project: Project) -> None:
    report = two_days(project, "id,price,note\n3,30,x\n4,1.5,y\n", contract="freeze")
    assert isinstance(report.error, ContractError)
    assert str(report.error) == (
        "The data differs from the table, and its contract is freeze:\n"
        "  + note string\n"
        "  ! price long, the data holds double (no widening in place leads there)\n"
        "  at: feeds/2026-01-02.csv\n"
        "  try: change the source, or let the table follow: contract evolve"
    )
    assert project.table("shop.orders") == [(1, 10), (2, 20)]
    assert columns(project) == {"id": "long", "price": "long"}


def test_freeze_of_a_new_table_with_declared_columns_holds_from_the_first_batch(project: Project) -> None:
    feed(project, "2026-01-01", "id,price,note\n1,2,x\n")
    report = project.run(shop(project, contract="freeze", columns={"id": "long", "price": "long"}), "2026-01-01")
    assert isinstance(report.error, ContractError)
    assert "note" in str(report.error)
    assert project.tables() == set()


def test_freeze_takes_a_feed_that_fits(project: Project) -> None:
    assert two_days(project, "price,id\n30,3\n", contract="freeze").ok
    assert project.table("shop.orders") == [(1, 10), (2, 20), (3, 30)]


# -- discard -----------------------------------------------------------------------------------------------------------


def test_discard_columns_drops_what_the_table_does_not_have(project: Project) -> None:
    report = two_days(project, "id,price,note\n3,30,x\nfour,40,y\n", contract="discard_columns")
    assert report.ok
    assert columns(project) == {"id": "long", "price": "long"}
    assert project.table("shop.orders") == [(1, 10), (2, 20), (3, 30)]
    assert [r["raw"] for r in quarantined(project)] == ["four,40,y"]


def test_discard_rows_sends_rows_with_unknown_columns_to_quarantine(project: Project) -> None:
    report = two_days(project, "id,price,note\n3,30,\n4,40,y\nfive,50,\n", contract="discard_rows")
    assert report.ok
    assert columns(project) == {"id": "long", "price": "long"}
    assert project.table("shop.orders") == [(1, 10), (2, 20), (3, 30)]
    rows = quarantined(project)
    assert [r["raw"] for r in rows] == ["4,40,y", "five,50,"]
    assert "note" in rows[0]["error"]


# -- max_rejected ------------------------------------------------------------------------------------------------------

BAD_OF_FIVE = "id,price\n3,30\n4,40\n5,50\n6,x\n7,y\n"


@pytest.mark.parametrize(
    ("limit", "fails"), [(None, False), (2, False), (1, True), (0, True), (0.4, False), (0.39, True)]
)
def test_more_rejected_rows_than_allowed_fail_the_run(project: Project, limit: float | None, fails: bool) -> None:
    report = two_days(project, BAD_OF_FIVE, **({} if limit is None else {"max_rejected": limit}))
    assert report.ok is not fails
    if fails:
        assert isinstance(report.error, ContractError)
        assert "2 of 5 rows (40.00%)" in str(report.error)
        assert f"max_rejected is {limit}" in str(report.error)
        assert project.table("shop.orders") == [(1, 10), (2, 20)], "main is as it was"
        assert "shop.orders__quarantine" not in project.tables()
        assert report.branch is not None
        assert [r["raw"] for r in quarantined(project, report.branch)] == ["6,x", "7,y"], "to be read on the branch"


@pytest.mark.parametrize("limit", [-1, True, "10%", 1.0, 1.5, float("nan")])
def test_what_is_no_limit_is_refused_where_it_is_written(project: Project, limit: Any) -> None:
    with pytest.raises(DefinitionError) as caught:
        shop(project, max_rejected=limit)
    assert "max_rejected" in caught.value.what
    assert caught.value.where
    assert "test_contracts.py" in caught.value.where


def test_a_contract_that_does_not_exist_is_told_with_those_that_do(project: Project) -> None:
    with pytest.raises(UnknownName, match="There is no contract mode") as caught:
        shop(project, contract="frozen")
    assert 'did you mean "freeze"' in str(caught.value)


def test_declared_columns_type_the_first_batch(project: Project) -> None:
    feed(project, "2026-01-01", "id,price\n01,10\n02,x\n")
    assert project.run(shop(project, columns={"id": "string", "price": "decimal(10,2)"}), "2026-01-01").ok
    assert columns(project) == {"id": "string", "price": "decimal(10,2)"}
    assert [row[0] for row in project.table("shop.orders")] == ["01"]
    assert [r["raw"] for r in quarantined(project)] == ["02,x"]


def test_a_declared_type_against_that_of_the_table_says_where_and_what_to_do(project: Project) -> None:
    feed(project, "2026-01-01", DAY_1)
    assert project.run(shop(project), "2026-01-01").ok
    report = project.run(shop(project, columns={"id": "string"}), "2026-01-01")
    assert isinstance(report.error, ContractError)
    assert report.error.what == 'Column "id" is declared string, but the table has long.'
    assert report.error.hint


# -- tables that are made ----------------------------------------------------------------------------------------------


def made(project: Project, extra: list[str], **options: Any) -> Pipeline:
    """A table that has columns `id` and those of `extra`, as they are when it runs."""
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Any:
        yield {"id": 1, "note": "x", "price": 2}

    @p.table(**options)
    def clean(orders: Any) -> Any:
        return orders.select("id", *extra)

    return p


@pytest.mark.parametrize("write", [{}, {"write": "upsert", "key": "id"}, {"write": "history", "key": "id"}])
def test_a_made_table_that_is_frozen_refuses_another_column(project: Project, write: dict[str, Any]) -> None:
    extra = ["price"]
    p = made(project, extra, contract="freeze", **write)
    assert project.run(p, "2026-01-01").ok
    assert project.run(p, "2026-01-02").ok
    before = project.pointers()
    extra.append("note")
    report = project.run(p, "2026-01-03")
    assert isinstance(report.error, ContractError)
    assert report.error.what == 'The result differs from "shop.clean", whose contract is freeze:\n  + note string'
    assert "test_contracts.py" in (report.error.where or "")
    assert project.pointers() == before


def test_a_made_table_that_discards_columns_stays_as_it_is(project: Project) -> None:
    extra = ["price"]
    p = made(project, extra, contract="discard_columns")
    assert project.run(p, "2026-01-01").ok
    extra.append("note")
    assert project.run(p, "2026-01-02").ok
    assert columns(project, "clean") == {"id": "long", "price": "long"}
    assert project.table("shop.clean") == [(1, 2), (1, 2)]


def test_declared_columns_of_a_made_table_fix_its_types(project: Project) -> None:
    p = project.pipeline()

    @p.source
    def orders(interval: Any) -> Any:
        yield {"id": 1, "price": 0.5}

    @p.table(columns={"id": "long", "price": "double"})
    def clean(orders: Any) -> Any:
        return orders.with_columns(id=pl.col("id").cast(pl.Int32), price=pl.col("price").cast(pl.Float32))

    assert project.run(p, "2026-01-01").ok
    assert columns(project, "clean") == {"id": "long", "price": "double"}
    assert project.table("shop.clean") == [(1, 0.5)]


def test_a_result_against_its_declared_columns_is_refused(project: Project) -> None:
    report = project.run(made(project, ["price"], columns={"price": "date"}), "2026-01-01")
    assert isinstance(report.error, ContractError)
    assert report.error.what == (
        'The result differs from the columns declared for "shop.clean":\n'
        "  ! price date, the data holds long (no widening in place leads there)"
    )


def test_rows_without_a_key_count_against_the_limit(project: Project) -> None:
    def keyed(**options: Any) -> Pipeline:
        p = project.pipeline()

        @p.source
        def orders(interval: Any) -> Any:
            yield from [{"id": 1, "v": "a"}, {"id": None, "v": "b"}]

        @p.table(key="id", write="upsert", **options)
        def latest(orders: Any) -> Any:
            return orders

        return p

    report = project.run(keyed(), "2026-01-01")
    assert report.ok
    assert [t.rejected for t in report.tasks if t.task.id == "build.latest"] == [1]
    (row,) = project.rows("select file, line, raw, error, _batch_id as b from shop.latest__quarantine") or [{}]
    assert (row["file"], row["line"], row["error"]) == ("latest", 2, 'the key column "id" is empty')
    report = project.run(keyed(max_rejected=0.25), "2026-01-02")
    assert "1 of 2 rows (50.00%)" in str(report.error)
    assert project.table("shop.latest") == [(1, "a")]


def test_options_that_would_be_ignored_are_refused(project: Project) -> None:
    with pytest.raises(DefinitionError, match="which judges the rows of a feed"):
        made(project, [], contract="discard_rows")
    with pytest.raises(DefinitionError, match="files are kept as they come"):
        shop(project, compression="gzip")
    with pytest.raises(DefinitionError, match="and no bookmark"):
        shop(project, on_failure="absorb")
    with pytest.raises(UnknownName, match='There is no on_failure mode "absorbs"'):
        p = project.pipeline()

        @p.source(on_failure="absorbs")
        def changes(bookmark: Any) -> Any:
            yield {}
