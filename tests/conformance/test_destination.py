"""Conformance of the port `destination`: one test a promise, over every database that batches are loaded into."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.landing import Landing, duckdb_landing, postgres_landing, rows
from harness.postgres import Postgres
from harness.redshift import redshift_landing
from tidemill.model.errors import Conflict, ContractError, DataError, DefinitionError, SettingsError, Unreachable
from tidemill.ports.destination import Load

UTC = dt.UTC


KINDS = ["duckdb", *(pytest.param(kind, marks=pytest.mark.postgres) for kind in ("postgresql", "redshift"))]


@pytest.fixture(params=KINDS)
def landing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Landing]:
    """An empty database of each kind."""
    if request.param == "duckdb":
        yield duckdb_landing(tmp_path / "shop.db")
        return
    if request.param == "redshift":
        yield redshift_landing(request.getfixturevalue("redshift"))
        return
    server: Postgres = request.getfixturevalue("postgres")
    yield postgres_landing(server.new_database())


EVERY = {
    "flag": "boolean", "n": "int", "big": "long", "real": "float", "wide": "double", "day": "date", "at": "time",
    "naive": "timestamp", "moment": "timestamptz", "text": "string", "raw": "binary", "id": "uuid",
    "money": "decimal(12,3)",
}  # fmt: skip
FULL = (
    True, -7, 2**62, 0.5, 1e-300, dt.date(1969, 12, 31), dt.time(23, 59, 59, 999999), dt.datetime(2026, 2, 3, 4, 5, 6),
    dt.datetime(1900, 1, 1, 0, 0, 0, 1, UTC), 'a "b",\n\\c \'; drop table t; --', b"\x00\xff,", uuid.UUID(int=5).bytes,
    Decimal("-123456789.125"),
)  # fmt: skip


def test_values_of_every_type_arrive(landing: Landing) -> None:
    assert landing.load(rows(EVERY, [FULL, (None,) * len(EVERY)])) == 2
    (full,) = landing.ask("SELECT * FROM t WHERE flag")
    assert (*full[:11], str(full[11]), full[12]) == (*FULL[:11], str(uuid.UUID(int=5)), FULL[12])
    assert landing.ask("SELECT * FROM t WHERE flag IS NULL") == [(None,) * len(EVERY)]


def test_empty_text_is_not_null_and_odd_numbers_are_kept(landing: Landing) -> None:
    values = [("", float("inf")), (None, float("-inf")), ("\\N", float("nan")), ("null", -0.0)]
    landing.load(rows({"a": "string", "b": "double"}, values))
    found = landing.ask("SELECT a, b FROM t WHERE b <> 'NaN' ORDER BY b")
    assert [(a, str(b)) for a, b in found] == [(None, "-inf"), ("null", "-0.0"), ("", "inf")]
    assert [a for (a,) in landing.ask("SELECT a FROM t WHERE b = 'NaN'")] == ["\\N"]


def test_nested_values_arrive(landing: Landing) -> None:
    columns = {"l": "list<long>", "s": "struct<a:string,b:list<double>>", "m": "map<string,long>"}
    values = [([1, None], {"a": 'x"}', "b": [0.5]}, [("k", 1)]), (None, None, None), ([], {"a": None, "b": None}, [])]
    landing.load(rows(columns, values))
    found = landing.ask("SELECT l, s FROM t")
    assert found[0] == ([1, None], {"a": 'x"}', "b": [0.5]})
    assert found[1:] == [(None, None), ([], {"a": None, "b": None})]


def test_a_position_moves_with_its_rows_and_is_asked_for(landing: Landing) -> None:
    destination = landing.opened()
    assert destination.position("s") is None
    landing.load(rows({"a": "long"}, [(1,)]))
    landing.load(rows({"a": "long"}, [(2,)]), before="1", after="two")
    landing.load(rows({"a": "long"}, [(3,)]), source="other")
    assert (destination.position("s"), destination.position("other"), destination.position("x")) == ("two", "1", None)
    assert landing.ask("SELECT a FROM t ORDER BY a") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("before", [None, "0", "2"])
def test_a_load_from_another_position_does_nothing(landing: Landing, before: str | None) -> None:
    landing.load(rows({"a": "long"}, [(1,)]))
    with pytest.raises(Conflict):
        landing.load(rows({"a": "long"}, [(2,)]), before=before, after="3")
    assert landing.ask("SELECT a FROM t") == [(1,)]
    assert landing.opened().position("s") == "1"


def test_all_tables_of_a_load_are_there_or_none(landing: Landing) -> None:
    landing.load(rows({"a": "string"}, [("x",)], table="second"))
    good = rows({"a": "long"}, [(1,)], table="first")
    with pytest.raises(ContractError, match="second"):
        landing.load(good, rows({"a": "long"}, [(1,)], table="second"), before="1", after="2")

    def breaks() -> Iterator[Any]:
        yield from good.rows
        raise RuntimeError("the file went away")

    with pytest.raises(RuntimeError):
        landing.load(type(good)("first", good.columns, breaks()), before="1", after="2")
    assert landing.opened().position("s") == "1"
    if landing.kind == "duckdb":
        assert landing.ask("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'first'") == [(0,)]
    else:
        assert landing.ask("SELECT to_regclass('first')") == [(None,)]


def test_the_newest_row_of_each_key_stays(landing: Landing) -> None:
    columns = {"k": "long", "v": "string", "o": "long"}
    how = {"write": "upsert", "key": ("k",), "order": "o"}
    landing.load(rows(columns, [(1, "a", 5), (2, "b", 5), (1, "c", 4), (3, "d", None), (2, "e", 5)], **how))
    assert landing.ask("SELECT k, v FROM t ORDER BY k") == [(1, "a"), (2, "e"), (3, "d")]
    again = [(1, "older", 4), (2, "same", 5), (3, "newer", 0), (4, "new", None), (1, "unranked", None)]
    landing.load(rows(columns, again, **how), before="1", after="2")
    found = landing.ask("SELECT k, v FROM t ORDER BY k")
    assert found == [(1, "a"), (2, "same"), (3, "newer"), (4, "new")]


@settings(max_examples=few(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 3)), max_size=6), max_size=4))
def test_an_upsert_in_any_cut_is_that_of_all_rows(landing: Landing, loads: list[list[tuple[int, int | None]]]) -> None:
    table = f"t{uuid.uuid4().hex}"
    wanted: dict[int, tuple[int, int]] = {}
    number, position = 0, None
    for load in loads:
        values = []
        for key, rank in load:
            number += 1
            values.append((key, rank, number))
            if key not in wanted or (-1 if rank is None else rank) >= wanted[key][0]:
                wanted[key] = (-1 if rank is None else rank, number)
        made = rows({"k": "long", "o": "long", "n": "long"}, values, table=table, write="upsert", key=("k",), order="o")
        landing.load(made, source=table, before=position, after=str(number) + "x" * len(values))
        position = str(number) + "x" * len(values)
    if loads:
        assert landing.ask(f"SELECT k, n FROM {table} ORDER BY k") == [(k, n) for k, (_, n) in sorted(wanted.items())]


def test_rows_without_a_key_are_refused(landing: Landing) -> None:
    with pytest.raises(ContractError, match="1 rows for t have no k"):
        landing.load(rows({"k": "long"}, [(1,), (None,)], write="upsert", key=("k",)))


def test_a_table_is_replaced(landing: Landing) -> None:
    landing.load(rows({"a": "long"}, [(1,), (2,)]))
    assert landing.load(rows({"a": "long"}, [(3,)], write="replace"), before="1", after="2") == 1
    assert landing.ask("SELECT a FROM t") == [(3,)]
    assert landing.load(rows({"a": "long"}, [], write="replace"), before="2", after="3") == 0
    assert landing.ask("SELECT a FROM t") == []


def test_new_columns_are_added_and_types_widened_and_what_only_the_table_has_is_null(landing: Landing) -> None:
    landing.load(rows({"a": "int", "m": "decimal(5,2)", "f": "float"}, [(1, Decimal("1.25"), 0.5)]))
    wider = {"F": "double", "a": "long", "m": "decimal(10,3)", "new": "string"}
    landing.load(rows(wider, [(1e300, 2**40, Decimal("1.125"), "x")]), before="1", after="2")
    landing.load(rows({"a": "int"}, [(7,)]), before="2", after="3")
    found = landing.ask("SELECT a, m, f, new FROM t ORDER BY a")
    assert found == [
        (1, Decimal("1.250"), 0.5, None), (7, None, None, None), (2**40, Decimal("1.125"), 1e300, "x"),
    ]  # fmt: skip


def test_a_type_that_does_not_fit_is_refused_with_both_named(landing: Landing) -> None:
    landing.load(rows({"a": "long"}, [(1,)]))
    with pytest.raises(ContractError, match=r'Column "a" of t is (bigint|BIGINT), and the rows bring string') as told:
        landing.load(rows({"a": "string"}, [("x",)]), before="1", after="2")
    assert "ALTER TABLE" in str(told.value)


def test_names_are_names_whatever_is_in_them(landing: Landing) -> None:
    table = 'we"ird; DROP TABLE t; --'
    odd = r"50% %s :x ? $1 \ '; --"
    landing.load(rows({'a"b': "long", "select": "string", odd: "int"}, [(1, "x", 7)], table=f"my schema.{table}"))
    landing.load(rows({"select": "string"}, [("y",)], table=f"my schema.{table}"), source="it's", after="'; --")
    quoted = '"my schema"."' + table.replace('"', '""') + '"'
    assert landing.ask(f'SELECT "select" FROM {quoted} ORDER BY 1') == [("x",), ("y",)]
    assert landing.ask(f'SELECT "{odd}" FROM {quoted} WHERE "a""b" = 1') == [(7,)]
    assert landing.opened().position("it's") == "'; --"
    for wrong in ("a.b.c", "", "a.", ".b"):
        with pytest.raises(DefinitionError):
            landing.load(rows({"a": "long"}, [(1,)], table=wrong), source="new")


def test_a_value_that_the_database_refuses_is_told(landing: Landing) -> None:
    landing.ask("CREATE TABLE strict (a bigint CHECK (a < 10))")
    with pytest.raises(DataError, match=r"(?i)check"):
        landing.load(rows({"a": "long"}, [(1,), (11,)], table="strict"))
    assert landing.ask("SELECT count(*) FROM strict") == [(0,)]


def test_of_two_that_load_the_same_at_once_one_does(landing: Landing) -> None:
    landing.load(rows({"a": "long"}, [(0,)]))
    ended: list[str] = []
    both = threading.Barrier(2)

    def one() -> None:
        both.wait()
        try:
            landing.load(rows({"a": "long"}, [(1,)]), before="1", after="2")
            ended.append("done")
        except (Conflict, Unreachable, DataError):
            ended.append("refused")

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["done", "refused"]
    assert landing.ask("SELECT count(*) FROM t WHERE a = 1") == [(1,)]


@pytest.mark.postgres
def test_a_server_that_is_away_or_refuses_the_login_is_told(postgres: Postgres) -> None:
    from tidemill.adapters.postgres.destination import PostgresDestination

    with pytest.raises(Unreachable):
        PostgresDestination({"host": "127.0.0.1", "port": 1}).position("s")
    wrong = PostgresDestination(
        {"host": "127.0.0.1", "port": postgres.port, "user": "tidemill", "password": "secret-1", "dbname": "postgres"}
    )
    with pytest.raises((SettingsError, Unreachable)) as told:
        wrong.load(Load("s", None, "1", ()))
    assert "secret-1" not in str(told.value)
