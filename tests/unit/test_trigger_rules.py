"""Airflow's trigger rules, by Airflow's own table of cases."""

from __future__ import annotations

import pytest

from tidemill.model.graph import TriggerRule
from tidemill.model.run import TaskState
from tidemill.plan.trigger import Tally, Verdict, judge

S = TaskState

#: The rule, how upstreams ended (success, failed, skipped k, upstream_failed, removed; . still runs), the verdict.

R = TriggerRule
RULES = [
    (R.ALL_SUCCESS, "ss", "run"), (R.ALL_SUCCESS, "s.", "wait"), (R.ALL_SUCCESS, "f.", "upstream_failed"),
    (R.ALL_SUCCESS, "k.", "skip"), (R.ALL_SUCCESS, "fk", "upstream_failed"),
    (R.ALL_SUCCESS, "u.", "upstream_failed"),
    (R.ALL_FAILED, "ff", "run"), (R.ALL_FAILED, "fu", "run"), (R.ALL_FAILED, "s.", "skip"),
    (R.ALL_FAILED, "k.", "skip"),
    (R.ALL_FAILED, "f.", "wait"), (R.ALL_DONE, "sf", "run"), (R.ALL_DONE, "kk", "run"), (R.ALL_DONE, "s.", "wait"),
    (R.ALL_SKIPPED, "kk", "run"), (R.ALL_SKIPPED, "k.", "wait"), (R.ALL_SKIPPED, "s.", "skip"),
    (R.ONE_SUCCESS, "s.", "run"), (R.ONE_SUCCESS, "f.", "wait"), (R.ONE_SUCCESS, "ff", "upstream_failed"),
    (R.ONE_SUCCESS, "kk", "skip"), (R.ONE_FAILED, "f.", "run"), (R.ONE_FAILED, "u.", "run"),
    (R.ONE_FAILED, "ss", "skip"),
    (R.ONE_DONE, "f.", "run"), (R.ONE_DONE, "k.", "wait"), (R.ONE_DONE, "kk", "skip"), (R.NONE_FAILED, "sk", "run"),
    (R.NONE_FAILED, "f.", "upstream_failed"), (R.NONE_FAILED, "kk", "run"),
    (R.NONE_FAILED_MIN_ONE_SUCCESS, "sk", "run"), (R.NONE_FAILED_MIN_ONE_SUCCESS, "kk", "skip"),
    (R.NONE_FAILED_MIN_ONE_SUCCESS, "f.", "upstream_failed"), (R.NONE_SKIPPED, "sf", "run"),
    (R.NONE_SKIPPED, "k.", "skip"),
    (R.NONE_SKIPPED, "s.", "wait"), (R.ALWAYS, "..", "run"), (R.ALWAYS, "ff", "run"),
    (R.ALL_DONE_MIN_ONE_SUCCESS, "sf", "run"), (R.ALL_DONE_MIN_ONE_SUCCESS, "s.", "wait"),
    (R.ALL_DONE_MIN_ONE_SUCCESS, "fk", "upstream_failed"), (R.ALL_DONE_MIN_ONE_SUCCESS, "kk", "skip"),
    (R.ALL_SUCCESS, "sr", "run"), (R.ONE_SUCCESS, "kr", "skip"),
]  # fmt: skip
LETTERS = {"s": S.SUCCESS, "f": S.FAILED, "k": S.SKIPPED, "u": S.UPSTREAM_FAILED, "r": S.REMOVED}


@pytest.mark.parametrize(("rule", "ends", "expected"), RULES)
def test_trigger_rules(rule: TriggerRule, ends: str, expected: str) -> None:
    seen = Tally(total=len(ends))
    for letter in ends:
        if letter != ".":
            seen.count(LETTERS[letter], 1)
    assert judge(rule, seen) is Verdict(expected)


def test_a_setup_must_have_gone_well() -> None:
    for state, expected in ((S.SUCCESS, "run"), (S.FAILED, "upstream_failed"), (S.SKIPPED, "skip")):
        seen = Tally(total=2, setups=1)
        seen.count(S.FAILED, 1)
        seen.count(state, 1, setup=True)
        assert judge(R.ALL_DONE_SETUP_SUCCESS, seen) is Verdict(expected)
