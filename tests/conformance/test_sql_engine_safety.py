"""The promises of the port `SqlEngine` about what a statement cannot do, and what its errors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from harness.sql import CLEAN, ENGINES, rows, scan, schema, write
from tidemill.adapters.duckdb.engine import DuckDBEngine
from tidemill.model.errors import DataError, UserError
from tidemill.ports.engine import SqlEngine


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> SqlEngine:
    made: SqlEngine = request.param(threads=2, memory_limit="1GB", temp_directory=str(tmp_path))
    return made


@pytest.fixture
def clean() -> pa.Table:
    return CLEAN


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select * from read_csv('/etc/passwd')", '"read_csv" may not be used'),
        ("select * from read_text('/etc/passwd')", '"read_text" may not be used'),
        ("select * from read_parquet('{lake}')", '"read_parquet" may not be used'),
        ("select * from parquet_metadata('{lake}')", '"parquet_metadata" may not be used'),
        ("select * from glob('/etc/*')", '"glob" may not be used'),
        ("select * from '/etc/passwd'", 'no table "/etc/passwd"'),
        ("select * from '{lake}'", "There is no table"),
        ("select (select count(*) from read_blob('/etc/passwd'))", '"read_blob" may not be used'),
        ("with x as (from read_csv('/etc/passwd')) from x", '"read_csv" may not be used'),
        ("select * from query('select 1')", '"query" may not be used'),
        ("select * from query_table('x')", '"query_table" may not be used'),
        ("from json_execute_serialized_sql('{}')", '"json_execute_serialized_sql" may not be used'),
        ("select * from duckdb_settings()", '"duckdb_settings" may not be used'),
        ("select * from python_arrow_scan(1, 2, 3)", '"python_arrow_scan" may not be used'),
        ("select * from duckdb_secrets()", '"duckdb_secrets" may not be used'),
        ("select * from information_schema.tables", "There is no table"),
        ("select * from sqlite_master", "There is no table"),
        ("select * from secret.lines", "There is no table"),
        ("copy (select 1) to '/dev/null'", "only reads"),
        ("export database '/dev/null'", "only reads"),
        ("attach ':memory:' as x", "only reads"),
        ("install httpfs", "only reads"),
        ("load httpfs", "only reads"),
        ("set memory_limit = '1TB'", "only reads"),
        ("create table x (a int)", "only reads"),
        ("insert into x values (1)", "only reads"),
        ("call pragma_version()", "only reads"),
        ("pragma database_list", "only reads"),
        ("explain select 1", "only reads"),
        ("pivot x on a using sum(b)", "only reads"),
        ("with a as (delete from x returning *) select * from a", "has DELETE"),
        ("show tables", "SHOW"),
        ("select 1; drop table x", "cannot be read|only reads|One SQL statement"),
        ("select 1; select 2", "One SQL statement is wanted, and here are 2"),
        ("-- nothing", "One SQL statement is wanted, and here are 0"),
    ],
)
def test_a_statement_reads_its_inputs_and_nothing_else(
    engine: SqlEngine, clean: pa.Table, tmp_path: Path, sql: str, says: str
) -> None:
    lake = write(tmp_path / "lake.parquet", {"id": (1, pa.int64(), [1])})
    inputs = {"x": clean, "mine": scan([lake], schema(id="1 long"))}
    with pytest.raises(UserError, match=says):
        rows(engine, sql.replace("{lake}", lake.path), inputs)


def test_the_second_lock_holds_where_the_first_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the look at the statement deceived, the database itself would open no other file and no network."""
    from tidemill.adapters.duckdb import engine as module
    from tidemill.adapters.duckdb.statement import Statement

    monkeypatch.setattr(module, "read_statement", lambda _, sql, __: Statement(sql, (), frozenset(), frozenset()))
    other = write(tmp_path / "other.parquet", {"id": (1, pa.int64(), [1])})
    for sql in (
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('https://example.com/')",
        f"select * from '{other.path}'",
        f"copy (select 1) to '{tmp_path}/out.csv'",
        f"attach '{tmp_path}/x.db'",
        "install httpfs",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "set allowed_paths = ['/etc/passwd']",
    ):
        with pytest.raises((UserError, DataError)):
            rows(DuckDBEngine(threads=1), sql)
    assert [p.name for p in tmp_path.iterdir()] == ["other.parquet"]


def test_settings_of_a_query_end_with_it(engine: SqlEngine) -> None:
    sql = "select current_setting('enable_external_access') as a, current_setting('lock_configuration') as b"
    assert rows(engine, sql) == [{"a": False, "b": True}]


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        (
            "select *\nfrom flights.claen",
            'There is no table "flights.claen".\n  at: q.sql:2:6\n  try: did you mean "flights.clean"?',
        ),
        ("select 'ü', carier from clean",
         'There is no column "carier".\n  at: q.sql:1:13\n  try: did you mean "carrier"?'),
        ("select c.x from clean c", 'There is no column "x".\n  at: q.sql:1:8\n  try: known: carrier, dep_delay'),
        ("select kph(1)", 'There is no function "kph".\n  at: q.sql:1:8\n  try: did you mean "kmh"?'),
        ("select 1\nform clean c d", 'SQL syntax error at or near "clean".\n  at: q.sql:2:6'),
        (
            "select carrier, count(*) from clean",
            'Column "carrier" must appear in the GROUP BY clause or must be part of an aggregate function.\n'
            "  at: q.sql:1:8\n"
            '  try: Either add it to the GROUP BY list, or use ANY_VALUE("carrier") if the exact value of "carrier" is '
            "not important.",
        ),
        (
            "select\n  carrier::int from clean",
            "Could not convert string 'AA' to INT32 when casting from source column carrier.\n  at: q.sql:2:10",
        ),
        ("select * from read_csv('a')", '"read_csv" may not be used in FROM.\n  at: q.sql:1:15\n'
         "  try: a statement reads tables only; files come in through a source"),
    ],
)  # fmt: skip
def test_messages(engine: SqlEngine, clean: pa.Table, sql: str, text: str) -> None:
    def kmh(x: int) -> int:
        return x

    options: dict[str, Any] = {"functions": {"kmh": kmh}, "where": lambda line, column: f"q.sql:{line}:{column}"}
    with pytest.raises(UserError) as caught:
        rows(engine, sql, {"flights.clean": clean}, namespace="flights", **options)
    assert str(caught.value) == text
