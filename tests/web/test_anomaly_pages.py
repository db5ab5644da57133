"""Figures that are far from usual: the same by the API, the command, here and by a server, and on the Quality page."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Page, expect
from starlette.requests import Request

from harness.browser import violations
from harness.project import Project
from harness.webapi import Api, serving
from tidemill.authoring import registry
from tidemill.cli.main import root
from tidemill.model.access import LOCAL, Principal, Role
from tidemill.wiring.parsing import parse_once
from tidemill.wiring.project import load_pipelines

SHOP = """
from datetime import timedelta

import tidemill as tm

shop = tm.Pipeline("shop", schedule="@daily", start="2026-01-01", end="2026-02-01")


@shop.source
def orders(interval):
    day = interval.start.day
    bad = day == 11
    for number in range(20 if bad else 100 + day % 3):
        late = timedelta(hours=30 if bad else 1, minutes=day % 5)
        mail = None if number < (5 if bad else 1) else "a"
        yield {"id": day * 1000 + number, "mail": mail, "at": interval.end - late}


orders.expect(
    tm.not_null("mail", severity="warn", name="<b>mail"), tm.fresh_within("at", "2d", of="batch"),
    tm.row_count(1, name="any"),
)
"""
DAYS = [f"2026-01-{day:02}" for day in range(1, 12)]
PEOPLE = {"of-others": Principal("of-others", Role.NONE, {"others": Role.VIEWER})}


def identify(request: Request) -> Principal | None:
    name = request.headers.get("x-test-user")
    return LOCAL if name is None else PEOPLE[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's."""
    return tmp_path_factory.mktemp("unusual")


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[Api]:
    """Ten days like each other, and one with few rows, many nulls and old times. Nothing of it fails a run."""
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "shop.py").write_text(SHOP)
    project = Project(folder)
    (folder / "tidemill.toml").write_text(f'[project]\nname = "{project.settings.name}"\n')
    try:
        parse_once(project.settings)
        shop = load_pipelines(project.settings)["shop"]
        assert all(project.run(shop, day).ok for day in DAYS)
        with serving(project.settings, identify) as made:
            yield made
    finally:
        project.close()
        registry.clear()


def test_the_last_day_is_unlike_those_before(api: Api) -> None:
    listed = api.get("checks/anomalies")
    told = {(one["check"], one["metric"]): one for one in listed["anomalies"]}
    assert told.keys() == {(None, "rows"), ("<b>mail", "failing"), ("fresh_within(at, 2 days, 0:00:00)", "age")}
    assert all(one["newest"] and one["when"] == DAYS[-1] for one in told.values())
    assert (told[None, "rows"]["value"], told["<b>mail", "failing"]["value"]) == (20, 0.25)
    # Rows of the whole table grow by a hundred a day, which is usual.
    assert (listed["judged"], listed["next"]) == (4, None)
    first = api.get("checks/anomalies", limit=1, table="shop.orders", newest="true")
    rest = api.get("checks/anomalies", limit=2, cursor=first["next"])
    assert [*first["anomalies"], *rest["anomalies"]] == listed["anomalies"]
    shown = api.get("tables/shop.orders/figures")["figures"]
    assert [(one["check"], len(one["values"])) for one in shown] == [
        (None, 11), ("<b>mail", 11), ("any", 11), ("fresh_within(at, 2 days, 0:00:00)", 11),
    ]  # fmt: skip
    assert [one["anomalous"] for one in shown[0]["values"]] == [False] * 10 + [True]
    assert api.get("checks/anomalies", table="shop.none") == {"anomalies": [], "judged": 0, "next": None}
    others = {"x-test-user": "of-others"}
    for query in ({}, {"table": "shop.orders"}):
        assert api.ask("GET", "checks/anomalies", headers=others, **query).data["anomalies"] == []
    assert api.ask("GET", "tables/shop.orders/figures", headers=others).status == 403


def test_commands_tell_it_here_and_there(folder: Path, api: Api) -> None:
    where = (["--project", str(folder)], ["--server", api.url])
    here, there = (CliRunner().invoke(root, ["check", "--results", *words], prog_name="tidemill") for words in where)
    assert (there.exit_code, there.stdout, there.stderr) == (0, here.stdout, here.stderr), here.output
    unusual = here.stdout.partition("\n\n")[2]
    assert re.search(r"shop\.orders +rows +20 +94 to 108 +11 +2026-01-11", unusual), here.stdout
    assert re.search(r"<b>mail +failing rows +25 % +at most 1\.\d+ % +11", unusual), here.stdout
    words = ["check", "nothing", "--results", "--json", *where[0]]
    other = CliRunner().invoke(root, words, prog_name="tidemill")
    assert json.loads(other.stdout) == {"results": [], "anomalies": []}


@pytest.mark.parametrize("page", ["light", "dark"], indirect=True)
def test_the_page_marks_them_and_leads_to_run_and_batch(api: Api, page: Page) -> None:
    page.goto(f"{api.url}/quality")
    unusual = page.locator("section", has=page.get_by_role("heading", name="Unusual"))
    expect(unusual.locator("tbody tr")).to_have_count(3)
    expect(unusual.locator("b")).to_have_count(0)
    assert violations(page) == []
    unusual.get_by_role("link", name="<b>mail").click()
    chart = page.locator("line-chart")
    expect(chart.locator("canvas")).to_be_visible()
    expect(chart).to_have_attribute("aria-label", "failing rows, %, by batch; unusual: 1 of 11")
    assert violations(page) == []
    unusual.get_by_role("link", name="shop.orders").click()
    expect(chart).to_have_attribute("aria-label", "rows, by batch; unusual: 1 of 11")
    batch = api.get("checks/anomalies")["anomalies"][0]["batch_id"]
    expect(unusual.locator(f"a[href='/pipelines/shop?run={batch}']").first).to_be_visible()
    unusual.get_by_role("link", name=str(batch), exact=True).first.click()
    expect(page).to_have_url(f"{api.url}/batches/{batch}")
