"""`Pipeline.test`: what a run would publish, and that nothing of the project is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tidemill as tm
from tidemill.authoring import registry
from tidemill.model.batch import Interval
from tidemill.model.errors import RunFailed, UnknownName, UserError
from tidemill.model.expectation import unique

DAY = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "shop"\n')
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "2026-01-01.csv").write_text("id,customer,amount\n1,a,10\n2,b,20\n3,a,5\n")
    (tmp_path / "feeds" / "2026-01-02.csv").write_text("id,customer,amount\n1,a,10\n1,b,20\n")
    monkeypatch.setenv("TIDEMILL_PROJECT", str(tmp_path))
    registry.clear()
    return tmp_path


def shop() -> tm.Pipeline:
    p = tm.Pipeline("shop", schedule="@daily", start="2026-01-01", params={"least": 0})
    orders = p.files("feeds/{{ ds }}.csv", name="orders")
    orders.expect(unique("id"))

    @p.table(write="replace")
    def totals(orders: Any, context: Any) -> Any:
        kept = orders.filter(pl.col("amount") >= context.params["least"])
        return kept.group_by("customer").agg(total=pl.col("amount").sum())

    return p


def seen(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_tables_that_would_be_published_come_as_frames(root: Path) -> None:
    before = seen(root)
    trial = shop().test("2026-01-01")
    assert trial.ok
    assert trial.check() is trial
    assert trial.interval == DAY
    assert trial.table("orders").columns == ["id", "customer", "amount"]
    assert sorted(trial.tables["totals"].rows()) == [("a", 15), ("b", 20)]
    assert [check.passed for check in trial.checks] == [True]
    assert trial.errors == {}
    assert repr(trial) == "shop: success\n  orders  3 rows\n  totals  2 rows"
    assert seen(root) == before, "no database, no archive, no lake in the project"
    with pytest.raises(UnknownName, match="total"):
        trial.table("total")


def test_intervals_and_parameters_as_of_a_run(root: Path) -> None:
    p = shop()
    assert p.test(DAY, params={"least": 10}).table("totals").height == 2
    assert p.test(DAY, params={"least": 11}).table("totals").rows() == [("b", 20)]
    assert p.test(datetime(2026, 1, 1, 7, tzinfo=UTC)).interval == DAY
    with pytest.raises(UserError, match="means 2 intervals"):
        p.test("2026-01-01..2026-01-02")
    with pytest.raises(UnknownName, match="leest"):
        p.test(DAY, params={"leest": 1})


def test_each_trial_begins_with_nothing(root: Path) -> None:
    p = shop()
    assert [p.test("2026-01-01").table("orders").height for _ in range(2)] == [3, 3]


def test_a_failing_trial_tells_its_errors_and_shows_what_was_made(root: Path) -> None:
    trial = shop().test("2026-01-02")
    assert not trial.ok
    assert trial.state == "failed"
    assert [check.passed for check in trial.checks] == [False]
    assert trial.table("orders").height == 2, "as it was on the branch"
    [(task, error)] = trial.errors.items()
    assert "orders" in task
    assert "unique" in error
    assert trial.error is not None
    with pytest.raises(RunFailed, match="unique"):
        trial.check()


def test_a_users_own_exception_stays_what_it_is(root: Path) -> None:
    p = shop()

    @p.table
    def broken(orders: Any) -> Any:
        raise ZeroDivisionError("by nothing")

    trial = p.test("2026-01-01")
    assert "by nothing" in trial.errors["build.broken"]
    assert isinstance(trial.error, Exception)
