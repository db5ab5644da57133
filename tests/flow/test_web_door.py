"""Who comes in: sessions by a password, and tokens. Actions need a page of their session, and are on record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.webapi import Answer, Api, serving
from tidemill.cli.main import root
from tidemill.model.access import Role
from tidemill.model.action import ACTIONS
from tidemill.model.errors import SettingsError
from tidemill.web.routes import TABLE
from tidemill.web.server import see_safe
from tidemill.wiring.access import Asker, ProjectAccess, open_access
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import Settings, load_settings

PASSWORD = "correct horse battery staple"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project whose pages ask for a login, here too."""
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "shop"\n[web]\nlogin = "always"\n')
    return load_settings(tmp_path)


@pytest.fixture
def access(settings: Settings) -> Iterator[ProjectAccess]:
    """Its users: an operator, who sees nothing of salaries, and a viewer."""
    metadata = open_metadata(settings, system_clock())
    made = open_access(settings, metadata)
    made.people.add(Asker(), "ada", Role.OPERATOR, PASSWORD, {"salaries": Role.NONE})
    made.people.add(Asker(), "max", Role.VIEWER, PASSWORD)
    yield made
    metadata.close()


@pytest.fixture
def api(settings: Settings, access: ProjectAccess) -> Iterator[Api]:
    """The real server."""
    with serving(settings) as made:
        yield made


def logged_in(api: Api, user: str = "ada") -> dict[str, str]:
    """The headers of a browser that has logged in, and is on a page."""
    found = api.ask("POST", "/login", {"user": user, "password": PASSWORD})
    assert found.status == 200
    cookie = found.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()
    session = {"Cookie": cookie.partition(";")[0]}
    page = api.ask("GET", "/branches", headers=session).data
    return {**session, "X-CSRF-Token": page.partition('name="csrf" content="')[2].partition('"')[0]}


def pause(api: Api, headers: dict[str, str]) -> Answer:
    """An action that is refused for who asks, or because there is no such pipeline."""
    return api.ask("POST", "pipelines/orders/pause", headers=headers)


def test_nobody_comes_in_without_a_login(api: Api) -> None:
    assert api.ask("GET", "runs").status == 401
    assert api.ask("GET", "/metrics").status == 401
    assert api.ask("GET", "/health").status == 200
    page = api.ask("GET", "/runs?state=failed")
    assert page.status == 303
    assert page.headers["location"] == "/login?next=%2Fruns%3Fstate%3Dfailed"
    assert "Password" in api.ask("GET", "/login").data


def test_a_session_reads_and_acts_from_its_own_pages_only(api: Api) -> None:
    headers = logged_in(api)
    assert api.ask("GET", "runs", headers=headers).status == 200
    assert pause(api, headers).status == 404  # let in: there is no such pipeline
    without = {"Cookie": headers["Cookie"]}
    assert pause(api, without).status == 403
    assert pause(api, {**headers, "X-CSRF-Token": "0" * 64}).status == 403
    assert pause(api, {**headers, "Origin": "http://elsewhere.example"}).status == 403
    assert api.ask("POST", "/logout", {}, without).status == 403
    assert api.ask("POST", "/logout", {}, headers).status == 200
    assert api.ask("GET", "runs", headers=headers).status == 401


def test_roles_hold_for_sessions_and_tokens(api: Api, access: ProjectAccess) -> None:
    assert pause(api, logged_in(api, "max")).status == 403
    assert api.ask("POST", "pipelines/salaries/pause", headers=logged_in(api)).status == 403
    made, token = access.people.add_token(Asker(), "ada", "export", role=Role.VIEWER)
    shown = {"Authorization": f"Bearer {token}"}
    assert api.ask("GET", "runs", headers=shown).status == 200
    assert pause(api, shown).status == 403
    access.people.revoke_token(Asker(), made.id)
    assert api.ask("GET", "runs", headers=shown).status == 401
    assert api.ask("GET", "runs", headers={**shown, **logged_in(api)}).status == 401  # a token is not made up for


def test_commands_show_a_token(api: Api, access: ProjectAccess) -> None:
    def ask(*words: str, **env: str) -> Result:
        return CliRunner().invoke(root, [*words, "--server", api.url], prog_name="tidemill", env=env)

    stranger = ask("runs", "ls")
    assert (stranger.exit_code, "does not know who asks" in stranger.stderr) == (2, True)
    _, token = access.people.add_token(Asker(), "max", "export", role=Role.VIEWER)
    assert ask("runs", "ls", TIDEMILL_TOKEN=token).exit_code == 0
    refused = ask("pipelines", "pause", "orders", TIDEMILL_TOKEN=token)
    assert (refused.exit_code, "does not allow it: This needs the role operator" in refused.stderr) == (1, True)
    assert token not in refused.output


def test_wrong_passwords_are_refused_alike_and_then_wait(api: Api) -> None:
    found = [api.ask("POST", "/login", {"user": user, "password": "x" * 12}) for user in ("ada", "nobody")]
    assert [one.status for one in found] == [401, 401]
    assert found[0].data["detail"] == found[1].data["detail"]
    for _ in range(6):
        last = api.ask("POST", "/login", {"user": "ada", "password": "x" * 12})
    assert last.status == 429
    assert int(last.headers["retry-after"]) >= 1
    assert api.ask("POST", "/login", {"user": "ada", "password": PASSWORD}).status == 429


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"user": "ada"}', b'{"user": 1, "password": 2}', b"\xff", b"x" * 20_000]
)
def test_what_is_no_login_is_told(api: Api, body: bytes) -> None:
    found = api.ask("POST", "/login", body, {"Content-Type": "application/json"})
    assert found.status in (400, 413)


def test_actions_and_refusals_are_on_record(api: Api, access: ProjectAccess) -> None:
    pause(api, logged_in(api))
    pause(api, logged_in(api, "max"))
    pause(api, {**logged_in(api), "X-Ignored": "1"})
    entries, _ = access.audit.page(50, action="pipelines.pause")
    assert {(one.who, one.result.value) for one in entries} == {("ada", "failed"), ("max", "refused")}
    assert {one.pipeline for one in entries} == {"orders"}
    assert PASSWORD not in str(entries)
    # What the path does not name is told by the body.
    assert api.ask("POST", "branches", {"name": "try"}, logged_in(api)).status == 200
    entries, _ = access.audit.page(50, action="branches.write")
    told = [(one.result.value, one.detail["name"], one.detail["source"]) for one in entries]
    assert told == [("done", "try", "main")]


def test_every_action_has_a_name_in_the_log() -> None:
    """And asks for the role that the table of actions says."""
    assert {one.path for one in TABLE if one.action} == {one.path for one in TABLE if one.changes}
    acting = [one for one in TABLE if one.changes]
    assert {one.path: one.role for one in acting} == {one.path: ACTIONS[one.action].least for one in acting}


def test_behind_a_proxy_that_ends_tls(tmp_path: Path) -> None:
    """What browsers call the server is said in the settings: the cookie goes by TLS only, and their Origin is known."""
    (tmp_path / "tidemill.toml").write_text(
        '[project]\nname = "shop"\n[web]\nlogin = "always"\npublic_url = "https://Pipelines.example:443/"\n'
    )
    settings = load_settings(tmp_path)
    assert settings.web.public_url == "https://pipelines.example"
    metadata = open_metadata(settings, system_clock())
    open_access(settings, metadata).people.add(Asker(), "ada", Role.OPERATOR, PASSWORD)
    metadata.close()
    with serving(settings) as api:
        given = {"user": "ada", "password": PASSWORD}
        ours = {"Origin": "https://pipelines.example", "X-Forwarded-Proto": "http"}
        found = api.ask("POST", "/login", given, ours)
        assert (found.status, "secure" in found.headers["set-cookie"].lower()) == (200, True)
        for other in ("http://pipelines.example", "https://pipelines.example.evil", "null", ""):
            assert api.ask("POST", "/login", given, {"Origin": other}).status == 403, other
    plain = replace(settings, web=replace(settings.web, public_url=None))
    with serving(plain) as api:  # nobody's header makes it so
        found = api.ask("POST", "/login", given, {"X-Forwarded-Proto": "https"})
        assert (found.status, "secure" in found.headers["set-cookie"].lower()) == (200, False)


@pytest.mark.parametrize(
    "given", ['"pipelines.example"', '"ftp://x"', '"https://x/path"', '"https://a:b@x"', "1", '"https://x:y"']
)
def test_a_public_address_that_is_none_is_told(tmp_path: Path, given: str) -> None:
    (tmp_path / "tidemill.toml").write_text(f'[project]\nname = "shop"\n[web]\npublic_url = {given}\n')
    with pytest.raises(SettingsError, match=r"web\.public_url = .* is no address of a site"):
        load_settings(tmp_path)


def test_a_server_for_others_is_not_started_without_users(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "shop"\n[web]\nhost = "0.0.0.0"\n')
    settings = load_settings(tmp_path)
    with pytest.raises(SettingsError, match="there are no users"):
        see_safe(settings)
    never = replace(settings, access=replace(settings.access, login="never"))
    with pytest.raises(SettingsError, match="may do everything"):
        see_safe(never)
    see_safe(replace(never, access=replace(never.access, open_to_all=True)))
