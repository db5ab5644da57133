"""`tidemill schema`: what a user sees of revisions, and what a delivery says that finds a schema behind."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from harness.commands import CommandLine

SHOP = """
import tidemill as tm

p = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")


@p.source(columns={"id": "int"})
def orders(interval):
    yield [{"id": 1, "more": interval.ds}] if interval.ds > "2026-01-01" else [{"id": 1}]


p.deliver("orders", to="warehouse")
"""


@pytest.fixture
def shop(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    cli.write("pipelines/shop.py", SHOP)
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", "duckdb:///warehouse.db")
    return cli


def columns(shop: CommandLine) -> list[str]:
    with duckdb.connect(str(shop.folder / "warehouse.db")) as connection:
        return [row[0] for row in connection.execute("DESCRIBE shop.orders").fetchall()]


def test_a_destination_goes_from_deliveries_that_alter_it_to_revisions_that_do(shop: CommandLine) -> None:
    run = shop("-q", "run", "shop", "2026-01-01")
    assert "delivered  shop to warehouse" in run.out, "without a folder, tables are made as ever"
    assert shop("schema", "diff").out == "nothing to change  warehouse"
    empty = shop("schema", "history")
    assert "there are no revisions for warehouse" in empty.err
    first = json.loads(shop("schema", "revision", "-m", "as it is", "--json").out)["revision"]
    assert first["path"].startswith("migrations/warehouse/versions/0001_")
    refused = shop("data", "deliver")
    assert refused.exit_code == 1
    assert f'The schema of "warehouse" lacks revision {first["id"]} (as it is).' in refused.err
    assert "try: tidemill schema upgrade warehouse" in refused.err
    assert shop("schema", "upgrade").out.startswith(f"applied  {first['id']}  warehouse")
    assert shop("data", "deliver").out == "delivered  shop to warehouse  nothing new"
    assert shop("schema", "revision", "-m", "again").out == "nothing to change  warehouse"

    late = shop("-q", "run", "shop", "2026-01-02")
    assert late.exit_code == 0, "the run is published"
    assert '"shop.orders" cannot take what is delivered, and no revision makes it: ALTER TABLE' in late.err
    hint = shop("data", "deliver").err
    assert 'try: tidemill schema revision warehouse -m "...", then tidemill schema upgrade warehouse' in hint
    assert "more" not in columns(shop)
    differs = shop("schema", "diff", "--check")
    assert (differs.exit_code, differs.out.splitlines()[0]) == (1, "+ shop.orders.more DATE")
    second = json.loads(shop("schema", "revision", "warehouse", "-m", "more", "--json").out)["revision"]
    lacks = json.loads(shop("schema", "diff", "--json").out)
    assert lacks["missing_revisions"] == [second["id"]]
    assert "lacks revision" in shop("schema", "revision", "-m", "third").err, "the difference would be the second"
    shown = shop("schema", "upgrade", "--sql").out
    assert 'ALTER TABLE "shop"."orders" ADD COLUMN "more" DATE;' in shown
    assert "more" not in columns(shop), "only shown"
    assert shop("schema", "upgrade", "warehouse", "0002").exit_code == 0
    assert shop("data", "deliver").out == "delivered  shop to warehouse  1 table  1 row"
    listed = json.loads(shop("schema", "history", "--json").out)["revisions"]
    assert [(one["id"], one["applied"]) for one in listed] == [(first["id"], True), (second["id"], True)]

    Path(shop.folder, second["path"]).unlink()
    ahead = shop("data", "deliver")
    assert f"is at revision {second['id']}, of which the project has no file" in ahead.err


def test_mistakes_are_told(shop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = shop("schema", "upgrade")
    assert nothing.exit_code == 2
    assert 'There are no revisions for "warehouse".' in nothing.err
    assert 'There is no destination "warehose"' in shop("schema", "diff", "warehose").err
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", "file:///there")
    files = shop("schema", "diff")
    assert (files.exit_code, '"warehouse" has no schema that a revision could change' in files.err) == (2, True)
    shop.write("pipelines/shop.py", SHOP + 'p.deliver("orders", to="other")\n')
    assert "name one: other, warehouse" in shop("schema", "diff").err
