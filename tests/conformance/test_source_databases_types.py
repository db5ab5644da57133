"""What becomes of each type of each database: in the archive, and in the table that is loaded from it."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harness.databases import NAME, Shop, shop
from harness.mariadb import MariaDB
from harness.postgres import Postgres
from harness.project import Project
from tidemill import sources
from tidemill.model.errors import DataError

UTC = dt.UTC
MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 6)


@pytest.fixture
def postgresql(postgres: Postgres, tmp_path: Path) -> Iterator[Shop]:
    """An empty PostgreSQL database."""
    with shop("postgresql", tmp_path, postgres) as made:
        yield made


@pytest.fixture
def maria(mariadb: MariaDB, tmp_path: Path) -> Iterator[Shop]:
    """An empty MariaDB database."""
    with shop("mariadb", tmp_path, mariadb) as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Shop]:
    """An empty SQLite file."""
    with shop("sqlite", tmp_path, None) as made:
        yield made


@pytest.fixture
def duck(tmp_path: Path) -> Iterator[Shop]:
    """An empty DuckDB file."""
    with shop("duckdb", tmp_path, None) as made:
        yield made


def loaded(db: Shop, query: str | None = None) -> tuple[dict[str, str], dict[str, Any]]:
    """The types of the lake's table that a database's table `t` becomes, and the row that has values."""
    project = Project(db.root / "lake")
    try:
        pipeline = project.pipeline()
        pipeline.source(sources.sql(NAME, "t") if query is None else sources.sql(NAME, query=query, name="t"))
        report = project.run(pipeline, "2026-01-01")
        assert report.ok, report.error
        types = {row["column_name"]: row["column_type"] for row in project.rows("describe shop.t")}
        rows = project.rows("select * from shop.t")
        full = [row for row in rows if row["id"] is not None]
        assert all(value is None for row in rows if row["id"] is None for value in row.values())
        return types, full[0]
    finally:
        project.close()


def check(types: dict[str, str], row: dict[str, Any], expected: dict[str, tuple[str, Any]]) -> None:
    found = {name: (types[name], row[name]) for name in expected}
    assert found == expected


@pytest.mark.postgres
def test_postgresql(postgresql: Shop) -> None:
    columns = {
        "id": ("bigint", "9223372036854775807", "BIGINT", 2**63 - 1),
        "i2": ("smallint", "-7", "INTEGER", -7),
        "i4": ("integer", "-7", "INTEGER", -7),
        "f4": ("real", "0.5", "FLOAT", 0.5),
        "f8": ("double precision", "1e-300", "DOUBLE", 1e-300),
        "b": ("boolean", "true", "BOOLEAN", True),
        "txt": ("text", "E'a\\'\\\\ é😀'", "VARCHAR", "a'\\ é😀"),
        "vc": ("varchar(9)", "''", "VARCHAR", ""),
        "bc": ("char(4)", "'ab'", "VARCHAR", "ab  "),
        "by": ("bytea", "'\\x00ff'", "BLOB", b"\x00\xff"),
        "d": ("date", "'1900-02-28'", "DATE", dt.date(1900, 2, 28)),
        "ti": ("time", "'23:59:59.999999'", "TIME", dt.time(23, 59, 59, 999999)),
        "ts": ("timestamp", "'2026-01-02 03:04:05.000006'", "TIMESTAMP", MOMENT),
        "tz": (
            "timestamptz", "'1900-01-01 00:00:00.000001+02'", "TIMESTAMP WITH TIME ZONE",
            dt.datetime(1899, 12, 31, 22, 0, 0, 1, UTC),
        ),
        "u": ("uuid", "'00000000-0000-0000-0000-000000000005'", "UUID", uuid.UUID(int=5)),
        "n": ("numeric(38,10)", "-1234567890123456789012345678.0123456789", "DECIMAL(38,10)",
              Decimal("-1234567890123456789012345678.0123456789")),
        "n0": ("numeric(5)", "12345", "DECIMAL(5,0)", Decimal(12345)),
        "nn": ("numeric", "'1e-20'", "VARCHAR", "0.00000000000000000001"),
        "nl": ("numeric(60,2)", f"'{'9' * 58}.01'", "VARCHAR", f"{'9' * 58}.01"),
        "nd": ("positive", "1.5", "DECIMAL(9,3)", Decimal("1.500")),
        "j": ("json", "'{\"a\": [1, 2.50]}'", "VARCHAR", '{"a": [1, 2.50]}'),
        "jb": ("jsonb", "'{\"a\":[1,2.50]}'", "VARCHAR", '{"a": [1, 2.50]}'),
        "m": ("mood", "'sad'", "VARCHAR", "sad"),
        "iv": ("interval", "'1 year 2 days 3.5 seconds'", "VARCHAR", "P1Y2DT3.5S"),
        "tt": ("timetz", "'12:00+01'", "VARCHAR", "12:00:00+01"),
        "o": ("oid", "4294967295", "BIGINT", 2**32 - 1),
        "ip": ("inet", "'10.0.0.1/8'", "VARCHAR", "10.0.0.1/8"),
        "r": ("int4range", "'[1,5)'", "VARCHAR", "[1,5)"),
        "co": ("pair", "ROW(1,'x')", "VARCHAR", "(1,x)"),
        "ai": ("int[]", "'{1,NULL}'", "INTEGER[]", [1, None]),
        "at": ("text[]", "'{a,\"b c\"}'", "VARCHAR[]", ["a", "b c"]),
        "au": ("uuid[]", "'{00000000-0000-0000-0000-000000000005}'", "UUID[]", [str(uuid.UUID(int=5))]),
        "ad": ("date[]", "'{2026-01-01}'", "DATE[]", [dt.date(2026, 1, 1)]),
        "an": ("numeric(9,3)[]", "'{1.5}'", "VARCHAR[]", ["1.500"]),
        "am": ("mood[]", "'{sad}'", "VARCHAR[]", ["sad"]),
        "ae": ("int[]", "'{}'", "INTEGER[]", []),
    }  # fmt: skip
    body = ", ".join(f"{name} {kind}" for name, (kind, *_rest) in columns.items())
    given = ", ".join(literal for _, literal, *_rest in columns.values())
    postgresql.execute(
        "CREATE TYPE mood AS ENUM ('sad')",
        "CREATE DOMAIN positive AS numeric(9,3)",
        "CREATE TYPE pair AS (a int, b text)",
        f"CREATE TABLE t ({body})",
        f"INSERT INTO t VALUES ({given})",
        "INSERT INTO t(i2) VALUES (NULL)",
    )
    types, row = loaded(postgresql)
    check(types, row, {name: (kind, value) for name, (_, _, kind, value) in columns.items()})


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("'infinity'::timestamptz", "infinity"),
        ("'-infinity'::timestamp", "infinity"),
        ("'infinity'::date", "infinity"),
        ("'294276-01-01'::timestamp", "294,246"),
        ("'{infinity}'::timestamptz[]", "infinity"),
        ("'NaN'::numeric(9,2)", "nan"),
        ("array[[1,2],[3,4]]", "array of 2 dimensions"),
        ("'[5:6]={1,2}'::int[]", "lower bound"),
    ],
)
def test_what_postgresql_has_and_no_table_can_hold_is_told(postgresql: Shop, value: str, said: str) -> None:
    source = sources.sql(NAME, query=f"select 1 as id, {value} as odd", name="t")
    with pytest.raises(DataError, match=said) as error:
        postgresql.read(source)
    assert error.value.hint is not None


@pytest.mark.postgres
def test_the_oldest_and_newest_times_of_postgresql_are_kept(postgresql: Shop) -> None:
    query = "select '4713-01-01 BC'::timestamp as a, '4713-01-01 BC'::date as b, '294246-01-01'::timestamp as c"
    (piece,) = postgresql.pieces(sources.sql(NAME, query=query, name="t"))
    kinds = (("a", "int64"), ("b", "int32"), ("c", "int64"))
    found = [piece.column(name).cast(kind)[0].as_py() for name, kind in kinds]
    # Days and microseconds since 1970, as PostgreSQL itself counts them.
    counts = "extract(epoch from a)::bigint * 1000000 as x, b - date '1970-01-01' as y"
    counts += ", extract(epoch from c)::bigint * 1000000 as z"
    assert postgresql.read(sources.sql(NAME, query=f"select {counts} from ({query}) q", name="t")) == [tuple(found)]


def test_mariadb(maria: Shop) -> None:
    columns = {
        "id": ("bigint unsigned", "18446744073709551615", "DECIMAL(20,0)", Decimal(2**64 - 1)),
        "ti": ("tinyint", "-1", "INTEGER", -1),
        "tb": ("boolean", "true", "INTEGER", 1),
        "si": ("smallint unsigned", "65535", "INTEGER", 65535),
        "mi": ("mediumint", "-5", "INTEGER", -5),
        "iu": ("int unsigned", "4294967295", "BIGINT", 2**32 - 1),
        "n": ("decimal(12,2)", "12.30", "DECIMAL(12,2)", Decimal("12.30")),
        "nl": ("decimal(60,2)", f"{'9' * 58}.01", "VARCHAR", f"{'9' * 58}.01"),
        "f": ("float", "16777217", "FLOAT", 16777216.0),
        "d": ("double", "0.1", "DOUBLE", 0.1),
        "c": ("char(4)", "'ab'", "VARCHAR", "ab"),
        "v": ("varchar(9)", "'é😀'", "VARCHAR", "é😀"),
        "txt": ("longtext", "''", "VARCHAR", ""),
        "j": ("json", "'{\"a\": 1}'", "VARCHAR", '{"a": 1}'),
        "vb": ("varbinary(4)", "x'00ff'", "BLOB", b"\x00\xff"),
        "bl": ("blob", "x'fe'", "BLOB", b"\xfe"),
        "e": ("enum('a','b')", "'b'", "VARCHAR", "b"),
        "st": ("set('x','y')", "'y,x'", "VARCHAR", "x,y"),
        "da": ("date", "'1900-02-28'", "DATE", dt.date(1900, 2, 28)),
        "dtm": ("datetime(6)", "'2026-01-02 03:04:05.000006'", "TIMESTAMP", MOMENT),
        # The server's zone is three hours ahead of UTC.
        "ts": (
            "timestamp(6) null", "'2026-01-02 03:04:05.000006'", "TIMESTAMP WITH TIME ZONE",
            dt.datetime(2026, 1, 2, 0, 4, 5, 6, UTC),
        ),
        "tm": ("time(3)", "'23:59:59.5'", "TIME", dt.time(23, 59, 59, 500000)),
        "y": ("year", "2026", "INTEGER", 2026),
        "bi": ("bit(10)", "b'1010'", "DECIMAL(20,0)", Decimal(10)),
        "u": ("uuid", "'00000000-0000-0000-0000-000000000005'", "UUID", uuid.UUID(int=5)),
        "ip": ("inet6", "'::1'", "VARCHAR", "::1"),
    }  # fmt: skip
    body = ", ".join(f"{name} {kind}" for name, (kind, *_rest) in columns.items())
    given = ", ".join(literal for _, literal, *_rest in columns.values())
    maria.execute(f"CREATE TABLE t ({body})", f"INSERT INTO t VALUES ({given})", "INSERT INTO t(ti) VALUES (NULL)")
    types, row = loaded(maria)
    check(types, row, {name: (kind, value) for name, (_, _, kind, value) in columns.items()})


@pytest.mark.parametrize(
    ("kind", "value"), [("date", "'0000-00-00'"), ("time", "'-01:00:00'"), ("time", "'800:00:00'")]
)
def test_what_mariadb_has_and_no_table_can_hold_is_told(maria: Shop, kind: str, value: str) -> None:
    maria.execute(f"CREATE TABLE t (id INT, odd {kind})", "SET sql_mode = ''")
    with maria.server.connected(maria.url.rpartition("/")[2]) as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(f"INSERT INTO t VALUES (1, {value})")
    with pytest.raises(DataError, match='Column "odd" is declared as'):
        maria.read(sources.sql(NAME, "t"))


def test_a_query_of_mariadb_has_the_types_of_its_values(maria: Shop) -> None:
    query = "select 1 as id, 12.30 as n, 'x' as s, date '2026-01-01' as d, null as nothing, 0.5e0 as f, x'00' as b"
    types, row = loaded(maria, query)
    assert "nothing" not in types
    assert (types["id"], types["n"], types["s"], types["d"]) == ("BIGINT", "DECIMAL(4,2)", "VARCHAR", "DATE")
    assert (row["n"], row["f"], row["b"]) == (Decimal("12.30"), 0.5, b"\x00")


def test_sqlite(sqlite: Shop) -> None:
    columns = {
        "id": ("INTEGER", "9223372036854775807", "BIGINT", 2**63 - 1),
        "b": ("BOOLEAN", "1", "BOOLEAN", True),
        "n": ("DECIMAL(12,2)", "12.3", "DECIMAL(12,2)", Decimal("12.30")),
        "ns": ("NUMERIC(30, 4)", "'12345678901234567890.1234'", "DECIMAL(30,4)", None),
        "f": ("REAL", "0.1", "DOUBLE", 0.1),
        "s": ("VARCHAR(9)", "'é😀'", "VARCHAR", "é😀"),
        "by": ("BLOB", "x'00ff'", "BLOB", b"\x00\xff"),
        "d": ("DATE", "'1900-02-28'", "DATE", dt.date(1900, 2, 28)),
        "dtm": ("DATETIME", "'2026-01-02 03:04:05.000006'", "TIMESTAMP", MOMENT),
        "ti": ("TIME", "'23:59:59.5'", "TIME", dt.time(23, 59, 59, 500000)),
        "u": ("UUID", "'00000000-0000-0000-0000-000000000005'", "UUID", uuid.UUID(int=5)),
        "no_type": ("", "7", "BIGINT", 7),
    }
    columns["ns"] = (columns["ns"][0], "'1234.5'", "DECIMAL(30,4)", Decimal("1234.5000"))
    body = ", ".join(f"{name} {kind}" for name, (kind, *_rest) in columns.items())
    given = ", ".join(literal for _, literal, *_rest in columns.values())
    sqlite.execute(f"CREATE TABLE t ({body})", f"INSERT INTO t VALUES ({given})", "INSERT INTO t(b) VALUES (NULL)")
    types, row = loaded(sqlite)
    check(types, row, {name: (kind, value) for name, (_, _, kind, value) in columns.items()})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INTEGER", "'abc'"), ("DATE", "'yesterday'"), ("DATE", "1767225600"), ("BOOLEAN", "2"), ("REAL", "'x'"),
        ("DECIMAL(5,2)", "1.234"), ("DECIMAL(5,2)", "12345.5"), ("TEXT", "x'00'"), ("DATETIME", "'2026-01-01T00:00Z'"),
    ],
)  # fmt: skip
def test_what_sqlite_holds_against_its_declaration_is_told(sqlite: Shop, kind: str, value: str) -> None:
    sqlite.execute(f"CREATE TABLE t (id INTEGER, odd {kind})", f"INSERT INTO t VALUES (1, {value})")
    with pytest.raises(DataError, match='Column "odd" is declared as') as error:
        sqlite.read(sources.sql(NAME, "t"))
    assert error.value.hint is not None
    assert sqlite.read(sources.sql(NAME, "t", columns=["id"])) == [(1,)]


def test_duckdb(duck: Shop) -> None:
    columns = {
        "id": ("UBIGINT", "18446744073709551615", "DECIMAL(20,0)", Decimal(2**64 - 1)),
        "ti": ("TINYINT", "-1", "INTEGER", -1),
        "h": ("HUGEINT", str(10**37), "DECIMAL(38,0)", Decimal(10**37)),
        "n": ("DECIMAL(38,10)", "1.5", "DECIMAL(38,10)", Decimal("1.5000000000")),
        "b": ("BOOLEAN", "true", "BOOLEAN", True),
        "s": ("VARCHAR", "'é😀'", "VARCHAR", "é😀"),
        "raw": ("BLOB", "'\\x00\\xFF'::BLOB", "BLOB", b"\x00\xff"),
        "d": ("DATE", "'1900-02-28'", "DATE", dt.date(1900, 2, 28)),
        "ts": ("TIMESTAMP", "'2026-01-02 03:04:05.000006'", "TIMESTAMP", MOMENT),
        "tz": (
            "TIMESTAMPTZ", "'2026-01-02 03:04:05.000006+00'", "TIMESTAMP WITH TIME ZONE", MOMENT.replace(tzinfo=UTC)
        ),
        "tm": ("TIME", "'23:59:59.5'", "TIME", dt.time(23, 59, 59, 500000)),
        "u": ("UUID", "'00000000-0000-0000-0000-000000000005'", "UUID", uuid.UUID(int=5)),
        "e": ("ENUM ('sad')", "'sad'", "VARCHAR", "sad"),
        "iv": ("INTERVAL", "INTERVAL 1 MONTH", "VARCHAR", "1 month"),
        "j": ("JSON", "'{\"a\": 1}'", "VARCHAR", '{"a": 1}'),
        "l": ("INTEGER[]", "[1, NULL]", "INTEGER[]", [1, None]),
        "st": ("STRUCT(a INTEGER, b BLOB)", "{'a': 1, 'b': NULL}", "STRUCT(a INTEGER, b BLOB)", {"a": 1, "b": None}),
    }  # fmt: skip
    body = ", ".join(f"{name} {kind}" for name, (kind, *_rest) in columns.items())
    given = ", ".join(literal for _, literal, *_rest in columns.values())
    duck.execute(f"CREATE TABLE t ({body})", f"INSERT INTO t VALUES ({given})", "INSERT INTO t(ti) VALUES (NULL)")
    types, row = loaded(duck)
    check(types, row, {name: (kind, value) for name, (_, _, kind, value) in columns.items()})
    for odd in ("infinity", "-infinity"):
        with pytest.raises(DataError, match="infinity"):
            duck.read(sources.sql(NAME, query=f"select '{odd}'::timestamptz as odd", name="t"))
    with pytest.raises(DataError):
        duck.read(sources.sql(NAME, query=f"select {2**127 - 1}::hugeint as odd", name="t"))
    with pytest.raises(DataError, match="infinity"):
        duck.read(sources.sql(NAME, query="select 'infinity'::timestamp as odd", name="t"))
