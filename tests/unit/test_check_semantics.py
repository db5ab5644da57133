"""Checks: what each counts, which rows it leaves out, when it passes, what it says; and that it costs one query."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.errors import DefinitionError, UnknownName, UserError
from tidemill.model.expectation import (
    Check,
    Scope,
    Severity,
    between,
    expect,
    fresh_within,
    in_set,
    matches,
    not_null,
    references,
    row_count,
    unique,
)
from tidemill.model.table import TableName
from tidemill.plan.check import Frames, Outcome, collect_streaming, run_checks

TABLE = TableName("flights", "clean")
NOW = datetime(2013, 1, 16, 6, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "carrier": ["AA", "UA", None, "XX", "UA"],
        "flight": [1, 2, 3, 4, 2],
        "delay": [5.0, -3.5, None, math.nan, 900.0],
        "at": [datetime(2013, 1, 15, h) for h in (1, 2, 3, 4, 5)],
        "day": [date(2013, 1, 14)] * 5,
        "_batch_id": [1, 1, 2, 2, 2],
    }
)
AIRLINES = pl.DataFrame({"carrier": ["AA", "UA", "B6"], "name": ["American", "United", "JetBlue"]})


def run(*checks: Check, frame: pl.DataFrame = ROWS, **options: Any) -> list[Outcome]:
    frames = Frames(
        frame.lazy(),
        frame.filter(pl.col("_batch_id") == 2).lazy() if "_batch_id" in frame.columns else None,
        {"flights.airlines": AIRLINES.lazy()},
    )
    return run_checks(checks, TABLE, frames, **{"now": NOW, **options})


def one(check: Check, **options: Any) -> tuple[bool, int, int]:
    (outcome,) = run(check, **options)
    return outcome.passed, outcome.rows, outcome.failed


WHOLE: Any = {"scope": "whole"}


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (not_null("carrier", **WHOLE), (False, 5, 1)),
        (not_null("carrier", "delay", **WHOLE), (False, 5, 1)),
        (not_null("delay", **WHOLE), (False, 5, 1)),
        (unique("flight"), (False, 5, 2)),
        (unique("carrier"), (False, 4, 2)),
        (unique("flight", "at"), (True, 5, 0)),
        (in_set("carrier", ["AA", "UA"], **WHOLE), (False, 4, 1)),
        (in_set("carrier", ["AA", "UA"], null_fails=True, **WHOLE), (False, 5, 2)),
        (in_set("carrier", None, **WHOLE), (True, 4, 0)),
        (in_set("carrier", [], **WHOLE), (False, 4, 4)),
        (in_set("flight", [1, 2.0, 3.5, 4], **WHOLE), (False, 5, 1)),
        (in_set("delay", [5, 900], **WHOLE), (False, 4, 2)),
        (in_set("day", [date(2013, 1, 14)], **WHOLE), (True, 5, 0)),
        (between("delay", -10, 900, **WHOLE), (False, 4, 1)),
        (between("delay", min=-10, **WHOLE), (False, 4, 1)),
        (between("delay", max=900, strict_max=True, **WHOLE), (False, 4, 2)),
        (between("flight", 1, 4, strict_min=True, **WHOLE), (False, 5, 1)),
        (between("at", "2013-01-15T02:00", datetime(2013, 1, 15, 4, tzinfo=UTC), **WHOLE), (False, 5, 2)),
        (between("day", "2013-01-14", date(2013, 1, 14), **WHOLE), (True, 5, 0)),
        (matches("carrier", "^[AU]A$", **WHOLE), (False, 4, 1)),
        (matches("carrier", "A", **WHOLE), (False, 4, 1)),
        (expect(pl.col("flight") < 4, **WHOLE), (False, 5, 1)),
        (expect(pl.col("carrier") != "XX", **WHOLE), (False, 4, 1)),
        (expect(pl.col("carrier") != "XX", null_fails=True, **WHOLE), (False, 5, 2)),
        (expect(pl.col("flight").sum() == 12, **WHOLE), (True, 1, 0)),
        (expect(pl.col("flight").mean() > 100, **WHOLE), (False, 1, 1)),
        (references("carrier", "airlines"), (False, 4, 1)),
        (references("carrier", "flights.airlines", "carrier"), (False, 4, 1)),
        (row_count(1, 5), (True, 5, 0)),
        (row_count(max=4), (False, 5, 0)),
        (row_count(equal=5), (True, 5, 0)),
        (row_count(), (True, 5, 0)),
        (fresh_within("at", "26h"), (True, 5, 0)),
        (fresh_within("at", timedelta(hours=25)), (True, 5, 0)),
        (fresh_within("at", "1d"), (False, 5, 0)),
        (fresh_within("day", "2d6h"), (True, 5, 0)),
        (fresh_within("day", "2d5h59m"), (False, 5, 0)),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_what_each_check_counts(check: Check, expected: tuple[bool, int, int]) -> None:
    assert one(check) == expected


def test_row_checks_look_at_the_batch_and_table_checks_at_the_table() -> None:
    scopes = {
        Scope.BATCH: [expect(pl.col("flight") > 0), not_null("flight"), in_set("flight", [1]), between("flight", 1),
                      matches("carrier", "A")],
        Scope.WHOLE: [unique("flight"), references("carrier", "airlines"), row_count(), fresh_within("at", "1d")],
    }  # fmt: skip
    for scope, checks in scopes.items():
        assert {c.scope for c in checks} == {scope}
    assert one(not_null("flight")) == (True, 3, 0)
    assert one(row_count(scope="batch")) == (True, 3, 0)
    assert one(unique("flight", scope="batch")) == (True, 3, 0)
    assert one(references("carrier", "airlines", scope="batch")) == (False, 2, 1)


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        ({}, False),
        ({"mostly": 0.8}, True),
        ({"mostly": 0.81}, False),
        ({"max_failed": 1}, True),
        ({"max_failed": 0}, False),
    ],
)
def test_how_many_rows_may_fail(options: dict[str, Any], passed: bool) -> None:
    (outcome,) = run(expect(pl.col("flight") < 4, **WHOLE, **options))
    assert outcome.passed is passed
    assert outcome.failing is not None
    assert outcome.failing["flight"].to_list() == [4]


def test_no_rows_pass_row_checks_and_are_not_fresh() -> None:
    empty = ROWS.clear()
    assert [
        o.passed
        for o in run(
            not_null("carrier"), unique("flight"), between("delay", 0, 1), references("carrier", "airlines"),
            expect(pl.col("flight") > 9, mostly=0.5), row_count(equal=0), fresh_within("at", "999d"), frame=empty,
        )
    ] == [True, True, True, True, True, True, False]  # fmt: skip


def test_failing_rows_are_kept_whole_in_order_and_bounded() -> None:
    many = pl.DataFrame({"n": range(10_000), "k": [i % 6000 for i in range(10_000)]})
    odd, double = run(expect(pl.col("n") % 2 == 0), unique("k"), frame=many, limit=7)
    assert (odd.failed, double.failed) == (5000, 8000)
    assert odd.failing is not None
    assert double.failing is not None
    assert odd.failing.to_dicts() == [{"n": n, "k": n} for n in range(1, 14, 2)]
    assert double.failing.columns == ["n", "k"]
    assert double.failing["n"].to_list() == list(range(7))


def test_failing_rows_of_references_are_those_without_a_counterpart() -> None:
    (outcome,) = run(references("carrier", "airlines"))
    assert outcome.failing is not None
    assert outcome.failing["carrier"].to_list() == ["XX"]


def test_keys_of_different_integer_types_refer_to_one_another() -> None:
    """A parent's key that the child's type cannot hold is one that no child can mean."""
    child = pl.DataFrame({"id": pl.Series([1, 2, 3], dtype=pl.Int32)})
    parent = pl.DataFrame({"key": [1, 2, 2**40]})
    frames = Frames(child.lazy(), others={"flights.p": parent.lazy()})
    (outcome,) = run_checks([references("id", "p", "key")], TABLE, frames, now=NOW)
    assert (outcome.rows, outcome.failed) == (3, 1)


def test_one_query_for_all_checks_and_one_more_where_rows_failed(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "t.parquet")
    frames = Frames(pl.scan_parquet(tmp_path / "t.parquet"), others={"flights.airlines": AIRLINES.lazy()})
    asked: list[int] = []

    def collect(queries: list[pl.LazyFrame]) -> list[pl.DataFrame]:
        asked.append(len(queries))
        return collect_streaming(queries)

    good = [not_null("flight"), unique("at"), row_count(1), references("carrier", "airlines", mostly=0.5)]
    fine = [*good[:3], between("flight", 1), in_set("flight", [1, 2, 3, 4]), fresh_within("at", "2d")]
    run_checks(fine, TABLE, frames, now=NOW, collect=collect)
    assert asked == [1]
    run_checks([*good, unique("flight"), not_null("carrier")], TABLE, frames, now=NOW, collect=collect)
    assert asked == [1, 1, 3]
    assert run_checks([], TABLE, frames, now=NOW, collect=collect) == []


def test_what_an_outcome_says() -> None:
    outcomes = run(
        expect(pl.col("delay") < 100, name="delay_is_sane", **WHOLE, mostly=0.9),
        not_null("carrier", severity="warn", **WHOLE),
        row_count(10, name="enough"),
        fresh_within("at", "1h", name="fresh"),
        expect(pl.col("flight").max() < 3, name="few", **WHOLE),
    )
    assert [o.message for o in outcomes] == [
        'delay_is_sane: 2 of 4 rows failed (50.00%); expected [(col("delay")) < (dyn int: 100)], at least 0.9 of the '
        "rows pass",
        "not_null(carrier): 1 of 5 rows failed (20.00%)",
        "enough: 5; expected row_count(10..)",
        "fresh: 2013-01-15 05:00:00+00:00; expected fresh_within(at: 1:00:00)",
        'few: 1 of 1 rows failed (100.00%); expected [(col("flight").max()) < (dyn int: 3)]',
    ]
    assert [o.stops for o in outcomes] == [True, False, True, True, True]
    assert [o.failing is not None for o in outcomes] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (
            not_null("carier"),
            'There is no column of flights.clean "carier".\n  at: check "not_null(carier)" of flights.clean\n'
            '  try: did you mean "carrier"?',
        ),
        (expect(pl.col("dely") > 0, name="x"), 'There is no column of flights.clean "dely".'),
        (references("carrier", "airlins"), 'There is no table "flights.airlins".'),
        (references("carrier", "airlines", "code"), 'There is no column of flights.airlines "code".'),
        (
            expect(pl.col("flight") > "a", name="x"),
            'Check "x" does not fit flights.clean: cannot compare string with numeric type (i64).\n'
            '  at: check "x" of flights.clean\n  try: its columns are flight Int64',
        ),
        (expect(pl.col("flight") + 1, name="x"), 'Check "x" of flights.clean gives Int64, not true or false.'),
        (matches("carrier", "(", name="x"), 'Check "x" does not fit flights.clean: regex '),
        (matches("flight", "1", name="x"), 'Check "x" does not fit flights.clean: expected String type, got: i64.'),
        (in_set("flight", ["a"], name="x"), 'Check "x" does not fit flights.clean: '),
        (between("flight", "a", name="x"), 'Check "x" does not fit flights.clean: '),
        (between("at", "yesterday", name="x"), 'Check "x" does not fit flights.clean: Invalid isoformat string'),
        (fresh_within("carrier", "1h"), '"carrier" is no time: its type is String.'),
    ],
)
def test_a_check_that_does_not_fit_says_why_before_data_is_read(check: Check, text: str) -> None:
    def never(_: list[pl.LazyFrame]) -> list[pl.DataFrame]:
        raise AssertionError("data was read")

    with pytest.raises(UserError) as caught:
        run(check, collect=never)
    assert str(caught.value).startswith(text)


def test_an_expression_that_fails_on_the_data_is_named() -> None:
    bad = expect(pl.col("carrier").cast(pl.Int64) > 0, name="bad", **WHOLE)
    with pytest.raises(UserError, match=r'Check "bad" of flights[.]clean failed on the data: conversion from'):
        run(not_null("flight"), bad)


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match='2 checks called "not_null'):
        run(not_null("flight"), not_null("flight"))


def test_a_column_that_has_held_nulls_only_leaves_its_checks_without_an_answer() -> None:
    nulls = pl.DataFrame({"x": [None, None]})
    checks = [
        expect(pl.col("x").str.len_chars() < 3, name="a"), matches("x", "a"), in_set("x", ["a"]), between("x", 1, 2),
        unique("x"), expect(pl.col("x").is_null(), name="b"), in_set("x", [1], null_fails=True, name="c"),
        not_null("x"),
    ]  # fmt: skip
    outcomes = run(*checks, frame=nulls)
    assert [(o.rows, o.failed) for o in outcomes] == [(0, 0)] * 5 + [(2, 0), (2, 2), (2, 2)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: not_null(), "not_null wants names of columns"),
        (lambda: between("x"), "has neither min nor max"),
        (lambda: in_set("x", "abc"), "wants a list of values"),
        (lambda: expect(pl.col("x") > 0, mostly=1.5), "no share between 0 and 1"),
        (lambda: expect(pl.col("x") > 0, mostly=0.5, max_failed=3), "stands beside mostly"),
        (lambda: unique("x", max_failed=-1), "is negative"),
        (lambda: references(["a", "b"], "t", ["c"]), "2 columns cannot refer to 1"),
        (lambda: row_count(1, equal=2), "equal stands alone"),
        (lambda: row_count(equal=-1), "no number of rows"),
        (lambda: fresh_within("x", "soon"), '"soon" is no duration'),
        (lambda: fresh_within("x", "1h xx"), "is no duration"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused_where_it_is_made(make: Any, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        make()


def test_options_are_checked_by_name() -> None:
    wrong: Any = {"severty": "warn"}
    with pytest.raises(UnknownName, match='no option of not_null "severty"') as caught:
        not_null("x", **wrong)
    assert caught.value.hint == 'did you mean "severity"?'
    with pytest.raises(UnknownName, match='no severity "fatal"'):
        not_null("x", severity="fatal")
    assert not_null("x", severity="warn").severity is Severity.WARN
    assert not_null("x") == not_null("x")
    assert not_null("x") != not_null("y")


VALUES = st.lists(st.tuples(st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, "a", "b"])), max_size=12)


@settings(deadline=None)
@given(VALUES, st.sets(st.integers(0, 4)), st.sampled_from([1.0, 0.5, 0.34]), st.booleans())
def test_counts_equal_those_of_a_naive_program(
    rows: list[tuple[int | None, str | None]], values: set[int], mostly: float, null_fails: bool
) -> None:
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "s": pl.String}, orient="row")
    parents = pl.DataFrame({"n": sorted(values), "s": ["a"] * len(values)}, schema={"n": pl.Int64, "s": pl.String})
    checks: list[Check] = [
        in_set("n", values, mostly=mostly, null_fails=null_fails),
        between("n", 2, 3, strict_max=True, mostly=mostly, null_fails=null_fails),
        unique("n", "s", mostly=mostly),
        references(["n", "s"], "parents", mostly=mostly),
        not_null("n", "s", mostly=mostly),
    ]
    found = run_checks(checks, TABLE, Frames(frame.lazy(), others={"flights.parents": parents.lazy()}), now=NOW)

    judged = [n for n, _ in rows if n is not None or null_fails]
    keys = [r for r in rows if r != (None, None)]
    whole = [(n, s) for n, s in rows if n is not None and s is not None]
    expected = [
        (len(judged), sum(n not in values for n in judged)),
        (len(judged), sum(n != 2 for n in judged)),
        (len(keys), sum(keys.count(k) > 1 for k in keys)),
        (len(whole), sum(not (n in values and s == "a") for n, s in whole)),
        (len(rows), len(rows) - len(whole)),
    ]
    assert [(o.rows, o.failed) for o in found] == expected
    assert [o.passed for o in found] == [n == 0 or (n - f) / n >= mostly for n, f in expected]
    assert [0 if o.failing is None else o.failing.height for o in found] == [f for _, f in expected]
