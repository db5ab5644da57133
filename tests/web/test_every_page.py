"""Every page, light and dark, wide and narrow: nothing is refused, nothing stands in the way of a screen reader."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from harness.browser import violations
from harness.webapi import serving
from tidemill.web.pages import PAGES
from tidemill.web.pages.site import STATIC
from tidemill.wiring.settings import load_settings

from .conftest import Site

WHERE = {
    "{pipeline}": "sales", "{table}": "sales.orders", "{batch_id:int}": "1", "{branch:path}": "look",
    "{stream}": "clicks.slow", "{backfill_id:int}": "1",
    "{topic}": "clicks",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _something_to_see(site: Site) -> None:
    site.api.post("backfills", {"pipeline": "sales", "range": "2026-01-01..2026-01-02", "policy": "all"})
    site.installation.wait(lambda: len(site.installation.published("sales")) >= 2)
    if not any(one["name"] == "look" for one in site.api.get("branches")["branches"]):
        site.installation.command("branch", "create", "look")


def address(path: str) -> str:
    for part, name in WHERE.items():
        path = path.replace(part, name)
    return path


@pytest.mark.parametrize("one", PAGES, ids=lambda one: one.path)
@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_a_page_shows_without_an_obstacle(site: Site, page: Page, one: object) -> None:
    response = page.goto(site.address(address(one.path)))  # type: ignore[attr-defined]
    assert response is not None
    assert response.status == 200
    expect(page.locator("h1")).to_be_visible()
    assert violations(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 400, "a small screen scrolls sideways"


def test_the_grid_and_the_graph_open_a_task_by_keys(site: Site, page: Page) -> None:
    page.goto(site.address("/pipelines/sales"))
    grid = page.locator(".grid-view")
    expect(page.locator("task-graph .node")).not_to_have_count(0)
    grid.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"task=.*run="))
    expect(page.locator("aside h2").nth(1)).to_be_visible()


def test_what_is_drawn_stays_when_the_page_is_made_anew(site: Site, page: Page) -> None:
    page.goto(site.address("/pipelines/sales?view=gantt"))
    expect(page.locator("gantt-chart .bar")).not_to_have_count(0)
    page.evaluate("document.querySelector('gantt-chart svg').dataset.old = 'yes'")
    page.evaluate("document.dispatchEvent(new CustomEvent('tidemill:changed', {detail: new Set(['run'])}))")
    expect(page.locator("gantt-chart svg:not([data-old]) .bar")).not_to_have_count(0)


def test_a_filter_is_in_the_address_and_stays(site: Site, page: Page) -> None:
    page.goto(site.address("/pipelines/sales"))
    rows = page.locator(".grid-view > div")
    expect(rows).to_have_attribute("style", re.compile("height"))
    whole = rows.get_attribute("style")
    assert whole is not None
    page.get_by_label("Filter tasks").fill("load")
    expect(page).to_have_url(re.compile(r"only=load"))
    page.reload()
    expect(page.get_by_label("Filter tasks")).to_have_value("load")
    expect(rows).to_have_attribute("style", re.compile("height"))
    expect(rows).not_to_have_attribute("style", whole)


def test_a_topology_says_how_much_flows(site: Site, page: Page) -> None:
    page.goto(site.address("/streams/clicks.slow"))
    expect(page.locator("task-graph .rate").first).to_have_text(re.compile(r"[\d.]+ a second, [\d,]+ in all"))


def test_search_finds_a_pipeline_by_keys(site: Site, page: Page) -> None:
    page.goto(site.address("/"))
    page.keyboard.press("Control+k")
    page.keyboard.type("sal")
    expect(page.locator("#search [role=option]").first).to_be_visible()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("sales")


def test_a_server_that_is_away_is_told(tmp_path: Path, page: Page) -> None:
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "shop"\n')
    with serving(load_settings(tmp_path)) as api:
        page.goto(f"{api.url}/runs")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator(".connection")).to_be_hidden()
    expect(page.locator(".connection")).to_be_visible()
    expect(page.locator("h1")).to_be_visible()  # what was last known is still there


@pytest.mark.parametrize(
    "path", ["/pipelines/none", "/data/none.at_all", "/batches/99999", "/branches/none", "/nothing"]
)
def test_what_is_not_there_is_said_in_words(site: Site, path: str) -> None:
    found = site.api.ask("GET", path)
    assert found.status == 404
    assert "Traceback" not in str(found.data)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/js/nothing.js", "/static/"]
)
def test_no_path_leads_out_of_the_files(site: Site, path: str) -> None:
    assert site.api.ask("GET", path).status == 404


def test_pages_have_a_strict_policy(site: Site) -> None:
    found = site.api.ask("GET", "/")
    policy = found.headers["content-security-policy"]
    assert "'unsafe" not in policy
    assert "default-src 'none'" in policy
    assert found.headers["x-frame-options"] == "DENY"
    assert "<script>" not in found.data
    assert " style=" not in found.data
    assert " onclick" not in found.data


def test_the_first_page_weighs_little(site: Site) -> None:
    """150 KB at most, compressed, with all that it asks for but icons."""
    found = site.api.ask("GET", "/", headers={"Accept-Encoding": "gzip"})
    total = len(found.content)
    text = site.api.ask("GET", "/").data
    paths = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', text))
    modules = {f"/static/js/{path.name}" for path in (STATIC / "js").glob("*.js")}
    for path in paths | modules:
        answer = site.api.ask("GET", path, headers={"Accept-Encoding": "gzip"})
        assert answer.status == 200, path
        total += len(answer.content)
    assert total <= 150_000
