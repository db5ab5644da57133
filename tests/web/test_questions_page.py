"""What a task asks is answered on the page of its pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from harness.asking import AskingMill
from harness.browser import violations
from harness.webapi import serving
from tidemill.model.run import RunState


def test_a_question_is_found_on_home_and_answered_by_its_form(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mill = AskingMill(tmp_path)
    run = mill.begin()
    mill.turn(run, "first", "deferred")
    with serving(mill.settings) as api:
        page.goto(f"{api.url}/")
        page.get_by_role("link", name="sends, ask").click()
        card = page.locator("aside .card:has(form)")
        expect(card).to_contain_text("Send 3 letters?")
        assert violations(page) == []
        card.get_by_label("Option").select_option("No")
        card.get_by_label("why").fill("?")
        card.get_by_role("button", name="Answer").click()
        expect(page.locator(".toast.bad")).to_contain_text("why")
        card.get_by_label("why").fill("rain")
        card.get_by_role("button", name="Answer").click()
        expect(card).not_to_be_visible()
    mill.turn(run, "second", RunState.SUCCESS)
    assert mill.result(run)["chosen"] == ["No"]
    mill.metadata.close()
