"""`tidemill data deliver`, `tidemill data deliveries`, and what `tidemill run` says of what it delivers."""

from __future__ import annotations

import json

import duckdb
import pytest

from harness.commands import CommandLine

SHOP = """
import tidemill as tm

p = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")


@p.source
def orders(interval):
    yield [{"id": 1, "day": interval.ds}]


p.deliver("orders", to="warehouse")
"""
AWAY = "postgresql://me:hidden-99@127.0.0.1:1/shop"


@pytest.fixture
def shop(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    cli.write("pipelines/shop.py", SHOP)
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", "duckdb:///warehouse.db")
    return cli


def arrived(shop: CommandLine) -> int:
    with duckdb.connect(str(shop.folder / "warehouse.db")) as connection:
        found = connection.execute("SELECT count(*) FROM shop.orders").fetchone()
    assert found is not None
    return int(found[0])


def test_a_run_delivers_and_what_fails_is_told_kept_and_done_later(
    shop: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = shop("-q", "run", "shop", "2026-01-01..2026-01-02")
    assert "delivered  shop to warehouse  1 table  2 rows" in done.out
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", AWAY)
    away = shop("-q", "run", "shop", "2026-01-03")
    assert away.exit_code == 0, "the run is published"
    assert "published, not delivered  shop to warehouse  try 1" in away.err
    assert "again:  tidemill data deliver shop --to warehouse" in away.err
    assert "hidden-99" not in away.err
    listed = json.loads(shop("data", "deliveries", "--json").out)["deliveries"]
    assert [(one["state"], one["tries"], one["behind"]) for one in listed] == [("failing", 1, ["shop.orders"])]
    assert "hidden-99" not in json.dumps(listed)
    assert shop("data", "deliver").exit_code == 3
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", "duckdb:///warehouse.db")
    assert shop("data", "deliver", "shop", "--to", "warehouse").out == "delivered  shop to warehouse  1 table  1 row"
    assert arrived(shop) == 3
    assert "delivered" in shop("data", "deliveries").out
    result = json.loads(shop("run", "shop", "2026-01-03", "--json").out)
    assert [(one["state"], one["rows"]) for one in result["deliveries"]] == [("delivered", 1)]
    assert arrived(shop) == 3


def test_what_was_published_before_a_run_of_several_failed_is_delivered(shop: CommandLine) -> None:
    broken = SHOP.replace("    yield", "    if interval.ds == '2026-01-02':\n        raise ValueError(7)\n    yield")
    shop.write("pipelines/shop.py", broken)
    assert shop("-q", "run", "shop", "2026-01-01..2026-01-02").exit_code == 1
    assert arrived(shop) == 1


def test_commands_say_what_is_wrong(shop: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "deliver(" in shop("data", "deliveries").err, "nothing was published yet"
    nothing = shop("data", "deliver", "--to", "elsewhere")
    assert nothing.exit_code == 2
    assert 'No pipeline of the project delivers anything to "elsewhere".' in nothing.err
    monkeypatch.setenv("TIDEMILL_CONN_WAREHOUSE", "telegraph://somewhere")
    shop("-q", "run", "shop", "2026-01-01")
    wrong = shop("data", "deliver")
    assert wrong.exit_code == 2
    assert 'is of kind "telegraph", and no destination is.' in wrong.err
    assert "one of: duckdb, postgresql, postgres, redshift, file, s3, kafka" in wrong.err
    monkeypatch.delenv("TIDEMILL_CONN_WAREHOUSE")
    assert "set TIDEMILL_CONN_WAREHOUSE=" in shop("data", "deliver").err
