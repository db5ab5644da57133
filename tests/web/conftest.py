"""One installation of `tidemill up` for the browser tests of a file, and a browser; each test has its own page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from harness import services
from harness.browser import CannotStart, chromium
from harness.installation import Installation
from harness.webapi import Api

PIPELINES = {
    "sales": """
        import polars as pl
        import tidemill as tm

        sales = tm.Pipeline("sales", schedule="@daily", start="2026-01-01", catchup=False, owner="ada", tags=["money"])
        orders = sales.files("feeds/{{ ds }}.csv", name="orders")
        orders.expect(tm.between("amount", 0, 1000))


        @sales.table(key="id", write="upsert")
        def latest(orders):
            "The newest state of each order."
            return orders.select("id", "customer", "amount")
        """,
    "jobs": """
        import pathlib
        import time

        import tidemill as tm

        with tm.DAG("jobs", schedule=None, params={"size": tm.Param(3, type="integer", minimum=1)}) as dag:

            @tm.task
            def prepare(params=None):
                print("prepared", params["size"])
                return params["size"]

            @tm.task
            def work(size):
                for number in range(size):
                    print(f"step {number} <script>document.title = 'hacked'</script>")
                if not pathlib.Path("repaired").exists():
                    raise ValueError("the scale is broken")

            @tm.task
            def clean():
                print("cleaned")

            work(prepare()) >> clean()
        """,
    "talk": """
        import pathlib
        import time

        import tidemill as tm

        with tm.DAG("talk", schedule=None) as dag:

            @tm.task
            def speak():
                print("one")
                while not pathlib.Path("enough").exists():
                    time.sleep(0.05)
                print("two")

            speak()
        """,
    "clicks": """
        import tidemill as tm

        clicks = tm.Pipeline("clicks")


        @clicks.stream(tm.topic("clicks", {"page": "string", "ms": "long"}), to=tm.topic("slow"))
        def slow(f):
            return f.filter(f["ms"] > 100)
        """,
}


@dataclass
class Site:
    """A running installation: what pages show of it, and what is really there."""

    installation: Installation
    api: Api

    @property
    def folder(self) -> Path:
        return self.installation.folder

    def address(self, path: str) -> str:
        """Of a page."""
        return self.api.url + path


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`tidemill up`, as a user starts it."""
    made = Installation(tmp_path_factory.mktemp("site") / "shop", **PIPELINES)
    settings = made.folder / "tidemill.toml"
    settings.write_text(settings.read_text().replace("enabled = false", "port = 0"))
    feeds = made.folder / "feeds"
    feeds.mkdir()
    for day, amount in (("01", 5), ("02", 7), ("03", 777)):
        (feeds / f"2026-01-{day}.csv").write_text(f"id,customer,amount\n1,Ada,{amount}\n2,Max,{amount + 1}\n")
    (feeds / "2026-01-04.csv").write_text("id,customer,amount\n1,Ada,5000\n")
    made.up()
    try:
        log = made.folder / "up.log"
        made.wait(lambda: re.search(r"http://\S+?(?=/api)", log.read_text()), 60)
        found = re.search(r"http://\S+?(?=/api)", log.read_text())
        assert found is not None
        api = Api(found[0])
        made.wait(lambda: len(api.get("pipelines")["pipelines"]) == len(PIPELINES), 60)
        yield Site(made, api)
    finally:
        made.close()


# For the tests of a file: while Playwright is there, no other event loop runs in this process.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    try:
        with chromium() as made:
            yield made
    except CannotStart as error:
        services.missing("Chromium", str(error))


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that fails its test where a script of it fails, or the policy refuses something."""
    services.note_used(request, "Chromium", browser.version)
    context = browser.new_context(
        viewport={"width": 1360, "height": 900}, color_scheme=getattr(request, "param", "light")
    )
    made = context.new_page()
    wrong: list[str] = []
    made.on("pageerror", lambda error: wrong.append(str(error)))
    # A browser notes each answer that is no success; what the pages make of those is the tests' affair.

    def noted(said: ConsoleMessage) -> None:
        if said.type == "error" and not re.search("status of (401|409|422)|net::ERR_", said.text):
            wrong.append(said.text)

    made.on("console", noted)
    yield made
    context.close()
    assert wrong == []
