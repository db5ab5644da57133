"""`tidemill serve users`, `tokens` and `audit`: passwords come by standard input, and are never shown."""

from __future__ import annotations

import pytest

from harness.commands import CommandLine
from tidemill.adapters.argon2 import passwords as argon2
from tidemill.model.access import Role
from tidemill.model.definition import Definition, Kind
from tidemill.model.graph import Graph, Node
from tidemill.wiring.access import ProjectAccess, is_from_here, open_access
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.settings import load_settings

PASSWORD = "a sentence is long"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 with the least that it takes."""
    made = argon2.Argon2Passwords.__init__

    def quick(self: argon2.Argon2Passwords) -> None:
        made(self, time_cost=1, memory_cost=8, parallelism=1)

    monkeypatch.setattr(argon2.Argon2Passwords, "__init__", quick)


def opened(cli: CommandLine) -> ProjectAccess:
    settings = load_settings(cli.folder)
    return open_access(settings, open_metadata(settings, system_clock()))


def test_users_are_added_changed_disabled_and_what_they_show_opens_doors(cli: CommandLine) -> None:
    assert cli("serve", "users", "ls").out == "no users\nnext: tidemill serve users add NAME --role viewer"
    added = cli("serve", "users", "add", "Ada", "--role", "operator", "--on", "sales=admin", given=f"{PASSWORD}\n")
    assert (added.exit_code, added.out) == (
        0, "added  ada  operator  sales=admin\nnext: tidemill serve tokens add TITLE --user ada"
    )  # fmt: skip
    assert cli("serve", "users", "add", "ci", "--no-password").exit_code == 0
    assert cli("serve", "users", "ls").out.splitlines() == [
        "user  role  pipelines  since  comes in by",
        "ada  operator  sales=admin  TIME  password",
        "ci  viewer  -  TIME  tokens only",
        "next: tidemill serve users add NAME --role viewer",
    ]
    access = opened(cli)
    session = access.gate.login("ada", PASSWORD, "192.0.2.7")
    assert access.who("0.0.0.0", None, session.session_id, from_here=False) == session.principal
    changed = cli("serve", "users", "role", "ada", "viewer", "--on", "sales=", "--json").object["changed"]
    assert (changed["role"], changed["pipelines"]) == ("viewer", {})
    found = access.gate.session(session.session_id)
    assert found is not None
    assert found.role is Role.VIEWER
    assert cli("serve", "users", "password", "ada", given="another sentence").out.startswith(
        "set  ada  1 session ended"
    )
    assert access.gate.session(session.session_id) is None
    assert cli("serve", "users", "disable", "ada").out.startswith("disabled  ada")
    assert "nothing: disabled TIME" in cli("serve", "users", "ls").out
    assert cli("serve", "users", "disable", "ada", "--undo").out.startswith("enabled  ada")
    listed = cli("serve", "users", "ls", "--json")
    assert [one["name"] for one in listed.object["users"]] == ["ada", "ci"]
    assert "argon2" not in listed.stdout


def test_tokens_are_shown_once_and_revoked_by_what_people_have_at_hand(cli: CommandLine) -> None:
    assert cli("serve", "users", "add", "ci", "--no-password", "--role", "operator").exit_code == 0
    made = cli(
        "serve", "tokens", "add", "nightly", "--user", "ci", "--role", "viewer", "--on", "sales", "--expires", "30d"
    )
    text = made.stdout.strip()
    assert made.err.startswith(f"token {text[3:11]} of ci, viewer, ends TIME; it is not shown again")
    access = opened(cli)
    found = access.who("127.0.0.1", f"Bearer {text}", None, from_here=True)
    assert found is not None
    assert (found.name, found.on("sales"), found.on("other")) == ("ci", Role.VIEWER, Role.NONE)
    listed = cli("serve", "tokens", "ls")
    assert listed.out.splitlines()[1] == f"{text[3:11]}  ci  nightly  viewer  sales  TIME  TIME"
    other = cli("serve", "tokens", "add", "b", "--user", "ci", "--expires", "never", "--json").object
    assert (other["role"], other["expires_at"], other["token"][3:11]) == ("operator", None, other["id"])
    assert cli("serve", "tokens", "revoke", text).out.startswith(f"revoked  {text[3:11]}  of ci  nightly")
    assert access.gate.token(text) is None
    assert [one["id"] for one in cli("serve", "tokens", "ls", "--json").object["tokens"]] == [other["id"]]
    assert len(cli("serve", "tokens", "ls", "--all", "--user", "ci", "--json").object["tokens"]) == 2
    for told in (cli("serve", "tokens", "ls", "--all"), cli("serve", "audit"), cli("serve", "audit", "--json")):
        assert text not in told.stdout
        assert text[12:] not in told.stdout


@pytest.mark.parametrize(
    ("arguments", "given", "code", "error", "hint"),
    [
        ("users add max", "short", 2, "The password has fewer than 12 characters.", "a sentence is easy to remember"),
        ("users add max", "", 2, "No password was given.", "type it when asked, or send it to standard input"),
        ("users add ci --no-password", "", 1, 'There is a user "ci" already.', "tidemill serve users password ci"),
        ("users add local", PASSWORD, 2, '"local" cannot name a user.',
         'letters, digits, ".", "_", "@", "+", "-"; not "local"'),
        ("users add max --role opertor", PASSWORD, 2, 'There is no role "opertor".', 'did you mean "operator"?'),
        ("users add max --on sales", PASSWORD, 2, '"sales" names no pipeline and role.', "--on PIPELINE=operator"),
        ("users role cii admin", "", 2, 'There is no user "cii".', 'did you mean "ci"?'),
        ("users role ci", "", 2, "No role was given.",
         "tidemill serve users role NAME operator, or --on PIPELINE=operator"),
        ("users password mx", "", 2, 'There is no user "mx".', "known: ci"),
        ("users disabel ci", "", 2, 'There is no command "disabel".', 'did you mean "tidemill serve users disable"?'),
        ("tokens add x --user ci --role admin", "", 1,
         'User "ci" is no admin there, and a token can do no more than its user.', "tidemill serve users role ci ROLE"),
        ("tokens add x --user ci --expires soon", "", 2, '"soon" is no duration.', '"90s", "15m", "1h", "1d" or "2w"'),
        ("tokens revoke abcdefgh", "", 2, 'There is no token "abcdefgh".', "there is no token yet"),
        ("audit --action user.manage", "", 2, 'There is no action "user.manage".',
         'did you mean "users.manage" or "tokens.manage"?'),
        ("audit --since yesterday", "", 2, '"yesterday" is no time.', "2026-01-31, 2026-01-31T12:00, or 7d"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_what_to_try(
    cli: CommandLine, arguments: str, given: str, code: int, error: str, hint: str
) -> None:
    assert cli("serve", "users", "add", "ci", "--no-password").exit_code == 0
    told = cli("serve", *arguments.split(), given=given)
    assert (told.exit_code, told.stderr.strip()) == (code, f"error: {error}\n  try: {hint}")
    assert PASSWORD not in told.stdout + told.stderr


def test_a_role_on_a_pipeline_that_is_misspelt_is_refused_once_pipelines_are_known(cli: CommandLine) -> None:
    clock = system_clock()
    made = Definition("shop", Kind.TABLES, Graph([Node("a")]))
    with open_metadata(load_settings(cli.folder), clock).write() as tx:
        tx.definitions.keep([made], "c1", "a.py", clock.now())
    told = cli("serve", "users", "add", "max", "--on", "shpo=operator", "--no-password")
    assert told.stderr == 'error: There is no pipeline "shpo".\n  try: did you mean "shop"?\n'
    assert cli("serve", "users", "add", "max", "--on", "shop=operator", "--no-password").exit_code == 0


def test_the_log_shows_what_was_done_by_pages(cli: CommandLine) -> None:
    for name in ("a1", "b1", "c1"):
        assert cli("serve", "users", "add", name, "--no-password").exit_code == 0
    first = cli("serve", "audit", "--limit", "2")
    assert first.out.splitlines() == [
        "when  who  action  target  result  from  detail",
        'TIME  local  users.manage  user c1  done  here  did=add, role=viewer, pipelines={}',
        'TIME  local  users.manage  user b1  done  here  did=add, role=viewer, pipelines={}',
        "next: tidemill serve audit --limit 2 --before 2",
    ]  # fmt: skip
    assert [one["target"] for one in cli("serve", "audit", "--before", "2", "--json").object["entries"]] == ["user a1"]
    assert cli("serve", "audit", "--refused").out == "no entries"
    assert len(cli("serve", "audit", "--who", "local", "--since", "1d", "--json").object["entries"]) == 3


def test_settings_say_who_must_log_in(cli: CommandLine) -> None:
    def access(text: str) -> ProjectAccess:
        cli.write("tidemill.toml", f'[project]\nname = "test"\n[web]\n{text}\n')
        return opened(cli)

    assert [access("").login_needed(host) for host in ("127.0.0.1", "0.0.0.0")] == [False, True]
    assert access('login = "always"').login_needed("127.0.0.1")
    assert not access('login = "never"\nopen_to_all = true').login_needed("0.0.0.0")
    with pytest.raises(Exception, match="may do everything") as caught:
        access('login = "never"').login_needed("0.0.0.0")
    assert str(caught.value).splitlines()[1:] == [
        f"  at: {cli.folder / 'tidemill.toml'}",
        '  try: login = "auto", or listen on 127.0.0.1; open_to_all = true says that you want it so',
    ]
    limits = access('audit_days = 30\nidle = "1h"\nsession = "2d"').gate.limits
    assert [each.total_seconds() / 3600 for each in (limits.idle, limits.session, limits.audit)] == [1, 48, 720]
    for text, error in (
        ('login = "allways"', 'There is no kind of login "allways".'),
        ("open_to_all = 1", "web.open_to_all = 1 is neither true nor false."),
        ("audit_days = 0", "web.audit_days = 0 is no number of days."),
        ('idle = "-1h"', '"-1h" is no duration.'),
        ("logn = 1", 'There is no setting in [web] "logn".'),
    ):
        cli.write("tidemill.toml", f'[project]\nname = "test"\n[web]\n{text}\n')
        told = cli("serve", "users", "ls")
        assert (told.exit_code, told.stderr.splitlines()[0]) == (2, f"error: {error}")


def test_without_a_login_only_this_computer_comes_in(cli: CommandLine) -> None:
    access = opened(cli)
    local = is_from_here("localhost:8800", is_forwarded=False)
    found = access.who("127.0.0.1", None, None, from_here=local)
    assert found is not None
    assert found.name == "local"
    assert access.who("127.0.0.1", None, None, from_here=is_from_here("evil.example", is_forwarded=False)) is None
    assert access.who("0.0.0.0", None, None, from_here=local) is None
    for shown in ("Bearer tm_wrong", "Bearer", "Basic YTpi", ""):
        assert access.who("127.0.0.1", shown, None, from_here=local) is None, shown
