"""Checks measured by Polars on plain frames, against what Great Expectations' semantics say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import (
    Expectation,
    Measured,
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
from tidemill.plan.check import Tables, failing, measured, query
from tidemill.plan.verdict import passed

MOMENT = datetime(2013, 1, 2, tzinfo=UTC)
ROWS: dict[str, list[Any]] = {
    "id": [1, 2, 2, None, None],
    "delay": [5, None, 70, -3, 1600],
    "carrier": ["UA", "B6", "XX", None, "UA"],
    "at": [datetime(2013, 1, 1, h, tzinfo=UTC) for h in (1, 5, 9, 13, 20)],
}


def measure(*checks: Expectation, rows: dict[str, Any] | None = None) -> list[Measured]:
    frame = pl.LazyFrame(rows or ROWS)
    tables = Tables(frame, frame, {"carriers": pl.LazyFrame({"code": ["UA", "B6", "AA"]})})
    return measured(checks, query(checks, tables).collect(), MOMENT)


@pytest.mark.parametrize(
    ("check", "rows", "failed"),
    [
        (expect(pl.col("delay") < 1500), 4, 1),
        (not_null("id"), 5, 2),
        (not_null("id", "carrier"), 5, 2),
        (unique("id"), 3, 2),
        (unique("id", "delay"), 5, 0),
        (in_set("carrier", ["UA", "B6"]), 4, 1),
        (in_set("carrier", None), 4, 0),
        (in_set("carrier", []), 4, 4),
        (between("delay", -3, 70), 4, 1),
        (between("delay", -3, 70, strict_min=True), 4, 2),
        (between("delay", None, 70, strict_max=True), 4, 2),
        (matches("carrier", "^[A-Z]{2}$"), 4, 1),
        (references("carrier", "carriers", "code"), 4, 1),
    ],
    ids=lambda value: value.name if isinstance(value, Expectation) else str(value),
)
def test_rows_that_are_looked_at_and_rows_that_fail(check: Expectation, rows: int, failed: int) -> None:
    assert measure(check) == [Measured(rows, failed)]


def test_all_checks_of_a_table_are_measured_together() -> None:
    checks = [row_count(1), unique("id"), not_null("id"), references("carrier", "carriers", "code")]
    assert [(m.rows, m.failed) for m in measure(*checks)] == [(5, 0), (3, 2), (5, 2), (4, 1)]


def test_failing_rows_are_those_that_were_counted() -> None:
    frame = pl.LazyFrame(ROWS)
    tables = Tables(frame, frame, {"carriers": pl.LazyFrame({"code": ["UA", "B6", "AA"]})})
    for check in (
        expect(pl.col("delay") < 1500),
        unique("id"),
        references("carrier", "carriers", "code"),
        not_null("id"),
    ):
        rows = failing(check, tables)
        assert rows is not None
        assert rows.collect().height == measure(check)[0].failed


def test_mostly_is_a_share_of_the_rows_looked_at() -> None:
    found = Measured(rows=4, failed=1)
    assert passed(expect(pl.col("x") > 0, mostly=0.75), found)
    assert not passed(expect(pl.col("x") > 0, mostly=0.76), found)
    assert passed(expect(pl.col("x") > 0, max_failed=1), found)
    assert not passed(expect(pl.col("x") > 0, max_failed=0), found)


def test_a_check_without_rows_passes() -> None:
    assert passed(not_null("id"), measure(not_null("id"), rows={"id": []})[0])
    assert passed(unique("id"), measure(unique("id"), rows={"id": []})[0])


def test_row_count_has_bounds() -> None:
    (found,) = measure(row_count(5, 5))
    assert passed(row_count(5, 5), found)
    assert not passed(row_count(6), found)
    assert not passed(row_count(maximum=4), found)


def test_age_is_counted_from_the_end_of_the_interval() -> None:
    (found,) = measure(fresh_within("at", "4h"))
    assert found.figure == 4 * 3600
    assert passed(fresh_within("at", "4h"), found)
    assert not passed(fresh_within("at", "3h"), found)


def test_a_table_without_a_time_is_not_fresh() -> None:
    check = fresh_within("at", "4h")
    (found,) = measure(check, rows={"at": pl.Series([None], dtype=pl.Datetime)})
    assert found.figure is None
    assert not passed(check, found)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: expect(True), "expect takes an expression, not a bool."),
        (lambda: not_null(), "not_null needs the names of columns."),
        (lambda: between("x"), 'between("x") has no bound.'),
        (lambda: row_count(), "row_count has no bound."),
        (lambda: not_null("x", severity="fatal"), 'severity="fatal" is unknown.'),
        (lambda: not_null("x", mostly=2), 'Check "not_null(x)": mostly=2 is no share.'),
        (lambda: not_null("x", moslty=0.5), 'A check has no option "moslty".'),
        (lambda: references(["a", "b"], "t", "c"), "references: 2 columns cannot refer to 1."),
    ],
)
def test_a_wrong_check_says_what_is_wrong(wrong: Any, says: str) -> None:
    with pytest.raises(DefinitionError) as error:
        wrong()
    assert error.value.what == says
