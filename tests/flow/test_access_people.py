"""Tokens, who may look after whom, and what the audit log says of it."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from harness.access import HERE, PASSWORD, House, comes_in, fails, there
from tidemill.flow.access import Asker
from tidemill.model.access import Result, Role
from tidemill.model.errors import Refused, UnknownName, UserError
from tidemill.model.masking import GIVEN
from tidemill.plan.throttle import LOCK_OUTS


@pytest.fixture
def house() -> House:
    return House()


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_a_token_is_recognised_scoped_and_kept_as_a_hash(house: House) -> None:
    house.user("ada", Role.OPERATOR, salaries=Role.NONE)
    made, text = house.people.add_token(Asker(), "ada", "nightly", Role.VIEWER, ["sales", "salaries"])
    assert re.fullmatch(r"tm_[a-z2-7]{8}_[a-z2-7]{52}", text)
    assert text[3:11] == made.id
    found = house.gate.token(text)
    assert found is not None
    assert (found.name, found.token, found.on("sales"), found.on("salaries"), found.on("other"), found.on(None)) == (
        "ada", made.id, Role.VIEWER, Role.NONE, Role.NONE, Role.NONE
    )  # fmt: skip
    with house.records.read() as tx:
        assert text not in f"{tx.tokens.all()} {tx.log.page()}"
        assert tx.tokens.all()[0].used_at == house.clock.now()
        assert house.gate.token(f"tm_{made.id}_{tx.tokens.all()[0].digest[:52]}") is None
    for wrong in (
        "",
        "tm_",
        text[:-1],
        text + "a",
        text.upper(),
        text[:-1] + "ä",
        f"tm_{made.id}_{'a' * 52}",
        text[3:],
    ):
        assert house.gate.token(wrong) is None, wrong


def test_a_token_ends_by_time_by_hand_and_with_its_user(house: House) -> None:
    house.user("ada", Role.ADMIN)
    house.user("max", Role.ADMIN)
    (made, text), (_, other) = (
        house.people.add_token(Asker(), "ada", "a"),
        house.people.add_token(Asker(), "ada", "b"),
    )
    _, forever = house.people.add_token(Asker(), "ada", "c", lasts=None)
    house.people.revoke_token(Asker(), made.id)
    assert [house.gate.token(one) is None for one in (text, other, forever)] == [True, False, False]
    house.later(days=89)
    assert house.gate.token(other) is not None
    house.later(days=1)
    assert [house.gate.token(one) is None for one in (other, forever)] == [True, False]
    house.people.disable(Asker(), "ada")
    assert house.gate.token(forever) is None
    house.people.disable(Asker(), "ada", undo=True)
    assert house.gate.token(forever) is not None


def test_a_token_does_not_grow_with_its_user_and_shrinks_with_them(house: House) -> None:
    house.user("ada", Role.OPERATOR)
    _, text = house.people.add_token(Asker(), "ada", "a")
    house.people.set_role(Asker(), "ada", Role.ADMIN)
    assert there(house.gate.token(text)).role is Role.OPERATOR
    house.people.set_role(Asker(), "ada", Role.VIEWER)
    assert there(house.gate.token(text)).role is Role.VIEWER


def test_a_token_that_could_do_nothing_is_refused(house: House) -> None:
    house.user("ada", Role.VIEWER)
    for role, pipelines in ((Role.OPERATOR, []), (Role.NONE, []), (Role.ADMIN, ["sales"])):
        with pytest.raises(Refused, match="no more than its user"):
            house.people.add_token(Asker(), "ada", "x", role, pipelines)
    for days in (0, -1):
        with pytest.raises(UserError, match="over at once"):
            house.people.add_token(Asker(), "ada", "x", lasts=timedelta(days=days))
    with pytest.raises(UserError, match="longer than there are dates"):
        house.people.add_token(Asker(), "ada", "x", lasts=timedelta(days=999_999_999))


# Who may look after whom ----------------------------------------------------------------------------------------------


def test_only_admins_look_after_others_and_refusals_are_noted(house: House) -> None:
    house.user("ada", Role.ADMIN)
    house.user("max", Role.OPERATOR)
    theirs, _ = house.people.add_token(Asker(), "ada", "hers")
    max_ = house.asker("max")
    before = len(house.told())
    for refused in (
        lambda: house.people.add(max_, "eve", Role.ADMIN, PASSWORD),
        lambda: house.people.set_role(max_, "max", Role.ADMIN),
        lambda: house.people.disable(max_, "ada"),
        lambda: house.people.set_password(max_, "ada", PASSWORD),
        lambda: house.people.add_token(max_, "ada", "x"),
        lambda: house.people.revoke_token(max_, theirs.id),
        lambda: house.people.revoke_token(max_, "guess"),
        lambda: house.people.tokens(max_),
        lambda: house.people.sessions(max_, "ada"),
        lambda: house.people.end_sessions(max_, "ada"),
    ):
        with pytest.raises(Refused, match=r"(users|tokens)\.manage needs the role admin"):
            refused()
    assert [result for _, _, result in house.told()[before:]] == ["refused"] * 10
    mine, text = house.people.add_token(max_, "max", "mine")
    assert [one.id for one in house.people.tokens(max_, "max")] == [mine.id]
    as_token = Asker(there(house.gate.token(text)), HERE)
    with pytest.raises(Refused):
        house.people.add_token(as_token, "max", "a token that makes tokens")
    house.people.revoke_token(max_, mine.id)
    assert house.people.disable(house.asker("ada"), "max").disabled_at is not None


def test_somebody_can_always_look_after_users(house: House) -> None:
    """Not for the command line on the computer itself, which always can."""
    house.user("ada", Role.ADMIN)
    house.user("max", Role.ADMIN)
    ada, max_ = house.asker("ada"), house.asker("max")
    house.people.disable(max_, "max")
    for refused in (
        lambda: house.people.disable(ada, "ada"),
        lambda: house.people.set_role(ada, "ada", Role.VIEWER),
    ):
        with pytest.raises(Refused, match="Nobody could look after"):
            refused()
    house.people.set_role(ada, "ada", None, {"sales": Role.VIEWER})
    house.people.disable(Asker(), "ada")


def test_roles_of_pipelines_are_set_and_taken_back_and_hold_at_once(house: House) -> None:
    house.user("max", Role.VIEWER)
    made = comes_in(house, "max")
    house.people.set_role(Asker(), "max", None, {"sales": Role.OPERATOR, "salaries": Role.NONE})
    found = there(house.gate.session(made.session_id))
    assert (found.role, found.on("sales"), found.on("salaries")) == (Role.VIEWER, Role.OPERATOR, Role.NONE)
    assert house.people.set_role(Asker(), "max", Role.OPERATOR, {"salaries": None}).pipelines == {
        "sales": Role.OPERATOR
    }
    with pytest.raises(UnknownName) as caught:
        house.people.set_role(Asker(), "mex", Role.ADMIN)
    assert caught.value.hint == 'did you mean "max"?'


def test_a_new_password_and_being_disabled_end_sessions_and_lock_outs(house: House) -> None:
    house.user()
    made = comes_in(house)
    for number in range(LOCK_OUTS["user"].free + 1):
        fails(house, "ada", f"198.51.{number}.1")
    assert fails(house, "ada", "203.0.113.1") > timedelta(0)
    assert house.people.set_password(Asker(), "ada", "another sentence") == 1
    assert house.gate.session(made.session_id) is None
    made = comes_in(house, "ada", "203.0.113.1", "another sentence")
    house.people.disable(Asker(), "ada")
    assert house.gate.session(made.session_id) is None
    house.people.disable(Asker(), "ada", undo=True)
    assert house.gate.session(made.session_id) is None


# The audit log --------------------------------------------------------------------------------------------------------


def test_what_is_done_is_noted_before_and_after(house: House) -> None:
    house.user("ada", Role.OPERATOR)
    ada = house.asker("ada")
    with house.audit.noted(ada, "runs.start", "pipeline sales", "sales", {"conf": {"day": 1}}) as more:
        begun = house.audit.page(1)[0][0]
        assert (begun.result, begun.detail) == (Result.BEGUN, {"conf": {"day": 1}})
        more["run"] = 7
    done = house.audit.page(1)[0][0]
    assert (done.who, done.pipeline, done.address, done.result, done.of) == (
        "ada",
        "sales",
        HERE,
        Result.DONE,
        begun.id,
    )
    assert done.detail == {"conf": {"day": 1}, "run": 7}
    for error, result in (
        (Refused("no"), Result.REFUSED),
        (ValueError("v"), Result.FAILED),
        (SystemExit(), Result.FAILED),
    ):
        with pytest.raises(type(error)), house.audit.noted(ada, "runs.stop", "run 7"):
            raise error
        assert house.audit.page(1)[0][0].result is result
    assert [one.result for one in house.audit.page(action="runs.stop")[0]].count(Result.BEGUN) == 0


def test_after_a_death_within_an_action_its_beginning_is_on_record(house: House) -> None:
    house.user("ada", Role.OPERATOR)
    inside = house.audit.noted(house.asker("ada"), "runs.start", "pipeline sales")
    inside.__enter__()
    # What a killed process does not do any more: leave the block.
    assert house.audit.page(1)[0][0].result is Result.BEGUN


def test_the_log_has_no_secrets(house: House) -> None:
    GIVEN.add("hunter2hunter2")
    house.user("ada", Role.OPERATOR)
    detail = {
        "password": "abc", "nested": [{"api-key": 7, "url": "https://me:hunter2hunter2@host"}], "Token": {"a": 1},
        "n": float("nan"), "when": house.clock.now(), "long": "x" * 9000, "hunter2hunter2": 1,
    }  # fmt: skip
    with pytest.raises(Refused), house.audit.noted(house.asker("ada"), "runs.start", "hunter2hunter2", None, detail):
        raise Refused("hunter2hunter2 is wrong")
    shown = json.dumps([dict(one.detail) for one in house.audit.page()[0]]) + str(house.audit.page())
    assert "hunter2" not in shown
    assert "abc" not in shown
    assert "api-key" in shown
    assert len(shown) < 9000


def test_pages_of_the_log_follow_each_other_and_old_ones_are_gone(house: House) -> None:
    for number in range(7):
        house.audit.refused(Asker(), "runs.stop", f"run {number}", "sales", "why")
        house.later(days=60)
    seen, before = [], None
    while True:
        page, before = house.audit.page(3, before)
        seen += [one.target for one in page]
        if before is None:
            break
        house.audit.refused(Asker(), "see", "comes meanwhile", None, "why")
    assert seen == [f"run {number}" for number in reversed(range(7))]
    house.gate.tidy()
    assert [one.target for one in house.audit.page(action="runs.stop")[0]] == [f"run {n}" for n in (6, 5, 4, 3, 2, 1)]
