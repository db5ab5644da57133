"""The port `destination` as mirrors use databases: rows of batches and keys go, tables are made anew; and faults."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from harness.landing import Landing, duckdb_landing, postgres_landing, rows
from harness.postgres import Postgres, away
from harness.redshift import redshift_landing
from tidemill.adapters.postgres.destination import PostgresDestination
from tidemill.model.errors import (
    Conflict,
    ContractError,
    DataError,
    DefinitionError,
    Refused,
    SettingsError,
    Unreachable,
)
from tidemill.ports.destination import Load, MirrorLost, TableLoad

ODD = 'o"dd; DROP TABLE t; --'


KINDS = ["duckdb", *(pytest.param(kind, marks=pytest.mark.postgres) for kind in ("postgresql", "redshift"))]


@pytest.fixture(params=KINDS)
def landing(request: pytest.FixtureRequest, tmp_path: Path) -> Landing:
    if request.param == "duckdb":
        return duckdb_landing(tmp_path / "shop.db")
    if request.param == "redshift":
        return redshift_landing(request.getfixturevalue("redshift"))
    return postgres_landing(request.getfixturevalue("postgres").new_database())


def test_rows_of_batches_go_and_others_come(landing: Landing) -> None:
    columns = {"_batch_id": "long", ODD: "string"}
    table = f"{ODD}x"
    first = rows(columns, [(1, "a"), (2, "b"), (1, "c")], table=table, mirror=True, first=True, write="replace")
    landing.load(first)
    again = rows(columns, [(1, "d"), (3, "e")], table=table, mirror=True, batches=(1, 2**40))
    assert landing.load(again, before="1", after="2") == 2
    quoted = '"' + table.replace('"', '""') + '"'
    assert landing.ask(f"SELECT * FROM {quoted} ORDER BY 1, 2") == [(1, "d"), (2, "b"), (3, "e")]


def test_rows_of_keys_go_and_changed_ones_come(landing: Landing) -> None:
    columns = {ODD: "string", "k": "long", "v": "string"}
    how: dict[str, Any] = {"key": (ODD, "k"), "mirror": True}
    values = [("'", 1, "a"), ("'", 2, "b"), ('"', 1, "c")]
    landing.load(rows(columns, values, write="replace", first=True, **how))
    gone = rows({ODD: "string", "k": "long"}, [("'", 1), ("none", 9)]).rows
    changed = rows(columns, [('"', 1, "C"), ("\\", 5, None)], write="upsert", gone=gone, **how)
    landing.load(changed, before="1", after="2")
    found = landing.ask("SELECT * FROM t ORDER BY k, v")
    assert found == [('"', 1, "C"), ("'", 2, "b"), ("\\", 5, None)]


def test_a_mirror_is_made_anew_where_its_columns_cannot_take_the_rows_and_others_are_not(landing: Landing) -> None:
    landing.load(rows({"a": "long", "gone": "long"}, [(1, 1)]))
    changed = {"a": "string"}
    with pytest.raises(ContractError):
        landing.load(rows(changed, [("x",)], write="replace"), before="1", after="2")
    landing.load(rows(changed, [("x",)], write="replace", mirror=True), before="1", after="2")
    assert landing.ask("SELECT * FROM t") == [("x",)]
    landing.load(rows({"a": "string"}, [("y",)], write="replace", mirror=True), before="2", after="3")
    assert landing.ask("SELECT * FROM t") == [("y",)]


def test_rows_that_were_there_first_are_refused_and_an_empty_table_is_taken(landing: Landing) -> None:
    landing.ask("CREATE TABLE t (a bigint, own bigint DEFAULT 7)")
    landing.ask("INSERT INTO t VALUES (1, 1)")
    mirror = rows({"a": "long"}, [(2,)], write="replace", mirror=True, first=True)
    with pytest.raises(Refused, match="not of this delivery"):
        landing.load(mirror)
    assert landing.ask("SELECT a FROM t") == [(1,)]
    landing.ask("DELETE FROM t")
    landing.load(mirror)
    assert landing.ask("SELECT * FROM t") == [(2, 7)]


def test_a_mirror_that_is_gone_is_told(landing: Landing) -> None:
    with pytest.raises(MirrorLost) as told:
        landing.load(rows({"a": "long"}, [(2,)], mirror=True, table="s.t"))
    assert told.value.table == "s.t"
    assert landing.opened().position("s") is None


def test_options_are_for_others(landing: Landing) -> None:
    with pytest.raises(DefinitionError, match="format="):
        landing.load(rows({"a": "long"}, [], options={"format": "csv"}))


# -- PostgreSQL's own ----------------------------------------------------------------------------------------


@pytest.mark.postgres
def test_names_that_would_be_cut_off_are_refused(postgres: Postgres) -> None:
    landing = postgres_landing(postgres.new_database())
    for table, column in (("t" * 64, "a"), ("t", "ä" * 32), ("s" * 64 + ".t", "a")):
        with pytest.raises(DefinitionError, match="63 bytes"):
            landing.load(rows({column: "long"}, [], table=table))


@pytest.mark.postgres
def test_who_may_only_write_in_a_schema_needs_no_more(postgres: Postgres) -> None:
    url = postgres.new_database()
    owner = postgres_landing(url)
    owner.ask("DROP ROLE IF EXISTS loader; CREATE ROLE loader LOGIN PASSWORD 'loads-1'; CREATE SCHEMA shop")
    owner.ask("GRANT CREATE, USAGE ON SCHEMA shop, public TO loader")
    loader = PostgresDestination({**conninfo_to_dict(url), "user": "loader", "password": "loads-1"})
    loader.load(Load("s", None, "1", (rows({"a": "long"}, [(1,)], table="shop.t"),)))
    with pytest.raises(DataError, match="permission denied"):
        loader.load(Load("s", "1", "2", (rows({"a": "long"}, [(1,)], table="other.t"),)))
    assert owner.ask("SELECT a FROM shop.t") == [(1,)]


@pytest.mark.postgres
def test_a_connection_that_breaks_while_rows_are_copied_leaves_nothing(postgres: Postgres) -> None:
    url = postgres.new_database()
    landing = postgres_landing(url)
    landing.load(rows({"a": "long"}, [(1,)]))

    def breaks() -> Iterator[Any]:
        yield from rows({"a": "long"}, [(2,)]).rows
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'tidemill' AND datname = current_database()"
            )
        for number in range(50):  # the client learns of it when it writes
            yield from rows({"a": "long"}, [(number,)] * 5_000, cut=5_000).rows

    made = rows({"a": "long"}, [])
    with pytest.raises(Unreachable):
        landing.load(type(made)("t", made.columns, breaks()), before="1", after="2")
    assert landing.ask("SELECT a FROM t") == [(1,)]
    assert landing.opened().position("s") == "1"


@pytest.mark.postgres
def test_a_table_that_others_have_locked_is_waited_for_and_told(postgres: Postgres) -> None:
    url = postgres.new_database()
    landing = postgres_landing(url)
    landing.load(rows({"a": "long"}, [(1,)]))
    short = PostgresDestination({**conninfo_to_dict(url), "options": "-c lock_timeout=50"})
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unreachable, match="locked by another session"):
            short.load(Load("s", "1", "2", (rows({"a": "long"}, [(2,)]),)))
    assert short.load(Load("s", "1", "2", (rows({"a": "long"}, [(2,)]),))) == 1


@pytest.mark.postgres
def test_who_is_ended_in_a_deadlock_is_told_and_has_done_nothing(postgres: Postgres) -> None:
    """Another session has a table, and waits for the position; the load has the position, and waits for the table."""
    url = postgres.new_database()
    landing = postgres_landing(url)
    landing.load(rows({"a": "long"}, [(1,)]))
    first = PostgresDestination({**conninfo_to_dict(url), "options": "-c deadlock_timeout=50ms"})
    made = rows({"a": "long"}, [(2,)])
    with psycopg.connect(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SET deadlock_timeout = '1h'")
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")

        def meets() -> Iterator[Any]:
            pool.submit(other.execute, "UPDATE _tidemill_positions SET moved_at = now()")
            with psycopg.connect(url, autocommit=True) as seen:
                while seen.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
                    pass
            yield from made.rows

        with pytest.raises(Conflict, match="deadlock detected"):
            first.load(Load("s", "1", "2", (TableLoad("before", made.columns, meets()), made)))
    assert landing.opened().position("s") == "1"
    assert first.load(Load("s", "1", "2", (rows({"a": "long"}, [(3,)]),))) == 1
    assert landing.ask("SELECT a FROM t ORDER BY a") == [(1,), (3,)]


@pytest.mark.postgres
def test_a_wrong_login_is_a_setting_and_a_server_that_is_away_is_not(postgres: Postgres) -> None:
    parts = conninfo_to_dict(postgres.new_database())
    for wrong in ({"password": "wrong-secret-1"}, {"dbname": "not_there"}):
        with pytest.raises(SettingsError) as told:
            PostgresDestination({**parts, **wrong}).position("s")
        assert "wrong-secret-1" not in str(told.value)
    there = PostgresDestination(parts)
    there.load(Load("s", None, "1", (rows({"a": "long"}, [(1,)]),)))
    with away(postgres), pytest.raises(Unreachable):
        there.position("s")
    assert there.position("s") == "1"
