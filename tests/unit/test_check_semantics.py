"""Checks: what each counts, which rows it leaves out, when it passes, what it says; and that it costs one query."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.errors import DefinitionError, UserError
from tidemill.model.expectation import (
    Expectation,
    Measured,
    Of,
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
from tidemill.plan.check import Tables, check_columns, failing, measured, query
from tidemill.plan.verdict import observed, passed

MOMENT = datetime(2013, 1, 16, 6, tzinfo=UTC)
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


def tables_of(frame: pl.DataFrame) -> Tables:
    batch = frame.filter(pl.col("_batch_id") == 2) if "_batch_id" in frame.columns else frame
    return Tables(batch.lazy(), frame.lazy(), {"airlines": AIRLINES.lazy()})


def run(*checks: Expectation, frame: pl.DataFrame = ROWS) -> list[Measured]:
    tables = tables_of(frame)
    check_columns(checks, tables, "flights.clean")
    return measured(checks, query(checks, tables).collect(engine="streaming"), MOMENT)


def one(check: Expectation, frame: pl.DataFrame = ROWS) -> tuple[bool, int, int]:
    (found,) = run(check, frame=frame)
    return passed(check, found), found.rows, found.failed


def failed_rows(check: Expectation, frame: pl.DataFrame = ROWS, limit: int = 1000) -> pl.DataFrame:
    rows = failing(check, tables_of(frame))
    assert rows is not None
    return rows.head(limit).collect(engine="streaming")


WHOLE: Any = {"of": "whole"}


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
        (between("delay", -10, **WHOLE), (False, 4, 1)),
        (between("delay", None, 900, strict_max=True, **WHOLE), (False, 4, 2)),
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
        (references(["carrier"], "airlines", ["carrier"]), (False, 4, 1)),
        (row_count(1, 5), (True, 5, 0)),
        (row_count(maximum=4), (False, 5, 0)),
        (row_count(5, 5), (True, 5, 0)),
        (fresh_within("at", "26h"), (True, 5, 0)),
        (fresh_within("at", timedelta(hours=25)), (True, 5, 0)),
        (fresh_within("at", "1d"), (False, 5, 0)),
        (fresh_within("day", timedelta(hours=54)), (True, 5, 0)),
        (fresh_within("day", timedelta(hours=53)), (False, 5, 0)),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_what_each_check_counts(check: Expectation, expected: tuple[bool, int, int]) -> None:
    assert one(check) == expected


def test_row_checks_look_at_the_batch_and_table_checks_at_the_table() -> None:
    kinds = {
        Of.BATCH: [expect(pl.col("flight") > 0), not_null("flight"), in_set("flight", [1]), between("flight", 1),
                   matches("carrier", "A")],
        Of.WHOLE: [unique("flight"), references("carrier", "airlines"), row_count(1), fresh_within("at", "1d")],
    }  # fmt: skip
    for of, checks in kinds.items():
        assert {c.of for c in checks} == {of}
    assert one(not_null("flight")) == (True, 3, 0)
    assert one(row_count(1, of="batch")) == (True, 3, 0)
    assert one(unique("flight", of="batch")) == (True, 3, 0)
    assert one(references("carrier", "airlines", of="batch")) == (False, 2, 1)


@pytest.mark.parametrize(
    ("options", "met"),
    [
        ({}, False),
        ({"mostly": 0.8}, True),
        ({"mostly": 0.81}, False),
        ({"max_failed": 1}, True),
        ({"max_failed": 0}, False),
    ],
)
def test_how_many_rows_may_fail(options: dict[str, Any], met: bool) -> None:
    check = expect(pl.col("flight") < 4, **WHOLE, **options)
    assert one(check)[0] is met
    assert failed_rows(check)["flight"].to_list() == [4]


def test_no_rows_pass_row_checks_and_are_not_fresh() -> None:
    checks = [
        not_null("carrier"), unique("flight"), between("delay", 0, 1), references("carrier", "airlines"),
        expect(pl.col("flight") > 9, mostly=0.5), row_count(0, 0), fresh_within("at", "999d"),
    ]  # fmt: skip
    found = run(*checks, frame=ROWS.clear())
    assert [passed(c, f) for c, f in zip(checks, found, strict=True)] == [True] * 6 + [False]


def test_failing_rows_are_whole_and_in_the_tables_order() -> None:
    many = pl.DataFrame({"n": range(10_000), "k": [i % 6000 for i in range(10_000)]})
    odd, double = expect(pl.col("n") % 2 == 0), unique("k")
    assert [f.failed for f in run(odd, double, frame=many)] == [5000, 8000]
    assert failed_rows(odd, many, 7).to_dicts() == [{"n": n, "k": n} for n in range(1, 14, 2)]
    assert failed_rows(double, many, 7).columns == ["n", "k"]
    assert failed_rows(double, many, 7)["n"].to_list() == list(range(7))


def test_failing_rows_of_references_are_those_without_a_counterpart() -> None:
    assert failed_rows(references("carrier", "airlines"))["carrier"].to_list() == ["XX"]


def test_a_check_of_the_whole_has_no_failing_rows() -> None:
    tables = tables_of(ROWS)
    for check in (row_count(99), fresh_within("at", "1h"), expect(pl.col("flight").max() < 3, **WHOLE)):
        assert failing(check, tables) is None


def test_keys_of_different_integer_types_refer_to_one_another() -> None:
    """A parent's key that the child's type cannot hold is one that no child can mean."""
    child = pl.LazyFrame({"id": pl.Series([1, 2, 3], dtype=pl.Int32)})
    tables = Tables(child, child, {"p": pl.LazyFrame({"key": [1, 2, 2**40]})})
    check = references("id", "p", "key")
    assert measured([check], query([check], tables).collect(), MOMENT) == [Measured(3, 1)]


def test_all_checks_are_one_query_that_reads_the_columns_they_name(tmp_path: Path) -> None:
    ROWS.with_columns(pl.lit("never read").alias("unread")).write_parquet(tmp_path / "t.parquet")
    scan = pl.scan_parquet(tmp_path / "t.parquet")
    checks = [
        not_null("flight"),
        unique("flight"),
        row_count(1),
        references("carrier", "airlines"),
        between("delay", 1),
    ]
    made = query(checks, Tables(scan, scan, {"airlines": AIRLINES.lazy()}))
    plan = made.explain(engine="streaming")
    columns = sorted(int(n) for n in re.findall(r"PROJECT (\d)/7 COLUMNS", plan))
    assert max(columns) < 6, plan
    assert made.collect().height == 1
    assert query([], tables_of(ROWS)).collect().is_empty()


def test_what_was_found_in_words() -> None:
    checks = [expect(pl.col("delay") < 100, **WHOLE), not_null("flight"), row_count(1), fresh_within("at", "1h")]
    assert [observed(c, f) for c, f in zip(checks, run(*checks), strict=True)] == [
        "2 of 4 rows (50.00%)", "3 rows", "5 rows", "1 day, 1:00:00 old",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (
            not_null("carier"),
            'There is no column "carier".\n  at: check "not_null(carier)" of flights.clean\n'
            '  try: did you mean "carrier"?',
        ),
        (expect(pl.col("dely") > 0, name="x"), 'There is no column "dely".'),
        (references("carrier", "airlines", "code"), 'There is no column of airlines "code".'),
        (
            expect(pl.col("flight") > "a", name="x"),
            'Check "x" cannot be computed: cannot compare string with numeric type (i64).\n'
            '  at: check "x" of flights.clean\n  try: columns: flight Int64',
        ),
        (expect(pl.col("flight") + 1, name="x"), 'Check "x" gives Int64, not true or false.'),
        (matches("carrier", "(", name="x"), 'Check "x" cannot be computed: regex '),
        (in_set("flight", ["a"], name="x"), 'Check "x" cannot be computed: '),
        (between("flight", "a", name="x"), 'Check "x" cannot be computed: '),
        (between("at", "yesterday", name="x"), 'Check "x" cannot be computed: Invalid isoformat string'),
        (fresh_within("carrier", "1h"), '"carrier" is no time: its type is String.'),
    ],
)
def test_a_check_that_does_not_fit_says_why_before_data_is_read(check: Expectation, text: str) -> None:
    with pytest.raises(UserError) as caught:
        check_columns([check], tables_of(ROWS), "flights.clean")
    assert str(caught.value).startswith(text)


def test_a_column_that_has_held_nulls_only_leaves_its_checks_without_an_answer() -> None:
    nulls = pl.DataFrame({"x": [None, None]})
    checks = [
        expect(pl.col("x").str.len_chars() < 3, name="a"), matches("x", "a"), in_set("x", ["a"]), between("x", 1, 2),
        unique("x"), expect(pl.col("x").is_null(), name="b"), in_set("x", [1], null_fails=True, name="c"),
        not_null("x"),
    ]  # fmt: skip
    assert [(f.rows, f.failed) for f in run(*checks, frame=nulls)] == [(0, 0)] * 5 + [(2, 0), (2, 2), (2, 2)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: in_set("x", "abc"), "needs a list of values"),
        (lambda: unique("x", max_failed=-1), "is no count"),
        (lambda: row_count(-1), "no number of rows"),
        (lambda: row_count("many"), "no number of rows"),
        (lambda: unique("x", null_fails=True), 'no option "null_fails"'),
        (lambda: fresh_within("x", "soon"), '"soon" is no duration'),
    ],
)
def test_a_check_that_makes_no_sense_is_refused_where_it_is_made(make: Any, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        make()


def test_equal_checks_are_equal() -> None:
    assert expect(pl.col("x") > 0) == expect(pl.col("x") > 0)
    assert expect(pl.col("x") > 0, name="a") != expect(pl.col("x") > 1, name="a")
    assert in_set("x", [1]) == in_set("x", [1]) != in_set("x", [2], name="in_set(x: 1)")


VALUES = st.lists(st.tuples(st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, "a", "b"])), max_size=12)


@settings(deadline=None)
@given(VALUES, st.sets(st.integers(0, 4)), st.sampled_from([1.0, 0.5, 0.34]), st.booleans())
def test_counts_equal_those_of_a_naive_program(
    rows: list[tuple[int | None, str | None]], values: set[int], mostly: float, null_fails: bool
) -> None:
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "s": pl.String}, orient="row")
    parents = pl.DataFrame({"n": sorted(values), "s": ["a"] * len(values)}, schema={"n": pl.Int64, "s": pl.String})
    checks: list[Expectation] = [
        in_set("n", values, mostly=mostly, null_fails=null_fails),
        between("n", 2, 3, strict_max=True, mostly=mostly, null_fails=null_fails),
        unique("n", "s", mostly=mostly),
        references(["n", "s"], "parents", mostly=mostly),
        not_null("n", "s", mostly=mostly),
    ]
    tables = Tables(frame.lazy(), frame.lazy(), {"parents": parents.lazy()})
    found = measured(checks, query(checks, tables).collect(), MOMENT)

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
    assert [(f.rows, f.failed) for f in found] == expected
    assert [passed(c, f) for c, f in zip(checks, found, strict=True)] == [
        rows == 0 or (rows - failed) / rows >= mostly for rows, failed in expected
    ]
    kept = [failing(check, tables) for check in checks]
    assert [rows.collect().height for rows in kept if rows is not None] == [failed for _, failed in expected]
