"""What checks expect, in words: each kind, with thresholds, and expressions without what only machines need."""

from __future__ import annotations

import pytest

import tidemill as tm
from tidemill.flow.facts.promises import in_words
from tidemill.model.expectation import Expectation


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (tm.not_null("a", "b"), "Each row has a value in a and b."),
        (tm.in_set("a", ["x", "y"]), "a is one of x, y."),
        (tm.in_set("a", range(20)), "a is one of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more."),
        (tm.in_set("a", []), "a has no value at all."),
        (tm.between("a", 0, 5, mostly=0.99), "a is at least 0 and at most 5, in at least 99 % of the rows."),
        (tm.between("a", 0, strict_min=True, max_failed=3), "a is more than 0, but for at most 3 rows."),
        (tm.matches("a", "^N"), "a fits the regular expression ^N."),
        (tm.unique("a", "b", "c"), "No two rows have the same a, b and c. Of the whole table."),
        (tm.references("a", "shop.b", "id"), "Each a is there in shop.b (id). Of the whole table."),
        (tm.row_count(5, 1200, of="batch"), "There are 5 to 1,200 rows."),
        (tm.fresh_within("at", "3h"),
         "The newest at is at most 3:00:00 old at the end of the interval. Of the whole table."),
        (tm.expect(tm.col("a") / tm.col("b") * 60 < 7, name="slow"), "slow: ((a / b) * 60) < 7."),
    ],
    ids=lambda one: one.name if isinstance(one, Expectation) else "",
)  # fmt: skip
def test_a_check_in_words(check: Expectation, words: str) -> None:
    assert in_words(check) == words
