"""The ten things that people come for, done with a mouse in a browser; what they did is looked up behind the pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from harness.browser import violations
from tidemill.model.run import RunState
from tidemill.ports.tasklogs import TryPlace
from tidemill.wiring.performing import open_logs
from tidemill.wiring.settings import load_settings

from .conftest import Site


def confirm(page: Page, name: str) -> None:
    """Press the button that does what the preview says."""
    dialog = page.locator("#doing")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name=name, exact=True).click()
    expect(dialog).not_to_be_visible()


def test_a_failure_and_its_cause_are_seen_at_once_and_repaired_by_two_clicks(site: Site, page: Page) -> None:
    run = site.api.post("pipelines/jobs/runs", {"run_key": "to-repair"})["run"]["run_id"]
    shop = site.installation
    shop.wait(lambda: shop.runs("jobs").get(run) is RunState.FAILED)

    page.goto(site.address("/"))
    failed = page.locator(".card", has_text="jobs failed")
    expect(failed).to_contain_text("the scale is broken")
    failed.get_by_role("link", name="See why").click()
    expect(page.locator("aside .error").first).to_contain_text("the scale is broken")
    expect(page.locator("aside h2", has_text="work")).to_be_visible()
    log = page.locator("task-log")
    expect(log).to_contain_text("step 2 <script>document.title = 'hacked'</script>")
    expect(page).to_have_title(re.compile("^jobs"))

    (site.folder / "repaired").touch()
    page.get_by_role("button", name="Run from here").click()
    expect(page.locator("#doing")).to_contain_text("clean")
    confirm(page, "Run from here")
    again = shop.wait(lambda: max(shop.runs("jobs")) if max(shop.runs("jobs")) > run else None)
    shop.wait(lambda: shop.runs("jobs")[again] is RunState.SUCCESS)
    expect(page).to_have_url(re.compile(f"run={again}"))
    expect(page.locator(".title .state")).to_have_text("success", timeout=10_000)
    assert {one.task: one.state for one in shop.tasks(again)} == dict.fromkeys(("prepare", "work", "clean"), "success")


def test_a_run_is_triggered_with_a_parameter(site: Site, page: Page) -> None:
    (site.folder / "repaired").touch()
    page.goto(site.address("/pipelines/jobs"))
    page.get_by_role("button", name="Run now…").click()
    size = page.get_by_label("size")
    expect(size).to_have_value("3")
    size.fill("5")
    page.locator("#trigger").get_by_role("button", name="Preview").click()
    confirm(page, "Run")
    shop = site.installation
    shop.wait(lambda: any(run["conf"].get("size") == 5 for run in site.api.get("runs", pipeline="jobs")["runs"]))
    (found,) = [run for run in site.api.get("runs", pipeline="jobs")["runs"] if run["conf"].get("size") == 5]
    shop.wait(lambda: shop.runs("jobs")[found["run_id"]] is RunState.SUCCESS)


def test_a_value_that_a_parameter_does_not_take_is_told(site: Site, page: Page) -> None:
    before = len(site.installation.runs("jobs"))
    page.goto(site.address("/pipelines/jobs"))
    page.get_by_role("button", name="Run now…").click()
    page.get_by_label("size").evaluate("(field) => { field.removeAttribute('min'); field.value = '0'; }")
    page.locator("#trigger").get_by_role("button", name="Preview").click()
    expect(page.locator(".toast.bad")).to_contain_text("size")
    assert len(site.installation.runs("jobs")) == before


def test_a_log_is_followed_while_it_is_written(site: Site, page: Page) -> None:
    run = site.api.post("pipelines/talk/runs", {"run_key": "talk"})["run"]["run_id"]
    shop = site.installation
    shop.wait_for_task(run, "speak", "running")
    page.goto(site.address(f"/pipelines/talk?run={run}&task=speak"))
    log = page.locator("task-log")
    expect(log).to_contain_text("one")
    expect(log).not_to_contain_text("two")
    (site.folder / "enough").touch()
    expect(log).to_contain_text("two", timeout=15_000)
    expect(page.locator(".title .state")).to_have_text("success", timeout=15_000)


def test_a_long_log_is_searched_as_a_whole_and_read_backwards(site: Site, page: Page) -> None:
    """The error is far from the log's end, where it opens: search and a button find it, and its place is shown."""
    shop = site.installation
    run = site.api.post("pipelines/jobs/runs", {"run_key": "long"})["run"]["run_id"]
    shop.wait(lambda: shop.runs("jobs").get(run) in (RunState.FAILED, RunState.SUCCESS))
    writer = open_logs(load_settings(site.folder)).open(TryPlace("jobs", run, "prepare", number=2))
    for number in range(6000):
        writer.write("ERROR" if number == 1000 else "INFO", "stdout", f"row {number} <b>\x1b[31m\u202ered")
    page.goto(site.address(f"/pipelines/jobs?run={run}&task=prepare"))
    log, bar = page.locator("task-log"), page.locator("task-log .log-bar")
    expect(log).to_contain_text("row 5999 <b>\ufffdred")
    page.get_by_label("Search the log").fill("ROW 100")
    expect(bar).to_contain_text("11 lines found in the whole log")
    writer.write("INFO", "stdout", "row 100 is said again")
    expect(bar).to_contain_text("12 lines found", timeout=10_000)
    page.get_by_label("Level").select_option("ERROR")
    expect(bar).to_contain_text("1 line found")
    assert violations(page) == []
    log.get_by_role("button", name="row 1000").click()
    expect(log.locator(".line.marked")).to_contain_text("row 1000 ")
    expect(log).to_contain_text("row 1001 ")
    log.get_by_role("button", name="Back to what was found").click()
    expect(bar).to_contain_text("1 line found")
    page.get_by_role("button", name="End", exact=True).click()
    expect(log).to_contain_text("row 100 is said again")
    page.get_by_role("button", name="First error").click()
    expect(log.locator(".line.marked")).to_contain_text("row 1000 ")
    # What lies before the stretch is loaded as one scrolls up, and what was in sight stays there.
    up = "const log = document.querySelector('task-log'); log.scrollTop = 0; return /row 0 /.test(log.innerText)"
    page.wait_for_function(f"() => {{ {up} }}")
    with page.expect_download() as coming:
        page.get_by_role("link", name="Download").click()
    text = coming.value.path().read_text("utf-8")
    assert "row 3000 <b>\\x1b[31m\\u202ered" in text
    assert coming.value.suggested_filename == f"jobs-{run}-prepare-2.log"
    writer.close()


def test_days_are_backfilled(site: Site, page: Page) -> None:
    page.goto(site.address("/pipelines/sales"))
    page.get_by_role("button", name="Backfill…").click()
    page.get_by_label("Range").fill("2026-01-01..2026-01-02")
    page.get_by_label("Which intervals").select_option("all")
    page.locator("#backfill").get_by_role("button", name="Preview").click()
    expect(page.locator("#doing")).to_contain_text("2 intervals")
    confirm(page, "Begin the backfill")
    site.installation.wait(lambda: len(site.installation.published("sales")) >= 2)
    page.goto(site.address("/runs?pipeline=sales"))
    expect(page.locator(".calendar a.success")).to_have_count(2)
    expect(page.locator("progress").first).to_have_attribute("value", "2")


def test_the_batch_that_wrote_a_wrong_row_is_found_and_reverted(site: Site, page: Page) -> None:
    site.installation.command("run", "sales", "2026-01-03")
    page.goto(site.address("/data/sales.orders"))
    row = page.locator("tbody tr", has_text="778")
    row.locator("a[href^='/batches/']").first.click()
    expect(page.locator("h1")).to_contain_text("Batch")
    expect(page.locator("table", has_text="2026-01-03.csv")).to_be_visible()
    page.get_by_role("button", name="Revert…").click()
    expect(page.locator("#doing")).to_contain_text("sales.orders")
    confirm(page, "Revert the batch")
    found = site.installation.wait(lambda: _amounts(site) if 778 not in _amounts(site) else None)
    assert 777 not in found


def _amounts(site: Site) -> list[int]:
    return [row[2] for row in site.api.get("tables/sales.orders/rows")["rows"]]


def test_what_a_failed_run_has_changed_is_read_on_its_branch(site: Site, page: Page) -> None:
    shop = site.installation
    run = failed_run(site)
    branch = site.api.get(f"runs/{run}")["branch"]
    page.goto(site.address("/branches?all=1"))
    page.get_by_role("link", name=branch, exact=True).click()
    expect(page.locator(".title .tag.bad")).to_contain_text("a check keeps it from main")
    expect(page.locator("tr.diff-added").first).to_contain_text("5000")
    expect(page.get_by_role("button", name="Merge…")).to_have_count(0)
    assert 5000 not in _amounts(site)
    assert shop.runs("sales")[run] is RunState.FAILED


def test_a_branch_is_merged_after_its_difference_was_read(site: Site, page: Page) -> None:
    page.goto(site.address("/branches"))
    page.get_by_role("button", name="New branch…").click()
    page.get_by_label("Name").fill("try/#1?")
    assert violations(page) == []
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#doing")).to_contain_text("No data is copied", timeout=60_000)
    assert [one["name"] for one in site.api.get("branches")["branches"] if one["kind"] == "branch"] == []
    confirm(page, "Make it")
    page.get_by_role("link", name="try/#1?", exact=True).click()
    expect(page.locator("main")).to_contain_text("It has changed no table")
    page.get_by_role("button", name="Merge…").click()
    confirm(page, "Merge into main")
    expect(page.locator(".toast")).to_contain_text("done")
    site.installation.wait(lambda: len(site.api.get("branches")["branches"]) == 1)  # main: it is on record only
    site.api.post("branches", {"name": "other", "source": "main"})
    page.goto(site.address("/branches"))
    page.locator("tr", has_text="other").get_by_role("button", name="Drop…").click()
    confirm(page, "Drop other")
    expect(page.get_by_role("link", name="other", exact=True)).to_have_count(0, timeout=60_000)
    assert [one["name"] for one in site.api.get("branches")["branches"]] == ["main"]


def failed_run(site: Site) -> int:
    """A run of a day with a wrong row."""

    def of_the_day() -> list[int]:
        found = site.api.get("runs", pipeline="sales")["runs"]
        return [one["run_id"] for one in found if one["when"] == "2026-01-04" and one["state"] == "failed"]

    if not of_the_day():
        site.api.post("pipelines/sales/runs", {"interval": "2026-01-04"})
    return site.installation.wait(of_the_day)[0]


def test_a_check_is_read_over_time_with_the_rows_that_failed(site: Site, page: Page) -> None:
    failed_run(site)
    page.goto(site.address("/quality?table=sales.orders"))
    page.locator("tbody a[href^='/quality?']").first.click()
    expect(page.locator("line-chart canvas")).to_be_visible()
    expect(page.locator("main")).to_contain_text("5000")


def test_a_pipeline_is_paused_and_resumed(site: Site, page: Page) -> None:
    page.goto(site.address("/pipelines"))
    row = page.locator("tbody tr", has_text="sales")
    row.get_by_role("button", name="Pause").click()
    expect(row).to_contain_text("paused")
    assert site.api.get("pipelines/sales")["state"] == "paused"
    row.get_by_role("button", name="Resume").click()
    expect(row.get_by_role("button", name="Pause")).to_be_visible()
    assert site.api.get("pipelines/sales")["state"] == "active"


def test_a_dead_letter_is_edited_and_sent_again(site: Site, page: Page) -> None:
    shop = site.installation
    page.goto(site.address("/topics/clicks"))
    page.get_by_role("button", name="Send…").click()
    page.get_by_label("Messages").fill('{"page": "a", "ms": 200}\n  {"page": "b", "ms": "long"}\n\n')
    page.locator("#send").get_by_role("button", name="Preview").click()
    expect(page.locator(".toast.bad")).to_contain_text("line 2", timeout=60_000)
    page.get_by_label("what does not fit").check()
    assert violations(page) == []
    page.locator("#send").get_by_role("button", name="Preview").click()
    expect(page.locator("#doing")).to_contain_text("2 messages", timeout=60_000)
    confirm(page, "Send")
    expect(page.locator("main tbody")).to_contain_text("long", timeout=60_000)  # the page was loaded anew
    assert '  {"page": "b", "ms": "long"}' in {
        one["value"] for one in site.api.get("topics/clicks/messages")["messages"]
    }
    shop.wait(lambda: site.api.get("streams/clicks.slow/letters")["total"] == 1)
    page.goto(site.address("/streams/clicks.slow?view=letters"))
    page.locator("details summary").click()
    value = page.get_by_label("Value")
    expect(value).to_have_value(re.compile("long"))
    value.fill(json.dumps({"page": "b", "ms": 300}))
    page.get_by_role("button", name="Send again…").click()
    confirm(page, "Send letter 0 again")
    shop.wait(lambda: "300" in str(site.api.get("topics/slow/messages", limit=200)["messages"]))


def test_several_dead_letters_are_chosen_and_sent_again(site: Site, page: Page) -> None:
    """The choice stays with its letters while new ones come above them."""
    shop, path = site.installation, "streams/clicks.slow/letters"
    known = site.api.get(path)["total"]

    def feed(text: str) -> int:
        """The offset of the letter that it becomes."""
        total = site.api.get(path)["total"]
        site.api.post("topics/clicks/messages", {"lines": [text], "raw": True})
        shop.wait(lambda: site.api.get(path)["total"] == total + 1)
        return int(site.api.get(path)["letters"][0]["offset"])

    one, two, three = (feed(f"{name} is no JSON") for name in ("one", "two", "three"))
    page.goto(site.address("/streams/clicks.slow?view=letters"))
    for offset in (one, three):
        page.get_by_label(f"Choose letter {offset}", exact=True).check()
    four = feed("four is no JSON")
    expect(page.get_by_label(f"Choose letter {four}", exact=True)).not_to_be_checked(timeout=60_000)
    expect(page.locator("input[data-choice]:checked")).to_have_count(2)
    for offset in (one, three):
        expect(page.get_by_label(f"Choose letter {offset}", exact=True)).to_be_checked()
    assert violations(page) == []
    page.get_by_role("button", name="Send the chosen ones again…").click()
    expect(page.locator("#doing")).to_contain_text("2 letters:", timeout=60_000)
    assert site.api.get(path)["total"] == known + 4
    confirm(page, "Send the chosen ones again")
    shop.wait(lambda: site.api.get(path)["total"] == known + 6)  # they are no better than before
    sent = {each["offset"] for each in site.api.get(path, limit=500)["letters"] if each["redriven"]}
    assert {one, three} <= sent
    assert not sent & {two, four}
    page.get_by_label("choose all that are shown").check()
    page.get_by_role("button", name="Send the chosen ones again…").click()
    expect(page.locator("#doing")).to_contain_text("left out:", timeout=60_000)
    expect(page.locator("#doing")).to_contain_text(f"Letter {three} was sent again at")
    page.locator("#doing").get_by_role("button", name="Cancel").click()
    assert site.api.get(path)["total"] == known + 6


def test_what_waits_is_drawn_over_time_and_a_topic_is_looked_into(site: Site, page: Page) -> None:
    """Also what somebody hostile has sent: it is shown as text."""
    shop = site.installation
    file = site.folder / "hostile.jsonl"
    hostile = "<img src=x onerror=\"document.title='hacked'\">\u202egnp"
    file.write_text(json.dumps({"page": hostile, "ms": 700}) + "\n")
    shop.command("stream", "feed", "clicks", str(file))
    shop.wait(lambda: len(site.api.get("streams/clicks.slow/lag/history")["times"]) >= 2)
    page.goto(site.address("/streams/clicks.slow?view=lag"))
    expect(page.locator("lag-charts canvas")).to_have_count(3)
    expect(page.get_by_role("row", name=re.compile("clicks"))).not_to_have_count(0)
    assert violations(page) == []
    page.locator("main a[href='/topics/clicks']").first.click()
    message = page.locator("tbody tr", has_text="onerror")
    message.locator("summary").click()
    expect(message.locator("pre")).to_contain_text("<img src=x onerror=")
    assert page.locator("main img").count() == 0
    expect(page).to_have_title(re.compile("^clicks"))
    page.goto(site.address("/streams/clicks.slow?view=reset"))
    page.get_by_label("Where to begin").fill("latest")
    page.get_by_role("button", name="Preview…").click()
    dialog = page.locator("#doing")
    expect(dialog).to_contain_text("It is running now")
    expect(dialog).to_contain_text(re.compile(r"clicks\[0\]: from \d+ to \d+, no message"))
    dialog.get_by_role("button", name="Reset the stream", exact=True).click()
    expect(page.locator(".toast.bad")).to_contain_text("is running")


def test_a_tables_promises_are_read_in_words(site: Site, page: Page, tmp_path: Path) -> None:
    """On its page, and in a file that needs nothing beside it."""
    failed_run(site)
    page.goto(site.address("/quality/sales.orders"))
    expect(page.locator("main")).to_contain_text("amount is at least 0 and at most 1000")
    expect(page.locator("svg.history rect.failed")).not_to_have_count(0)
    expect(page.locator(".title .tag.bad")).to_have_text("1 not met")
    site.installation.command("check", "--docs", str(tmp_path / "docs.html"))
    page.goto((tmp_path / "docs.html").as_uri())
    expect(page.get_by_role("heading", name="sales.orders")).to_be_visible()
    expect(page.locator("svg.history rect.failed")).not_to_have_count(0)
    expect(page.get_by_role("heading", name="sales.latest")).to_be_visible()


def test_a_corrected_file_is_fetched_again(site: Site, page: Page) -> None:
    """A batch of its own day; the search leads to it by its number."""
    feed = site.folder / "feeds" / "2026-01-20.csv"
    feed.write_text("id,customer,amount\n20,Eve,640\n")
    run, shop = site.api.post("pipelines/sales/runs", {"interval": "2026-01-20"})["run"], site.installation
    shop.wait(lambda: shop.runs("sales")[run["run_id"]] is RunState.SUCCESS)
    batch = run["batch_id"]
    feed.write_text("id,customer,amount\n20,Eve,641\n")
    page.goto(site.address("/"))
    page.keyboard.press("Control+k")
    page.keyboard.type(str(batch))
    page.get_by_role("option", name=f"{batch} batch of sales").click()
    page.get_by_role("button", name="Fetch again…").click()
    expect(page.locator("#doing")).to_contain_text("the archive keeps both versions")
    confirm(page, "Fetch its sources again")
    expect(page).to_have_url(re.compile(r"/pipelines/sales\?run=\d+$"))
    amounts = shop.wait(lambda: found if 641 in (found := _amounts(site)) else None)
    assert 640 not in amounts
