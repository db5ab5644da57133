"""Data by hand: SQL with a mouse and keys, rows by conditions, raw files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from harness.browser import violations
from harness.project import Project
from harness.webapi import serving

#: Milliseconds that the answer to a query may take on a busy computer: each has a process of its own.
SLOW = 200_000


@dataclass
class Shop:
    """A project that is served, without schedulers: nothing runs while it is looked at."""

    folder: Path
    url: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Two days of orders; the second file has a column more."""
    project = Project(tmp_path_factory.mktemp("data") / "shop")
    sales = project.pipeline("sales")
    sales.files("feeds/{{ ds }}.csv", name="orders")
    feeds = project.root / "feeds"
    feeds.mkdir()
    (feeds / "2026-01-01.csv").write_text("id,customer,amount\n1,Ada,5\n2,Max,6\n")
    (feeds / "2026-01-02.csv").write_text("id,customer,amount,note\n1,Ada,7,\n2,<b>Max,8,gift\n")
    assert all(project.run(sales, day).ok for day in ("2026-01-01", "2026-01-02"))
    with serving(project.settings) as api:
        yield Shop(project.root, api.url)
    project.close()


def test_sql_is_written_run_shared_stopped_and_downloaded(shop: Shop, page: Page, tmp_path: Path) -> None:
    page.set_default_timeout(SLOW)
    page.goto(f"{shop.url}/data")
    page.get_by_role("link", name="SQL", exact=True).click()
    sql, result = page.locator("#sql"), page.locator("section.result")
    expect(result).to_contain_text("Nothing was asked yet")
    sql.fill("SELECT max() AS most, '<img src=x onerror=alert(1)>' AS html\nFROM sales.orders")
    sql.evaluate("(field) => field.setSelectionRange(11, 11)")
    page.get_by_text("sales.orders", exact=True).click()
    page.get_by_role("button", name=re.compile("^amount")).click()
    expect(sql).to_have_value(re.compile(r"^SELECT max\(amount\)"))
    sql.press("Control+Enter")
    expect(result.locator("tbody td").first).to_have_text("8", timeout=SLOW)
    expect(result.locator("tbody td").nth(1)).to_have_text("<img src=x onerror=alert(1)>")
    expect(result).to_contain_text("1 row")
    assert violations(page) == []
    with page.expect_download(timeout=SLOW) as begun:
        page.get_by_role("link", name="CSV").click()
    begun.value.save_as(tmp_path / "found.csv")
    assert (tmp_path / "found.csv").read_text().splitlines() == ["most,html", "8,<img src=x onerror=alert(1)>"]
    # The address is the query: whoever opens it sees it, and runs nothing.
    page.goto(page.url)
    expect(sql).to_have_value(re.compile(r"^SELECT max\(amount\)"))
    expect(result).to_contain_text("Nothing was asked yet")
    sql.fill("SELECT id\nFORM sales.orders x y")
    page.get_by_role("button", name="Run").click()
    wrong = result.get_by_role("alert")
    expect(wrong).to_contain_text(re.compile("SQL syntax error.*line 2, column .*FROM", re.DOTALL), timeout=SLOW)
    sql.fill("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")
    sql.press("Control+Enter")
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_enabled()
    expect(result).to_contain_text("Running")
    stop.click()
    expect(result).to_have_text("Stopped.")
    expect(stop).to_be_disabled()
    page.go_back()
    expect(sql).to_have_value(re.compile("FORM"))


def test_rows_are_narrowed_by_a_form_and_lead_to_their_raw_file(shop: Shop, page: Page, tmp_path: Path) -> None:
    page.set_default_timeout(SLOW)
    page.goto(f"{shop.url}/data/sales.orders")
    condition = page.locator(".condition").first
    condition.get_by_label("Column").select_option("amount")
    condition.get_by_label("Comparison").select_option("gt")
    condition.get_by_label("Value").fill("dear")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("alert")).to_contain_text('"dear" is no value of "amount"')
    page.locator(".condition").first.get_by_label("Value").fill("5")
    page.get_by_role("button", name="Filter").click()
    rows = page.locator("table.rows tbody tr")
    expect(rows).to_have_count(3)
    page.get_by_role("link", name="amount", exact=True).click()
    page.get_by_role("link", name=re.compile("^amount ▲")).click()
    expect(page.locator("th[aria-sort=descending]")).to_contain_text("amount")
    expect(rows.first).to_contain_text("8")
    assert "column=amount&is=gt&value=5" in page.url
    assert violations(page) == []
    rows.first.locator("a[href^='/batches/']").click()
    with page.expect_download() as begun:
        page.get_by_role("link", name="feeds/2026-01-02.csv", exact=True).click()
    begun.value.save_as(tmp_path / begun.value.suggested_filename)
    assert (tmp_path / "2026-01-02.csv").read_text() == (shop.folder / "feeds" / "2026-01-02.csv").read_text()
    page.goto(f"{shop.url}/data/sales.orders?view=schema")
    expect(page.locator("tr", has_text="note string").get_by_role("link")).to_have_text("2")
