"""Pages of a project whose runs were begun by hand, as a newcomer's are: what they say, and where they lead."""

from __future__ import annotations

import re

from harness.commands import CommandLine
from harness.webapi import Api, serving
from tidemill.web.pages.words import told_from_now
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.settings import load_settings

SHOP = """
    import tidemill as tm

    shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")

    @shop.source
    def orders(interval):
        yield {"id": 1, "price": 5 if interval.ds == "2026-01-01" else -7, "paid": True}

    @shop.table(key="id", write="upsert")
    def latest(orders):
        return orders.select("id", "price", "paid")

    latest.expect(tm.col("price") > 0, name="price_is_positive")
"""


def test_runs_begun_by_hand_have_all_that_pages_show(cli: CommandLine) -> None:
    cli.write("pipelines/shop.py", SHOP)
    assert [cli("run", "shop", day).exit_code for day in ("2026-01-01", "2026-01-02")] == [0, 1]
    settings = load_settings(cli.folder)
    parse_once(settings)
    with serving(settings) as api:
        _sees_why(api)
        _sees_what_changed(api)
        hits = [(one["kind"], one["name"], one["pipeline"]) for one in api.get("search", q="2")["hits"]]
        assert hits[:2] == [("batch", "2", "shop"), ("run", "2", "shop")]
        assert 'href="/pipelines/shop?run=2"' in api.ask("GET", "/").data
        assert "Jan 2026" in api.ask("GET", "/runs", pipeline="shop").data
        dark = api.ask("GET", "/", headers={"Cookie": "tidemill_theme=dark"}).data
        assert '<html lang="en" data-theme="dark">' in dark
        assert "data-theme=" not in api.ask("GET", "/", headers={"Cookie": 'tidemill_theme="><script>'}).data


def _sees_why(api: Api) -> None:
    """The graph is that of the newest definition, and the rows that failed are a click away."""
    page = api.ask("GET", "/pipelines/shop?run=2").data
    graph = re.search(r'<task-graph [^>]*src="([^"]+)"', page)
    assert graph is not None
    assert {"build.latest", "check.latest"} <= {node["id"] for node in api.get(graph[1])["nodes"]}
    failing = re.search(r'href="([^"]+)">Rows that failed', page)
    assert failing is not None
    assert "-7" in api.ask("GET", failing[1].replace("&amp;", "&")).data


def _sees_what_changed(api: Api) -> None:
    """Column by column: of a changed row those that differ, with what was there before."""
    page = api.ask("GET", "/branches/batch-2").data
    changed = page[page.index('<tr class="diff-changed">') :].partition("</tr>")[0]
    cells = [re.sub(r"<[^>]+>", "", f"<td{cell}").strip() for cell in changed.split("<td")[1:]]
    assert cells == ["changed", "1", "5 → -7"]


def test_times_are_told_from_now() -> None:
    told = {
        -0.4: "0 s ago",
        59: "in 59 s",
        -60: "1 min ago",
        7199: "in 1 h",
        -172_799: "47 h ago",
        172_800: "in 2 days",
    }
    assert {seconds: told_from_now(seconds) for seconds in told} == told
