"""Who comes in, and how: logins, passwords, sessions, lock-outs."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from harness.access import HERE, PASSWORD, QUICK, House, comes_in, fails, there
from tidemill.adapters.argon2.passwords import Argon2Passwords
from tidemill.flow.access import Asker, LoginRefused, csrf_of, digest, is_csrf
from tidemill.model.access import Role
from tidemill.model.errors import UserError
from tidemill.plan.throttle import LOCK_OUTS

FREE = LOCK_OUTS["pair"].free


@pytest.fixture
def house() -> House:
    return House()


def kept(house: House) -> str:
    with house.records.read() as tx:
        return there(there(tx.users.get("ada")).password)


# Logins ---------------------------------------------------------------------------------------------------------------


def test_a_login_gives_a_session_and_what_is_on_record_opens_nothing(house: House) -> None:
    house.user("Ada", Role.OPERATOR, sales=Role.ADMIN)
    made = comes_in(house, " ADA ")
    found = house.gate.session(made.session_id)
    assert found is not None
    assert (found.name, found.role, found.on("sales"), found.token) == ("ada", Role.OPERATOR, Role.ADMIN, None)
    with house.records.read() as tx:
        kept = tx.sessions.all()[0]
        assert house.gate.session(kept.digest) is None
        assert made.session_id not in f"{tx.sessions.all()} {tx.log.page()} {tx.users.all()}"
        assert there(tx.users.get("ada")).password != PASSWORD
    assert made.session_id not in repr(made)
    assert comes_in(house).session_id != made.session_id
    assert house.gate.session(None) is house.gate.session("") is house.gate.session("x" * 5000) is None


def test_nothing_tells_whether_there_is_such_a_user(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the words nor the work: a hash is looked at in each case, one of the same cost."""
    house.user("ada")
    house.user("gone")
    house.people.disable(Asker(), "gone")
    house.people.add(Asker(), "ci", Role.VIEWER, None)
    looked: list[str] = []
    hasher = house.gate.passwords._made()
    verify = type(hasher).verify
    monkeypatch.setattr(
        type(hasher), "verify", lambda self, kept, given: (looked.append(kept), verify(self, kept, given))
    )
    said = set()
    for name in ("ada", "eve", "gone", "ci", "", "local", "../x", "ada\x00", "\ud800"):
        with pytest.raises(LoginRefused) as caught:
            house.gate.login(name, PASSWORD if name in ("gone", "ci") else "wrong password", f"192.0.2.{len(looked)}")
        said.add(str(caught.value))
    assert said == {"The user or the password is wrong."}
    assert len(looked) == 9
    assert {re.match(r"\$argon2id\$v=19\$m=8,t=1,p=1\$", kept) is not None for kept in looked} == {True}


def test_what_is_typed_into_the_wrong_field_is_written_nowhere(house: House) -> None:
    fails(house, name="my password, by mistake")
    house.user("ada")
    fails(house, password="my other password")
    with house.records.read() as tx:
        shown = f"{tx.log.page()} {tx.failures.get(list(tx.failures._tries))}"
        keys = "".join(tx.failures._tries)
    assert "mistake" not in shown + keys
    assert "other password" not in shown
    assert house.told()[0] == ("", "login", "refused")
    assert house.told()[-1] == ("ada", "login", "refused")


def test_waits_grow_and_end_and_a_login_clears_them(house: House) -> None:
    house.user()
    assert [fails(house) for _ in range(FREE + 1)] == [timedelta(0)] * (FREE + 1)
    assert fails(house, password=PASSWORD) == timedelta(seconds=10), "not looked at, however right"
    with pytest.raises(LoginRefused, match="wait 10 s"):
        comes_in(house)
    house.later(seconds=10)
    assert fails(house) == timedelta(0)
    assert fails(house) == timedelta(seconds=20)
    house.later(seconds=20)
    comes_in(house)
    assert [fails(house) for _ in range(FREE + 1)][-1] == timedelta(0)


def test_nobody_is_locked_out_by_others(house: House) -> None:
    """By failures in their name from everywhere, or at their own address; and a new address waits a quarter at most."""
    house.user("ada")
    house.user("max")
    comes_in(house, "ada")
    most = LOCK_OUTS["user"].free + 8
    for number in range(most):
        fails(house, "ada", f"198.51.100.{number}")
    assert timedelta(0) < fails(house, "ada", "203.0.113.1") <= timedelta(minutes=15)
    comes_in(house, "ada")
    for number in range(LOCK_OUTS["address"].free + 4):
        fails(house, f"guess {number}", HERE)
    assert timedelta(0) < fails(house, "max", HERE) <= timedelta(minutes=15)
    comes_in(house, "ada", HERE)
    comes_in(house, "max", "203.0.113.2")
    comes_in(house, "max", "203.0.113.3")
    house.later(minutes=15)
    comes_in(house, "ada", "203.0.113.1")
    comes_in(house, "max", HERE)


def test_coming_in_ends_no_wait_for_others_at_the_address(house: House) -> None:
    """Who has an account must not use it to guess the passwords of others without end."""
    house.user("mallory")
    comes_in(house, "mallory")
    for number in range(LOCK_OUTS["address"].free + 1):
        fails(house, f"guess {number}")
        comes_in(house, "mallory")
    assert fails(house, "another guess") > timedelta(0)
    house.user("trent")
    tried = 0
    for number in range(60):
        house.later(seconds=1)
        with pytest.raises(LoginRefused) as caught:
            house.gate.login(f"more {number}", "wrong password", HERE)
        tried += not caught.value.wait
        comes_in(house, "mallory")
    assert tried < 5, "60 tries in a minute"


def test_networks_of_ipv6_count_as_one_address(house: House) -> None:
    for number in range(LOCK_OUTS["address"].free + 1):
        fails(house, f"guess {number}", f"2001:db8::{number:x}")
    assert fails(house, "x", "2001:db8::ffff:1") > timedelta(0)
    assert fails(house, "x", "2001:db8:0:1::1") == timedelta(0)
    assert fails(house, "y", "::ffff:192.0.2.1") == timedelta(0)


def test_a_death_while_a_password_is_looked_at_costs_a_try(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted before: dying, or a thousand at once, gives no look for nothing."""
    house.user()

    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Argon2Passwords, "look", die)
        for _ in range(FREE + 1):
            with pytest.raises(SystemExit):
                comes_in(house)
    assert fails(house, password=PASSWORD) == timedelta(seconds=10)
    assert [one for one in house.told() if one[1] == "login"] == []


@pytest.mark.parametrize("what", ["disabled", "another password"])
def test_a_user_who_is_changed_meanwhile_does_not_come_in(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    house.user()
    look = Argon2Passwords.look

    def meanwhile(self: Argon2Passwords, password: str, kept: str | None) -> object:
        if what == "disabled":
            house.people.disable(Asker(), "ada")
        else:
            house.people.set_password(Asker(), "ada", "another sentence")
        return look(self, password, kept)

    monkeypatch.setattr(Argon2Passwords, "look", meanwhile)
    fails(house, password=PASSWORD)
    with house.records.read() as tx:
        assert tx.sessions.all() == []


# Passwords ------------------------------------------------------------------------------------------------------------


def test_hashes_are_renewed_when_the_parameters_have_grown(house: House) -> None:
    house.user()
    stronger = Argon2Passwords(**{**QUICK, "time_cost": 2})
    before = kept(house)
    comes_in(house)
    house.gate.passwords = stronger
    comes_in(house)
    after = kept(house)
    assert "t=1," in before
    assert "t=2," in after
    assert comes_in(house).principal.name == "ada"


@pytest.mark.parametrize("kept", [None, "", "$argon2id$v=19$m=8", "plain text", "$2b$12$abc"])
def test_what_is_no_hash_is_nobodys_password(kept: str | None) -> None:
    passwords = Argon2Passwords(**QUICK)
    assert not passwords.look("nobody has this password", kept).is_right
    assert not passwords.look("\ud800", kept).is_right
    made = passwords.hash(PASSWORD)
    assert passwords.look(PASSWORD, made).is_right
    assert passwords.hash(PASSWORD) != made


def test_the_parameters_are_those_of_the_rfc() -> None:
    assert Argon2Passwords().hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_password_of_ones_own_asks_for_the_old_one_and_ends_all_sessions(house: House) -> None:
    house.user()
    other, mine = comes_in(house), comes_in(house)
    ada = house.asker("ada")
    with pytest.raises(LoginRefused):
        house.people.change_password(ada, "not the old one", "a new sentence", session_id=mine.session_id)
    with pytest.raises(UserError, match="fewer"):
        house.people.change_password(ada, PASSWORD, "short", session_id=mine.session_id)
    assert house.gate.session(mine.session_id) is not None
    made = house.people.change_password(ada, PASSWORD, "a new sentence", session_id=mine.session_id)
    assert [house.gate.session(one.session_id) for one in (other, mine)] == [None, None]
    assert house.gate.session(made.session_id) is not None
    fails(house)
    comes_in(house, password="a new sentence")


# Sessions -------------------------------------------------------------------------------------------------------------


def test_sessions_end_when_idle_when_old_and_when_ended(house: House) -> None:
    house.user()
    idle, long = house.gate.limits.idle, house.gate.limits.session
    made = comes_in(house)
    house.later(seconds=(idle - timedelta(minutes=2)).total_seconds())
    assert house.gate.session(made.session_id) is not None
    house.later(seconds=(idle - timedelta(seconds=1)).total_seconds())
    assert house.gate.session(made.session_id) is not None, "it was used meanwhile"
    house.later(seconds=(idle + timedelta(seconds=1)).total_seconds())
    assert house.gate.session(made.session_id) is None
    made = comes_in(house)
    for _ in range(int(long / idle) + 1):
        house.gate.session(made.session_id)
        house.later(seconds=idle.total_seconds() - 1)
    assert house.gate.session(made.session_id) is None, "however it is used"
    with house.records.read() as tx:
        assert len(tx.sessions.all()) == 1
    house.gate.tidy()
    with house.records.read() as tx:
        assert tx.sessions.all() == []


def test_logging_out_here_and_everywhere(house: House) -> None:
    house.user("ada")
    house.user("max")
    one, two, three, other = comes_in(house), comes_in(house), comes_in(house), comes_in(house, "max")
    assert house.gate.logout(one.session_id, HERE) == 1
    assert house.gate.logout(one.session_id, HERE) == 0
    assert [house.gate.session(s.session_id) is None for s in (one, two, other)] == [True, False, False]
    assert house.gate.logout(two.session_id, HERE, everywhere=True) == 2
    assert [house.gate.session(s.session_id) is None for s in (two, three, other)] == [True, True, False]
    assert house.told()[-2:] == [("ada", "logout", "done")] * 2


def test_a_login_ends_the_session_that_the_browser_had(house: House) -> None:
    """An id that somebody else has put into the browser becomes nobody's session."""
    house.user()
    planted = "planted"
    made = house.gate.login("ada", PASSWORD, HERE, before=planted)
    assert made.session_id != planted
    assert house.gate.session(planted) is None
    again = house.gate.login("ada", PASSWORD, HERE, before=made.session_id)
    assert house.gate.session(made.session_id) is None
    assert house.gate.session(again.session_id) is not None


def test_seen_is_written_at_most_once_a_minute(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.user()
    made = comes_in(house)
    _, text = house.people.add_token(Asker(), "ada", "ci")
    writes: list[str] = []
    write = house.records.write
    monkeypatch.setattr(house.records, "write", lambda: (writes.append("w"), write())[1])
    for _ in range(10):
        assert house.gate.session(made.session_id)
        assert house.gate.token(text)
        house.later(seconds=9)
    assert len(writes) == 1 + 2, "the session once, the token at first and once"


def test_a_csrf_token_is_that_of_its_session_alone(house: House) -> None:
    house.user()
    one, two = comes_in(house), comes_in(house)
    assert is_csrf(one.session_id, one.csrf)
    assert one.csrf == csrf_of(one.session_id)
    for wrong in (None, "", two.csrf, one.csrf[:-1], one.csrf.upper(), "ä" * 64, "\ud800", one.session_id):
        assert not is_csrf(one.session_id, wrong)
    assert one.csrf not in (digest(one.session_id), one.session_id)
