"""Taps from the package index, unmodified: meltanolabs-tap-postgres, and tap-rest-api-msdk against a web service."""

from __future__ import annotations

import json

import psycopg
import pytest

from harness.api import Api, Call, Said, serving
from harness.project import Project
from harness.realtaps import POSTGRES, REST, with_taps
from tidemill import sources

pytestmark = pytest.mark.slow

ORDERS = """
    CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(12,2), note text, hidden text, tags jsonb,
        day date, updated_at timestamptz NOT NULL);
    CREATE TABLE items (item text, pieces int);
    INSERT INTO orders VALUES
        (1, 12.50, 'first', 'x', '{"a": 1}', '2026-01-01', '2026-01-01T10:00:00Z'),
        (2, 99999999.95, NULL, 'x', NULL, NULL, '2026-01-01T11:00:00Z');
    INSERT INTO items VALUES ('nail', 900), ('saw', 3)
"""


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.mark.postgres
def test_meltanolabs_tap_postgres(project, postgres, monkeypatch):
    """Incremental by a column, beside a table that comes whole; a field left out; a second batch takes what is new."""
    with_taps(project.root, POSTGRES)
    url = postgres.new_database()
    monkeypatch.setenv("SHOP_URL", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ORDERS)
    shop = project.pipeline("shop")
    for each in sources.singer(
        POSTGRES,
        config={"sqlalchemy_url": "env:SHOP_URL", "filter_schemas": ["public"]},
        select=["public-orders.*", "!public-orders.hidden", "public-items"],
        metadata={
            "public-orders": {"replication-method": "INCREMENTAL", "replication-key": "updated_at"},
            "public-items": {"replication-method": "FULL_TABLE"},
        },
        key={"public-orders": "id"},
    ):
        shop.source(each)
    report = project.run(shop, "2026-01-01")
    assert report.ok, report.error
    found = project.rows(
        "select id, total, note, day::varchar as day, updated_at::varchar as at_ from shop.public_orders order by id"
    )
    assert found == [
        {"id": 1, "total": 12.5, "note": "first", "day": "2026-01-01", "at_": "2026-01-01 10:00:00+00"},
        {"id": 2, "total": 99999999.95, "note": None, "day": None, "at_": "2026-01-01 11:00:00+00"},
    ]  # fmt: skip
    columns = {row["column_name"] for row in project.rows("describe select * from shop.public_orders")}
    assert "hidden" not in columns
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE orders SET total = 13, updated_at = '2026-01-02T10:00:00Z' WHERE id = 1")
        connection.execute("DELETE FROM items WHERE item = 'saw'")
    assert project.run(shop, "2026-01-02").ok
    assert [float(row["total"]) for row in project.rows("select total from shop.public_orders order by id")] == [
        13.0, 99999999.95,
    ]  # fmt: skip
    assert project.rows("select item, pieces from shop.public_items") == [{"item": "nail", "pieces": 900}]
    with project.services.metadata.read() as tx:
        bookmark = tx.bookmarks.get("shop", "public_orders").value
    assert "2026-01-02" in json.dumps(bookmark)
    with project.services.metadata.read() as tx:
        manifest = tx.archive.get(2, "public_orders")
    assert manifest.rows is not None
    assert manifest.rows <= 2  # the batch asked from where the first one ended


def test_tap_rest_api_msdk(project):
    """Its state is incremental: the service is asked from the greatest `updated_at` of the batch before."""
    with_taps(project.root, REST)
    orders = [{"id": i, "total": i / 2, "updated_at": f"2026-01-01T{i:02d}:00:00Z"} for i in range(1, 9)]
    asked: list[str] = []

    def answer(call: Call) -> Said:
        since = call.one("since")
        asked.append(since)
        return Said([order for order in orders if order["updated_at"] >= since])

    with serving(Api(answer)) as api:
        shop = project.pipeline("shop")
        for each in sources.singer(
            REST,
            config={
                "api_url": api.url,
                "streams": [
                    {"name": "orders", "path": "/orders", "records_path": "$[*]", "primary_keys": ["id"],
                     "replication_key": "updated_at", "start_date": "2026-01-01T00:00:00Z",
                     "source_search_field": "since", "source_search_query": "$last_run_date"},
                ],
            },
            select=["orders"],
            key={"orders": "id"},
        ):  # fmt: skip
            shop.source(each)
        report = project.run(shop, "2026-01-01")
        assert report.ok, report.error
        assert project.rows("select count(*) as n, sum(total) as total from shop.orders") == [{"n": 8, "total": 18.0}]
        orders.append({"id": 9, "total": 100, "updated_at": "2026-01-02T01:00:00Z"})
        before = len(asked)
        assert project.run(shop, "2026-01-02").ok
        assert project.rows("select count(*) as n, sum(total) as total from shop.orders") == [{"n": 9, "total": 118.0}]
    assert any("08:00" in since for since in asked[before:]), asked
