"""Whole runs over nested and typed feeds: children are tables like any other, replaced with their batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tidemill as tm
from harness.project import Project
from tidemill.authoring.pipeline import Pipeline

DAY = "2026-01-01"


@pytest.fixture
def project(tmp_path: Path) -> Any:
    made = Project(tmp_path)
    yield made
    made.close()


def orders(project: Project, records: list[dict[str, Any]], day: str = DAY) -> None:
    folder = project.root / "feeds"
    folder.mkdir(exist_ok=True)
    (folder / f"{day}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def shop(project: Project, **options: Any) -> Pipeline:
    p = project.pipeline("shop")
    p.files("feeds/{{ ds }}.jsonl", name="orders", flatten=True, **options)
    return p


ITEMS = [{"id": 1, "items": [{"sku": "x", "n": 1}, {"sku": "y", "n": 2}]}, {"id": 2, "items": []}]


def test_parent_and_children_join_by_batch_and_row(project: Project) -> None:
    """Without a key; row numbers begin anew in each batch, so the batch id belongs to the join."""
    p = shop(project)
    for day, records in ((DAY, ITEMS), ("2026-01-02", [{"id": 3, "items": [{"sku": "z", "n": 5}]}])):
        orders(project, records, day)
        assert project.run(p, day).ok
    joined = project.rows("""
        select o.id, i.sku, i.n from shop.orders o
        join shop.orders__items i on i._batch_id = o._batch_id and i._parent_row = o._row order by 1, 2
    """)
    assert [tuple(row.values()) for row in joined] == [(1, "x", 1), (1, "y", 2), (3, "z", 5)]


def test_models_read_children(project: Project) -> None:
    """SQL by ref, frames by argument; they wait for the load, and for the parent's checks."""
    p = shop(project, key="id")
    p.sql(text="select sku, sum(n) as sold from {{ ref('orders__items') }} group by sku", name="sold")

    @p.table(write="append")
    def large(orders__items: Any) -> Any:
        return orders__items.filter(pl.col("n") > 1)

    orders(project, ITEMS)
    report = project.run(p, DAY)
    assert report.ok, report
    assert project.table("shop.sold") == [("x", 1), ("y", 2)]
    assert [row["sku"] for row in project.rows("select sku from shop.large")] == ["y"]


@pytest.mark.parametrize("publish", ["run", "table"])
def test_a_failing_check_of_a_child_keeps_its_parent_from_main(project: Project, publish: str) -> None:
    """They are one load, whichever way it is published."""
    p = shop(project, key="id", publish=publish)
    p.expect("orders__items", [tm.between("n", 0, 10)])
    orders(project, ITEMS)
    assert project.run(p, DAY).ok
    orders(project, [{"id": 3, "items": [{"sku": "z", "n": 99}]}], "2026-01-02")
    report = project.run(p, "2026-01-02")
    assert not report.ok
    assert "check" in str(report.error)
    assert project.rows("select count(*) as n from shop.orders") == [{"n": 2}]
    assert project.rows("select count(*) as n from shop.orders__items") == [{"n": 2}]


def test_a_re_run_replaces_the_rows_of_children(project: Project) -> None:
    """Also those of a child that the new version of the feed has no rows for."""
    p = shop(project, key="id")
    orders(project, [{"id": 1, "items": [{"sku": "x"}], "notes": ["a", "b"]}])
    assert project.run(p, DAY).ok
    orders(project, [{"id": 1, "items": [{"sku": "y"}, {"sku": "z"}]}])
    assert project.run(p, DAY, refetch=True).ok
    assert [row["sku"] for row in project.rows("select sku from shop.orders__items order by sku")] == ["y", "z"]
    assert project.rows("select * from shop.orders__notes") == []


def test_a_table_with_the_name_of_a_child_is_not_touched(project: Project) -> None:
    """`orders__daily` belongs to its own model, not to the source `orders`."""
    p = shop(project, key="id")
    p.sql(text="select count(*) as n from {{ ref('orders') }}", name="orders__daily")
    orders(project, ITEMS)
    assert project.run(p, DAY).ok
    assert project.run(p, DAY).ok
    assert project.table("shop.orders__daily") == [(2,)]


def test_a_child_cannot_take_the_name_of_another_table(project: Project) -> None:
    p = shop(project, key="id")
    p.sql(text="select count(*) as n from {{ ref('orders') }}", name="orders__items")
    orders(project, ITEMS)
    report = project.run(p, DAY)
    assert not report.ok
    assert 'Flattening "shop.orders" would make a table "shop.orders__items"' in str(report.error)


def test_a_record_with_a_bad_item_goes_to_the_quarantine_of_the_parent(project: Project) -> None:
    p = shop(project, key="id")
    orders(project, ITEMS)
    assert project.run(p, DAY).ok
    bad = {"id": 3, "items": [{"sku": "v", "n": 1}, {"sku": "w", "n": "many"}]}
    orders(project, [bad, {"id": 4, "items": [{"sku": "u", "n": 1}]}], "2026-01-02")
    assert project.run(p, "2026-01-02").ok
    assert project.rows("select file, line, raw, error from shop.orders__quarantine") == [
        {
            "file": "feeds/2026-01-02.jsonl",
            "line": 1,
            "raw": json.dumps(bad),
            "error": 'items: n: "many" does not fit long',
        }
    ]
    assert [row["sku"] for row in project.rows("select sku from shop.orders__items order by sku")] == ["u", "x", "y"]


def test_avro_and_parquet_feeds_run(project: Project) -> None:
    """One definition, three formats on three days; types of the table hold for all."""
    folder = project.root / "feeds"
    folder.mkdir()
    (folder / "2026-01-01.csv").write_text("id,name\n1,a\n")
    pq.write_table(pa.table({"id": [2], "name": ["b"]}), folder / "2026-01-02.parquet")
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "id", "type": "int"}, {"name": "name", "type": "string"}],
    }
    with (folder / "2026-01-03.avro").open("wb") as out:
        fastavro.writer(out, schema, [{"id": 3, "name": "c"}])
    p = project.pipeline("shop")
    p.files("feeds/{{ ds }}.*", name="people")
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        assert project.run(p, day).ok
    assert project.table("shop.people") == [(1, "a"), (2, "b"), (3, "c")]


def test_jsonpaths_map_a_feed(project: Project) -> None:
    p = project.pipeline("shop")
    p.files("feeds/{{ ds }}.jsonl", name="orders", jsonpaths={"order_id": "$.id", "skus": "$.items[*].sku"})
    orders(project, ITEMS)
    assert project.run(p, DAY).ok
    assert project.rows("select * from shop.orders") == [
        {"order_id": 1, "skus": ["x", "y"]},
        {"order_id": 2, "skus": []},
    ]
