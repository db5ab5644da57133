"""Columns and what they come from: the command, the API and the Lineage page over one small project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.requests import Request

from harness.browser import violations
from harness.commands import CommandLine
from harness.webapi import Api, serving
from tidemill.model.access import LOCAL, Principal, Role
from tidemill.model.masking import GIVEN
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.settings import load_settings

#: Milliseconds that a page may take on a busy computer.
SLOW = 200_000
#: A frame over a feed, SQL over that (a result without a name among it), a view, Python on rows and on pandas frames, a
#: stream, and a hostile name.
PIPELINE = """
    import tidemill as tm

    shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01")
    orders = shop.files("feeds/{{ ds }}.csv", name="orders")

    @shop.table
    def clean(orders):
        kept = orders.filter(tm.col("amount") > 0)
        return kept.select("id", buyer=tm.col("customer"), total=tm.col("amount") * tm.col("price"))

    @shop.table
    def scored(clean):
        return clean.select("id").map_rows(lambda row: {**row, "score": 1.0}, returns={"id": "long", "score": "double"})

    @shop.table(engine="pandas")
    def pandas(clean):
        return clean[["id"]]

    @shop.table
    def refusing(clean, context):
        raise RuntimeError("only on Mondays, s3cret-lineage")

    shop.sql(text='SELECT buyer, sum(total) AS "<b>spent", count(*) FROM {{ ref("clean") }} GROUP BY 1', name="buyers")
    shop.sql(
        text='''{{ config(materialized="view") }} SELECT * FROM {{ ref("buyers") }} WHERE "<b>spent" > 10''',
        name="good",
    )

    @shop.stream(tm.topic("clicks", {"page": "string", "ms": "long"}), to=tm.topic("slow"))
    def slow_clicks(f):
        return f.filter(f["ms"] > 100).select(address=f["page"])
    """
REFUSES = 'raise RuntimeError("only on Mondays, s3cret-lineage")'
PEOPLE = {"of-others": Principal("of-others", Role.NONE, {"others": Role.VIEWER})}


@dataclass
class Shop:
    """A project that is served."""

    cli: CommandLine
    api: Api


def _identify(request: Request) -> Principal | None:
    name = request.headers.get("x-test-user")
    return LOCAL if name is None else PEOPLE[name]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One day was run, all but the table that refuses to be made."""
    cli = CommandLine(tmp_path_factory.mktemp("lineage"))
    cli.write("tidemill.toml", '[project]\nname = "shop"\n')
    cli.write("pipelines/shop.py", PIPELINE.replace(REFUSES, "return clean"))
    cli.write("feeds/2026-01-01.csv", "id,customer,amount,price\n1,Ada,5,2.5\n2,Max,6,1.0\n")
    ran = cli("run", "shop", "2026-01-01")
    assert ran.exit_code == 0, ran.stderr
    cli.write("pipelines/shop.py", PIPELINE)
    GIVEN.add("s3cret-lineage")
    settings = load_settings(cli.folder)
    parse_once(settings)
    with serving(settings, _identify) as api:
        yield Shop(cli, api)


def _edges(found: dict[str, Any]) -> set[str]:
    return {f"{e['from_table']}.{e['from_column']} {e['kind']} {e['table']}.{e['column']}" for e in found["edges"]}


def test_the_api_tells_which_columns_come_from_which(shop: Shop) -> None:
    found = shop.api.get("lineage/columns", column="SHOP.clean.Total", depth=3)
    assert _edges(found) == {
        "shop.orders.amount computed shop.clean.total",
        "shop.orders.price computed shop.clean.total",
        "shop.clean.total computed shop.buyers.<b>spent",
        "shop.buyers.<b>spent copied shop.good.<b>spent",
        "shop.buyers.<b>spent decides shop.good.buyer",
        "shop.buyers.<b>spent decides shop.good.count_star()",
        # Nobody can tell what pandas does; nothing is told of a function that cannot be called.
        "shop.clean.total unknown shop.pandas.id",
        "shop.clean.total unknown shop.refusing.id",
        "shop.clean.total unknown shop.refusing.buyer",
        "shop.clean.total unknown shop.refusing.total",
    }
    tables = {one["table"]: one for one in found["tables"]}
    assert tables["shop.clean"]["columns"][2] == {"name": "total", "type": "double"}
    assert (tables["shop.good"]["kind"], tables["shop.clean"]["unknown"], found["cut"]) == ("view", "", False)
    assert [one["type"] for one in tables["shop.good"]["columns"]] == ["string", "double", "long"]
    assert tables["shop.pandas"]["unknown"] == "A Python function on pandas frames makes it."
    assert tables["shop.refusing"]["unknown"].endswith("RuntimeError: only on Mondays, ***")

    above = shop.api.get("lineage/columns", table="shop.scored", direction="up")
    assert _edges(above) == {"shop.clean.id unknown shop.scored.id", "shop.clean.id unknown shop.scored.score"}
    assert _edges(shop.api.get("lineage/columns", table="slow")) == {
        "clicks.page copied slow.address", "clicks.ms decides slow.address",
    }  # fmt: skip


def test_what_is_not_there_or_not_to_be_seen_is_told(shop: Shop) -> None:
    missing = shop.api.ask("GET", "lineage/columns", column="shop.clean.totl")
    assert (missing.status, "total" in missing.data["hint"]) == (404, True)
    assert shop.api.ask("GET", "lineage/columns").status == 400
    assert shop.api.ask("GET", "lineage/columns", table="shop.clean", depth=13).status in (400, 422)
    hidden = shop.api.ask("GET", "lineage/columns", headers={"x-test-user": "of-others"}, column="shop.clean.total")
    assert hidden.status == 404
    assert "orders" not in str(hidden.data)


def test_the_command_tells_the_same(shop: Shop) -> None:
    told = shop.cli("data", "lineage", "shop.clean.total", "--up")
    assert "shop.orders.amount  computed  shop.clean.total  double" in told.out
    found = json.loads(shop.cli("--json", "data", "lineage", "shop.buyers", "--down").stdout)
    assert {"from": "shop.buyers.buyer", "to": "shop.good.buyer", "kind": "copied"} in found["edges"]


def test_a_table_opens_its_columns_and_a_column_its_neighbours(shop: Shop, page: Page) -> None:
    page.set_default_timeout(SLOW)
    page.goto(f"{shop.api.url}/lineage")
    columns = page.locator("#columns")
    expect(columns).to_be_hidden()
    page.locator("#lineage .node[aria-label='shop.buyers']").press("Enter")
    expect(columns.get_by_role("heading")).to_have_text("Columns of shop.buyers", timeout=SLOW)
    expect(columns).to_contain_text("computed shop.clean.total")
    assert violations(page) == []
    columns.get_by_role("link", name="<b>spent", exact=True).click()
    rows = page.get_by_role("region", name="Which column comes from which").locator("tbody tr")
    expect(rows.filter(has_text="shop.clean.total")).to_contain_text("computed", timeout=SLOW)
    expect(page.locator("#lineage .edge.decides")).to_have_count(3)
    expect(page.locator("#lineage .node[aria-label='shop.clean.total']")).to_be_visible()
    assert violations(page) == []
    page.locator("#lineage .node[aria-label='shop.clean.total']").press("Enter")
    expect(page.get_by_role("heading", name="Near column shop.clean.total")).to_be_visible(timeout=SLOW)
    assert "column=shop.clean.total" in page.url


def test_without_scripts_it_is_a_list(shop: Shop, browser: Browser) -> None:
    with browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 640}) as context:
        page = context.new_page()
        page.goto(f"{shop.api.url}/lineage?column=shop.good.buyer&depth=2", timeout=SLOW)
        table = page.get_by_role("region", name="Which column comes from which")
        expect(table).to_contain_text("shop.clean.buyer")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
        page.goto(f"{shop.api.url}/lineage?column=shop.nope.x", timeout=SLOW)
        expect(page.get_by_role("alert")).to_contain_text("nope")
