"""Whole runs of pipelines whose feeds are streams of a Singer tap."""

from __future__ import annotations

import json

import pytest

from harness.project import Project
from harness.taps import WrittenTap, entry, record, schema, state
from tidemill import sources

ORDERS = {"id": "integer", "total": "number", "at": {"type": "string", "format": "date-time"}}


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.fixture
def tap(tmp_path):
    return WrittenTap(tmp_path, [entry("orders", ORDERS), entry("items", ["item"], [])])


def declared(project, tap, select=("orders", "items"), **options):
    pipeline = project.pipeline("shop")
    for each in sources.singer(tap.program, select=list(select), **options):
        pipeline.source(each)
    return pipeline


def test_one_run_of_the_tap_fills_a_table_for_each_stream(project, tap):
    """Two streams, one process: rows, types and the state, which the next run is given."""
    tap.will(
        schema("orders", ORDERS, ["id"]),
        record("orders", id=1, total=1, at="2026-01-01T10:00:00Z"),
        schema("items", {"item": "string"}),
        record("items", item="nail"),
        record("orders", id=2, total=2.5, at="2026-01-01T11:00:00+01:00"),
        state({"bookmarks": {"orders": 2}}),
    )
    tap.will(record("orders", id=2, total=3), record("items", item="saw"), state({"bookmarks": {"orders": 3}}))
    shop = declared(project, tap, key={"orders": "id"})
    report = project.run(shop, "2026-01-01")
    assert report.ok, report
    assert project.rows("select id, total, "at"::varchar as "at" from shop.orders order by id") == [
        {"id": 1, "total": 1.0, "at": "2026-01-01 10:00:00+00"},
        {"id": 2, "total": 2.5, "at": "2026-01-01 10:00:00+00"},
    ]
    assert project.run(shop, "2026-01-02").ok
    assert project.rows("select id, total from shop.orders order by id") == [
        {"id": 1, "total": 1.0}, {"id": 2, "total": 3.0},
    ]  # fmt: skip
    assert project.rows("select item from shop.items order by item") == [{"item": "nail"}, {"item": "saw"}]
    first, second = tap.calls
    assert "state" not in first
    assert second["state"] == {"bookmarks": {"orders": 2}}
    selected = {s["tap_stream_id"]: s["metadata"][0]["metadata"]["selected"] for s in first["catalog"]["streams"]}
    assert selected == {"orders": True, "items": True}
