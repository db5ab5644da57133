"""`tidemill data`: tables, snapshots, batches, garbage."""

from __future__ import annotations

import hashlib
import re


def test_ls_lists_tables_with_rows_write_mode_and_last_batch(published):
    result = published("data", "ls")
    assert (
        result.out
        == """\
table  rows  write  key  last batch  changed
shop.clean_orders  5  upsert  order_id  2  TIME
shop.orders  7  append  2  TIME
shop.revenue_by_country  3  replace  2  TIME"""
    )
    assert result.err == "1 input table of upsert and history tables not listed: --all"
    assert "shop.clean_orders__input  6  append" in published("data", "ls", "--all").out


def test_ls_of_an_empty_project_says_what_to_do(shop):
    result = shop("data", "ls")
    assert (result.stdout, result.err) == ("", "no table is on main yet; try: tidemill run PIPELINE")


def test_ls_as_json(published):
    told = published("data", "ls", "--json").object
    assert told["branch"] == "main"
    assert next((t["table"], t["rows"], t["write"], t["key"], t["last_batch"]) for t in told["tables"]) == (
        "shop.clean_orders", 5, "upsert", ["order_id"], 2,
    )  # fmt: skip


def test_show_gives_columns_and_rows(published):
    result = published("data", "show", "revenue_by_country")
    assert (
        result.out
        == """\
table  shop.revenue_by_country
branch  main
rows  3
write  replace
last batch  2

column  type
country  string
orders  long
revenue  double
_batch_id  long
_loaded_at  timestamptz

country  orders  revenue  _batch_id  _loaded_at
NO  3  42.4  2  TIME
SE  1  24.0  2  TIME
DK  1  18.0  2  TIME"""
    )


def test_show_says_how_many_rows_there_are(published):
    assert "2 of 7 rows shown" in published("data", "show", "orders", "--limit", "2").err
    told = published("data", "show", "orders", "--limit", "2", "--json").object
    assert (told["rows"], len(told["shown"])) == (7, 2)


def test_show_of_a_table_that_is_not_there(published):
    result = published("data", "show", "clean_order")
    assert result.exit_code == 2
    assert result.err.splitlines() == [
        'error: There is no table "clean_order".',
        '  at: branch "main"',
        '  try: did you mean "shop.clean_orders"?',
    ]


def test_history_lists_snapshots_that_query_reads(published):
    result = published("data", "history", "orders")
    assert result.out.splitlines()[:3] == [
        "snapshot  at  change  batch  added  removed  rows",
        "SNAPSHOT  TIME  batch  2  3  -  7",
        "SNAPSHOT  TIME  batch  1  4  -  4",
    ]
    oldest = published("data", "history", "orders", "--json").object["snapshots"][-1]["snapshot_id"]
    assert published("query", "select count(*) as n from orders", "--at", str(oldest)).stdout == "n\n4\n"
    command = re.search(r"next: tidemill (query) \"(.+)\" (--at) (\d+)", result.stdout)
    assert published(*command.groups()).exit_code == 0


def test_batches_lists_the_newest_first(published):
    result = published("data", "batches")
    assert (
        result.out
        == """\
batch  pipeline  interval  state  tries  rows  extracted  archived  loaded  published
    2  shop  2026-01-02  published  1  3  TIME  +SECONDS  +SECONDS  +SECONDS
    1  shop  2026-01-01  published  1  4  TIME  +SECONDS  +SECONDS  +SECONDS
next: tidemill data batches 2"""
    )


def test_batches_of_one_pipeline_and_a_limit(published):
    assert len(published("data", "batches", "shop", "--json").object["batches"]) == 2
    assert len(published("data", "batches", "--limit", "1", "--json").object["batches"]) == 1
    assert "the newest 1; older ones: --limit 0" in published("data", "batches", "--limit", "1").err
    wrong = published("data", "batches", "shpo")
    assert wrong.err == 'error: There is no pipeline with batches "shpo".\n  try: did you mean "shop"?'


def test_one_batch_is_shown_with_its_archive_tasks_checks_and_tables(published):
    result = published("data", "batches", "1")
    digest = hashlib.sha256((published.folder / "feeds" / "2026-01-01" / "orders.csv").read_bytes()).hexdigest()
    lines = result.out.splitlines()
    assert lines[:3] == ["batch  1", "pipeline  shop 2026-01-01", "state  published, 1 attempt"]
    tables = [line for line in lines if line.startswith("table")]
    assert tables == ["table  shop.clean_orders", "table  shop.orders", "table  shop.revenue_by_country"]
    assert f"shop/orders/dt=2026-01-01/batch=1/a1-0000-orders.csv  199 B  4  1  {digest}" in lines
    assert "load.orders  success  4  -  SECONDS" in lines
    assert "unique(order_id)  shop.clean_orders  passed  error  0  3  3 rows" in lines
    assert lines[-1] == "next: tidemill branch revert 1"


def test_one_batch_as_json(published):
    told = published("data", "batches", "1", "--json").object
    (manifest,) = told["archive"]
    assert manifest["parts"][0]["name"] == "feeds/2026-01-01/orders.csv"
    assert (manifest["rows"], manifest["rejected"], manifest["schema"]["order_id"]) == (4, 0, "long")
    assert [r["state"] for r in told["runs"]] == ["success"]
    assert {c["name"]: c["passed"] for c in told["checks"]} == {
        "not_null(order_id, country)": True, "between(quantity, 1, 1000)": True, "unique(order_id)": True,
    }  # fmt: skip
    assert told["tables"] == ["shop.clean_orders", "shop.orders", "shop.revenue_by_country"]


def test_a_batch_that_is_not_there(published):
    result = published("data", "batches", "9")
    assert (result.exit_code, result.err) == (2, 'error: There is no batch "9".\n  try: known: 1, 2')


def test_failing_rows_where_nothing_failed(published):
    assert published("data", "show", "clean_orders", "--failing").stdout == "no check of shop.clean_orders failed\n"


def test_vacuum_keeps_what_is_in_use(filled):
    before = filled("query", "select * from clean_orders order by 1").stdout
    files = {f for f in (filled.folder / ".tidemill" / "lake").rglob("*") if f.is_file()}
    done = filled("data", "vacuum", "--grace", "0", "--keep", "1s", "--json").object
    left = {f for f in (filled.folder / ".tidemill" / "lake").rglob("*") if f.is_file()}
    assert done["deleted"] == len(files - left)
    assert filled("query", "select * from clean_orders order by 1").stdout == before
    assert filled("data", "vacuum").out.splitlines()[0].startswith("kept  ")


def test_vacuum_with_a_longer_keep_after_one_with_a_shorter(filled):
    """What is gone is gone: the next vacuum does not look for it, and who reads it is told."""
    assert filled("-q", "run", "shop", "2026-01-02").exit_code == 0
    assert filled("data", "vacuum", "--grace", "0", "--keep", "0", "--json").object["deleted"] > 0
    assert filled("data", "vacuum", "--keep", "7d").exit_code == 0
    first = "select published_at + interval '1 millisecond' as t from tidemill.batches"
    result = filled("query", "from orders", "--at", filled("query", first, "--json").object["rows"][0]["t"])
    assert result.exit_code == 1
    assert 'error: A file of this version of "shop.orders" is gone' in result.err


def test_a_batch_that_failed_in_the_users_code_keeps_the_line(filled):
    file = filled.folder / "pipelines" / "shop.py"
    file.write_text(file.read_text().replace("    return orders", "    {}['nope']\n    return orders"))
    assert filled("-q", "run", "shop", "2026-01-02").exit_code == 1
    lines = filled("data", "batches", "2").out.splitlines()
    at = lines.index("error: KeyError: 'nope'")
    assert lines[at + 1] == "  at: pipelines/shop.py:14, in clean_orders"
    assert "build.clean_orders  failed  -  -  SECONDS" in lines, "the error is not told twice"


def test_a_failed_branch_is_offered_until_its_batch_is_mended(filled):
    file = filled.folder / "pipelines" / "shop.py"
    good = file.read_text()
    file.write_text(good.replace("    return orders", "    {}['nope']\n    return orders"))
    assert filled("-q", "run", "shop", "2026-01-02").exit_code == 1
    assert filled("branch", "ls").out.splitlines()[-1] == "next: tidemill branch diff batch-2"
    file.write_text(good)
    assert filled("-q", "run", "shop", "2026-01-02").exit_code == 0
    assert "next:" not in filled("branch", "ls").out
