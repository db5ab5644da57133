"""Logging in and out in a browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from harness.browser import violations
from harness.webapi import serving
from tidemill.model.access import Role
from tidemill.wiring.access import Asker, open_access
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings


def test_a_person_logs_in_goes_on_where_they_were_and_logs_out(tmp_path: Path, page: Page) -> None:
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "shop"\n[web]\nlogin = "always"\n')
    settings = load_settings(tmp_path)
    metadata = open_metadata(settings, system_clock())
    open_access(settings, metadata).people.add(Asker(), "ada", Role.OPERATOR, "correct horse battery staple")
    with serving(settings) as api:
        page.goto(f"{api.url}/runs?state=failed")
        expect(page).to_have_url(f"{api.url}/login?next=%2Fruns%3Fstate%3Dfailed")
        assert violations(page) == []
        page.get_by_label("User").fill("ada")
        page.get_by_label("Password").fill("wrong, but long enough")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("The user or the password is wrong.")
        page.get_by_label("Password").fill("correct horse battery staple")
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{api.url}/runs?state=failed")
        page.get_by_role("button", name="Log out ada").click()
        expect(page).to_have_url(f"{api.url}/login")
        page.goto(f"{api.url}/")
        expect(page).to_have_url(f"{api.url}/login?next=%2F")
        page.goto(f"{api.url}/login?next=//elsewhere.example/")
        page.get_by_label("User").fill("ada")
        page.get_by_label("Password").fill("correct horse battery staple")
        page.get_by_role("button", name="Log in").click()
        expect(page).to_have_url(f"{api.url}/")
        page.goto("about:blank")  # or it would miss its events when the server ends
    metadata.close()
