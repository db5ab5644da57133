"""Promises of port `sqlclient`, by the operators that use it, on SQLite, DuckDB and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import date, datetime
from decimal import Decimal

import pytest

from harness.postgres import Postgres
from harness.reaching import Reaching
from tidemill.authoring import registry
from tidemill.flow.perform import stop_current
from tidemill.model.instance import Failed, Rescheduled, Succeeded
from tidemill.operators import SqlOperator, SqlSensor


@pytest.fixture(params=["sqlite", "duckdb", pytest.param("postgres", marks=pytest.mark.postgres)])
def kind(request, monkeypatch, tmp_path):
    """The connection `shop` to an empty database of each kind."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        monkeypatch.setenv("TIDEMILL_CONN_SHOP", server.new_database().replace("+psycopg", ""))
    else:
        monkeypatch.setenv("TIDEMILL_CONN_SHOP", f"{request.param}:///shop.db")
    return request.param


@pytest.fixture
def worker(tmp_path):
    registry.clear()
    made = Reaching(tmp_path)
    with made.dag:
        yield made
    registry.clear()


@pytest.fixture
def sql(worker, kind):
    """Executes SQL; returns how that ended."""
    count = iter(range(100))

    def execute(text, **options):
        task = f"t{next(count)}"
        SqlOperator(task_id=task, sql=text, conn_id="shop", **options)
        execute.task = task
        return worker(task)

    execute.rows = lambda: worker.made(execute.task)
    execute.error = lambda text, **options: execute(text, **options).error
    return execute


def test_the_rows_of_the_last_query_are_returned(sql, worker):
    assert sql(
        "create table t (a int, b text); insert into t values (1, 'x;y'), (2, null); select a, b from t order by a"
    )
    assert sql.rows() == [(1, "x;y"), (2, None)]
    assert worker.plain(sql.task, "columns") == ["a", "b"]
    assert sql(["select a from t order by a", "update t set b = 'z'"]) == Succeeded(2)
    assert sql.rows() == [(1,), (2,)]
    assert sql("delete from t") == Succeeded()
    assert worker.plain(sql.task) is None


def test_values_keep_their_types(sql, kind):
    text = "select :day, :amount, :text, :none"
    if kind == "postgres":
        text = "select :day::date, :amount::numeric, :text::text, :none::int"
    given = {"day": date(2026, 1, 15), "amount": Decimal("1.50"), "text": "'; drop", "none": None}
    if kind == "sqlite":  # it knows neither
        given |= {"day": "2026-01-15", "amount": 1.5}
    sql(text, parameters=given)
    assert sql.rows() == [tuple(given.values())]
    if kind != "sqlite":
        sql("select timestamp '2026-01-15 01:02:03'")
        assert sql.rows() == [(datetime(2026, 1, 15, 1, 2, 3),)]


def test_a_failing_script_changes_nothing(sql):
    sql("create table t (a int)")
    failed = sql("insert into t values (1); insert into nowhere values (2)")
    assert isinstance(failed, Failed)
    assert "in: insert into nowhere values (2)" in failed.error
    sql("select count(*) from t")
    assert sql.rows() == [(0,)]
    sql("insert into t values (1); insert into nowhere values (2)", autocommit=True)
    sql("select count(*) from t")
    assert sql.rows() == [(1,)], "each by itself"


def test_who_reads_keeps_nobody_from_reading(sql, kind, tmp_path):
    """A file of DuckDB may be read by several processes; one of SQLite also while somebody writes."""
    sql("create table t (a int); insert into t values (7)")
    if kind == "postgres":
        return
    program = f"""
import {kind}, sys
connection = {kind}.connect({str(tmp_path / "shop.db")!r}{", read_only=True" if kind == "duckdb" else ""})
connection.execute("{"begin" if kind == "duckdb" else "begin immediate"}")
connection.execute("select * from t").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program.replace("sqlite", "sqlite3")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"reads\n"
        sql("-- how much\n /* is there */ select a from t")
        assert sql.rows() == [(7,)]


def test_templates_files_and_parameters(sql, worker, tmp_path):
    (tmp_path / "load.sql").write_text(
        "create table d (day text); insert into d values (:day); select '{{ ds }}', day from d"
    )
    sql("load.sql", parameters={"day": "{{ ds }}"})
    assert sql.rows() == [("2026-01-15", "2026-01-15")]
    sql("insert into d values (?)", parameters=["b"])
    assert 'no parameter of the SQL "dya"' in sql.error("select 1", parameters={"dya": 1})


def test_no_more_rows_than_asked_for(sql, caplog):
    sql("create table t (a int); insert into t values (1), (2), (3)")
    sql("select a from t order by a", most_rows=2)
    assert sql.rows() == [(1,), (2,)]
    assert "more rows than the 2" in caplog.text
    sql("select a from t order by a", most_rows=3, handler=lambda rows: sum(row[0] for row in rows))
    assert sql.rows() == 6


def test_a_sensor_waits_for_the_first_value_of_a_row(sql, worker):
    sql("create table t (a int)")
    SqlSensor(task_id="wait", sql="select a from t order by a desc", conn_id="shop", mode="reschedule")
    SqlSensor(task_id="two", sql="select a from t", conn_id="shop", mode="reschedule", success=lambda a: a == 0)
    SqlSensor(task_id="empty", sql="select a from t where a > 9", conn_id="shop", fail_on_empty=True)
    assert isinstance(worker("wait"), Rescheduled)
    sql("insert into t values (0)")
    assert isinstance(worker("wait"), Rescheduled)
    assert worker("two") == Succeeded()
    sql("insert into t values (1)")
    assert worker("wait") == Succeeded()
    assert worker("empty").again is False


def test_what_runs_can_be_stopped(sql, kind, worker):
    """As a worker's handler of signals does: in the middle of a statement that would take hours."""
    slow = {
        "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n",
        "duckdb": "select sum(sqrt(a.range * b.range)) from range(10000000) a, range(10000000) b",
        "postgres": "select pg_sleep(3600)",
    }[kind]
    stopped = threading.Event()

    def stop() -> None:
        while not stopped.wait(0.7):  # the first time may come before the statement has begun
            stop_current()

    stopper = threading.Thread(target=stop)
    stopper.start()
    told = sql(slow)
    stopped.set()
    stopper.join()
    assert isinstance(told, Failed)


def test_a_database_that_is_not_there_is_told_without_its_password(worker, monkeypatch, tmp_path):
    monkeypatch.setenv("TIDEMILL_CONN_PG", "postgresql://me:hidden@127.0.0.1:9/shop")
    monkeypatch.setenv("TIDEMILL_CONN_LITE", "sqlite:///nowhere/shop.db")
    monkeypatch.setenv("TIDEMILL_CONN_WEB", "https://host")
    monkeypatch.setenv("TIDEMILL_CONN_BARE", "sqlite://")
    for name in ("pg", "lite", "web", "bare", "none"):
        SqlOperator(task_id=name, sql="select 1", conn_id=name)
    errors = {name: worker(name).error for name in ("pg", "lite", "web", "bare", "none")}
    assert "PostgreSQL does not answer" in errors["pg"]
    assert "hidden" not in errors["pg"]
    assert "shop.db does not answer" in errors["lite"]
    assert 'of kind "https"' in errors["web"]
    assert "names no file" in errors["bare"]
    assert 'no connection "none"' in errors["none"]
