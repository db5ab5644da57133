"""Roles: each includes those below; a pipeline's own comes before the general one. What needs a login; passwords."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.model.access import LOCAL, Principal, Role, user_name
from tidemill.model.action import ACTIONS, NOTED, Reach
from tidemill.model.errors import SettingsError, UnknownName, UserError
from tidemill.plan.access import allowed, is_from_here, is_loopback, login_needed, password_of, refusal

ROLES = st.sampled_from(Role)
NAMES = st.sampled_from(["sales", "salaries", "other", "a new one"])
PRINCIPALS = st.builds(Principal, st.just("ada"), ROLES, st.dictionaries(NAMES, ROLES))


def test_a_role_includes_those_below() -> None:
    """An operator sees, and does not manage users."""
    ada = Principal("ada", Role.OPERATOR)
    assert ada.may(Role.VIEWER)
    assert ada.may(Role.OPERATOR, "sales")
    assert not ada.may(Role.ADMIN)
    assert LOCAL.may(Role.ADMIN, "sales")


def test_a_pipelines_role_counts_instead_of_the_general_one() -> None:
    """More, or less."""
    max_ = Principal("max", Role.VIEWER, {"sales": Role.OPERATOR, "salaries": Role.NONE})
    assert max_.may(Role.OPERATOR, "sales")
    assert not max_.may(Role.OPERATOR, "other")
    assert max_.may(Role.VIEWER, "other")
    assert not max_.may(Role.VIEWER, "salaries")
    assert max_.may(Role.VIEWER)


#: Action -> what a viewer, an operator and an admin of the project may, and an operator of "sales" alone: there, on
#: another pipeline, on both, and where none is named.
TABLE = """
list                yes yes yes  yes yes yes yes
see                 yes yes yes  yes no  no  no
data.read           yes yes yes  yes no  no  no
data.query          yes yes yes  no  no  no  no
metrics.see         yes yes yes  no  no  no  no
tokens.own          yes yes yes  yes yes yes yes
runs.start          no  yes yes  yes no  no  no
runs.stop           no  yes yes  yes no  no  no
runs.rerun          no  yes yes  yes no  no  no
runs.answer         no  yes yes  yes no  no  no
pipelines.pause     no  yes yes  yes no  no  no
backfills.start     no  yes yes  yes no  no  no
batches.replay      no  yes yes  yes no  no  no
batches.revert      no  yes yes  yes no  no  no
branches.write      no  yes yes  yes no  no  no
data.deliver        no  yes yes  yes no  no  no
letters.redrive     no  yes yes  yes no  no  no
offsets.reset       no  yes yes  yes no  no  no
topics.feed         no  yes yes  yes no  no  no
streams.pause       no  yes yes  yes no  no  no
users.manage        no  no  yes  no  no  no  no
tokens.manage       no  no  yes  no  no  no  no
connections.manage  no  no  yes  no  no  no  no
settings.see        no  no  yes  no  no  no  no
audit.see           no  no  yes  no  no  no  no
schema.change       no  no  yes  no  no  no  no
files.clean         no  no  yes  no  no  no  no
"""


def test_the_table_of_roles_and_actions() -> None:
    of_sales = Principal("max", Role.NONE, {"sales": Role.OPERATOR})
    asked = [(Principal("ada", role), ("sales",)) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)]
    asked += [(of_sales, named) for named in (("sales",), ("other",), ("sales", "other"), ())]
    rows = {line.split()[0]: line.split()[1:] for line in TABLE.strip().splitlines()}
    found = {
        action: ["yes" if allowed(who, action, named) else "no" for who, named in asked] for action in ACTIONS
    }  # fmt: skip
    assert found == rows
    assert not set(NOTED) & set(ACTIONS)


def test_the_page_on_access_shows_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "access.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z.]+)` \| (.+) \| (\w+) \| (\w+) \|$", page, re.M)
    assert rows == [(name, one.about, one.least.word, one.reach.value) for name, one in ACTIONS.items()]


@settings(max_examples=few(400), deadline=None)
@given(PRINCIPALS, ROLES, st.sets(NAMES), st.sampled_from(sorted(ACTIONS)), st.sets(NAMES))
def test_a_token_never_does_what_its_user_or_its_scope_may_not(
    who: Principal, role: Role, scope: set[str], action: str, named: set[str]
) -> None:
    token = who.within(role, sorted(scope), "id")
    if allowed(token, action, named):
        assert allowed(who, action, named)
        assert ACTIONS[action].least <= role
        assert ACTIONS[action].reach is not Reach.OWN
        if scope and ACTIONS[action].reach is Reach.PIPELINE:
            assert named
            assert named <= scope
    for pipeline in ("sales", "salaries", "other", "a new one", "not there yet"):
        expected = min(who.on(pipeline), role) if not scope or pipeline in scope else Role.NONE
        assert token.on(pipeline) == expected


@settings(max_examples=few(400), deadline=None)
@given(PRINCIPALS, PRINCIPALS, st.sampled_from(sorted(ACTIONS)), st.sets(NAMES))
def test_who_has_no_less_anywhere_may_no_less(a: Principal, b: Principal, action: str, named: set[str]) -> None:
    """And what needs all pipelines may be done to each of them; a refusal says why, exactly where there is one."""
    if all(a.on(one) <= b.on(one) for one in (None, "sales", "salaries", "other", "a new one")):
        assert allowed(a, action, named) <= allowed(b, action, named)
    if ACTIONS[action].reach is Reach.PIPELINE and allowed(a, action):
        assert allowed(a, action, named)
    assert (refusal(a, action, named) is None) == allowed(a, action, named)


def test_a_refusal_says_what_is_lacking() -> None:
    max_ = Principal("max", Role.VIEWER, {"sales": Role.OPERATOR})
    assert refusal(max_, "runs.start", ["sales"]) is None
    assert refusal(max_, "runs.start", ["sales", "other"]) == 'runs.start needs the role operator on pipeline "other".'
    assert refusal(max_, "runs.start") == "runs.start needs the role operator on all pipelines."
    assert refusal(max_, "users.manage") == "users.manage needs the role admin of the project."
    token = max_.within(Role.ADMIN, (), "id")
    assert refusal(token, "tokens.own") == "tokens.own is for people who have logged in, not for tokens."
    with pytest.raises(UnknownName) as caught:
        allowed(max_, "runs.stat")
    assert "runs.start" in (caught.value.hint or "")


HERE = ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "LOCALHOST"]
BEYOND = ["0.0.0.0", "::", "", "192.0.2.7", "db.example", "127.0.0.1.example.org", "1127.0.0.1", "localhost.example"]


@pytest.mark.parametrize("host", [*HERE, *BEYOND])
def test_a_login_is_needed_beyond_this_computer_unless_that_is_said_twice(host: str) -> None:
    beyond = host in BEYOND
    assert is_loopback(host) is not beyond
    assert login_needed("auto", host) is beyond
    assert login_needed("always", host, is_open=True)
    if beyond:
        with pytest.raises(SettingsError, match="may do everything") as caught:
            login_needed("never", host)
        assert "open_to_all" in (caught.value.hint or "")
    else:
        assert not login_needed("never", host)
    assert not login_needed("never", host, is_open=True)
    with pytest.raises(UnknownName) as misspelt:
        login_needed("allways", host)
    assert 'did you mean "always"' in (misspelt.value.hint or "")


def test_requests_of_other_names_and_of_proxies_are_not_of_this_computer() -> None:
    for header in ("localhost:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]", "::1"):
        assert is_from_here(header, is_forwarded=False), header
        assert not is_from_here(header, is_forwarded=True)
    for header in (None, "", "evil.example", "evil.example:8080", "localhost.evil.example:80", "127.0.0.1.evil.example",
                   "localhost:80:80", "localhost@evil.example", "localhost:evil"):  # fmt: skip
        assert not is_from_here(header, is_forwarded=False), header


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("short", "fewer than 12"),
        ("x" * 1025, "more than 1024"),
        ("ä" * 513, "more than 1024"),
        ("marguerite.1", "little more"),
        ("ababababababab", "again and again"),
    ],
)
def test_what_is_no_password_is_refused_without_being_shown(given: str, why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        password_of(given, "marguerite")
    assert given not in str(caught.value)


def test_a_password_is_the_same_however_its_letters_are_written() -> None:
    assert password_of("café und Kuchen", "ada") == password_of("cafe\u0301 und Kuchen", "ada")


def test_names_of_users_are_written_in_one_way() -> None:
    assert user_name(" Ada@Example.org ") == "ada@example.org"
    for bad in ("", "local", "LOCAL", "-a", "a b", "a/b", "ä", "a" * 101):
        with pytest.raises(UserError):
            user_name(bad)
