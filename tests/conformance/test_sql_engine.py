"""The promises of the port `SqlEngine`, for every adapter that offers it."""

from __future__ import annotations

import pdb  # noqa: T100 - a breakpoint in the user's function is what is tested
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.adapters.duckdb.engine import DuckDBEngine
from tidemill.model.errors import DataError, DefinitionError, UnknownName, UserError
from tidemill.model.table import Column, DataFile, Scan, Schema, TableName
from tidemill.model.types import parse_type
from tidemill.ports.engine import Rows, SqlEngine, WithFiles

NAME = TableName("flights", "clean")


@pytest.fixture(params=[DuckDBEngine])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> SqlEngine:
    made: SqlEngine = request.param(threads=2, memory_limit="1GB", temp_directory=str(tmp_path))
    return made


def rows(engine: SqlEngine, sql: str, inputs: dict[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    with engine.query(sql, inputs or {}, **options) as reader:
        return list(reader.read_all().to_pylist())


def schema(**columns: str) -> Schema:
    """Columns as `name="id type"`."""
    made = [(name, *text.split(" ", 1)) for name, text in columns.items()]
    return Schema(tuple(Column(name, parse_type(kind), field_id=int(id)) for name, id, kind in made))


def write(path: Path, columns: dict[str, tuple[int, pa.DataType, list[Any]]], batch_id: int | None = None) -> DataFile:
    """A data file whose columns are `name: (field id, type, values)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [pa.field(n, t, metadata={"PARQUET:field_id": str(i)}) for n, (i, t, _) in columns.items()]
    table = pa.table([pa.array(v, t) for _, t, v in columns.values()], schema=pa.schema(fields))
    pq.write_table(table, path)
    return DataFile(str(path), table.num_rows, path.stat().st_size, batch_id)


def scan(files: list[DataFile], columns: Schema, batch_id: int | None = None) -> Scan:
    return Scan(NAME, columns, tuple(files), batch_id=batch_id)


@pytest.fixture
def clean() -> pa.Table:
    return pa.table({"carrier": ["AA", "UA", "B6"], "dep_delay": [1, 2, None]})


# --- scans ------------------------------------------------------------------------------------------------------------


def test_columns_are_found_by_field_id(engine: SqlEngine, tmp_path: Path) -> None:
    """Renamed, dropped and its name taken again, added, widened, reordered."""
    old = write(
        tmp_path / "old.parquet",
        {
            "id": (1, pa.int32(), [1, 2]),
            "delay": (2, pa.float32(), [1.5, None]),
            "note": (3, pa.string(), ["dropped", "dropped"]),
            "price": (4, pa.decimal128(9, 2), [Decimal("1.25"), None]),
        },
    )
    new = write(
        tmp_path / "new.parquet",
        {
            "price": (4, pa.decimal128(18, 2), [Decimal("9.75")]),
            "note": (5, pa.string(), ["new"]),
            "dep_delay": (2, pa.float64(), [3.5]),
            "id": (1, pa.int64(), [3]),
        },
    )
    now = schema(note="5 string", id="1 long", dep_delay="2 double", price="4 decimal(18,2)")
    with engine.query("from flights.clean order by id", {"flights.clean": scan([old, new], now)}) as reader:
        table = reader.read_all()
    assert table.schema.names == ["note", "id", "dep_delay", "price"]
    assert table.schema.types == [pa.string(), pa.int64(), pa.float64(), pa.decimal128(18, 2)]
    assert [tuple(r.values()) for r in table.to_pylist()] == [
        (None, 1, 1.5, Decimal("1.25")),
        (None, 2, None, None),
        ("new", 3, 3.5, Decimal("9.75")),
    ]


def test_nested_columns_keep_their_shape_and_take_new_parts(engine: SqlEngine, tmp_path: Path) -> None:
    struct = pa.struct([pa.field("a", pa.int32()), pa.field("gone", pa.string())])
    file = write(
        tmp_path / "n.parquet",
        {
            "s": (1, struct, [{"a": 1, "gone": "x"}, None]),
            "l": (2, pa.list_(struct), [[{"a": 2, "gone": "y"}], []]),
            "m": (3, pa.map_(pa.string(), pa.int32()), [[("k", 7)], None]),
        },
    )
    now = schema(
        s="1 struct<new:string,a:long>", l="2 list<struct<a:long,new:double>>", m="3 map<string,long>", n="4 list<int>"
    )
    assert rows(engine, "from t", {"t": scan([file], now)}) == [
        {"s": {"new": None, "a": 1}, "l": [{"a": 2, "new": None}], "m": [("k", 7)], "n": None},
        {"s": None, "l": [], "m": None, "n": None},
    ]


def test_a_scan_of_a_batch_gives_that_batch_only(engine: SqlEngine, tmp_path: Path) -> None:
    columns = schema(id="1 long", _batch_id="2 long")

    def file(name: str, ids: list[int], batches: list[int], batch: int | None) -> DataFile:
        values = {"id": (1, pa.int64(), ids), "_batch_id": (2, pa.int64(), batches)}
        return write(tmp_path / name, values, batch)

    files = [file("a", [1, 2], [7, 7], 7), file("b", [3], [8], 8), file("c", [4, 5], [7, 8], None)]
    whole, batch = scan(files, columns), scan(files, columns, batch_id=7)
    sql = "select id from t order by id"
    assert [r["id"] for r in rows(engine, sql, {"t": whole})] == [1, 2, 3, 4, 5]
    assert [r["id"] for r in rows(engine, sql, {"t": batch})] == [1, 2, 4]
    assert [r["id"] for r in rows(engine, sql, {"t": scan(files[:2], columns, batch_id=7)})] == [1, 2]


ALL_TYPES = schema(
    b="1 boolean", i="2 int", l="3 long", f="4 float", d="5 double", da="6 date", ti="7 time", ts="8 timestamp",
    tz="9 timestamptz", s="10 string", bi="11 binary", u="12 uuid", un="13 unknown", de="14 decimal(9,2)",
    li="15 list<int>", m="16 map<string,long>", st="17 struct<a:int,\"b c\":list<string>>",
)  # fmt: skip


def test_an_empty_table_has_its_types(engine: SqlEngine) -> None:
    with engine.query("from t", {"t": scan([], ALL_TYPES)}) as reader:
        table = reader.read_all()
    assert table.num_rows == 0
    assert [str(t) for t in table.schema.types[:14]] == [
        "bool", "int32", "int64", "float", "double", "date32[day]", "time64[us]", "timestamp[us]",
        "timestamp[us, tz=UTC]", "string", "binary", "extension<arrow.uuid>", "null", "decimal128(9, 2)",
    ]  # fmt: skip
    assert table.schema.types[14].value_type == pa.int32()
    assert table.schema.types[16].field("b c").type.value_type == pa.string()


def test_a_scan_tells_the_file_of_each_row(engine: SqlEngine, tmp_path: Path) -> None:
    """Rows carry the path as the scan names it, with or without `file://`."""
    columns = schema(id="1 long")
    files = [write(tmp_path / f"{n}.parquet", {"id": (1, pa.int64(), [n])}) for n in (1, 2)]
    urls = [DataFile("file://" + f.path, f.rows, f.bytes) for f in files]
    for given in (files, urls):
        found = rows(engine, "select id, _file from t order by id", {"t": WithFiles(scan(given, columns))})
        assert [r["_file"] for r in found] == [f.path for f in given]
    assert rows(engine, "select id, where_it_is from t", {"t": WithFiles(scan([], columns), "where_it_is")}) == []


@pytest.mark.parametrize("folder", ["carrier=AA", "a b'c", "g[l]o*b?", "é/ü"])
def test_paths_are_taken_literally(engine: SqlEngine, tmp_path: Path, folder: str) -> None:
    """Not as patterns, not as hive partitions: the value in the file counts."""
    file = write(tmp_path / folder / "f.parquet", {"carrier": (1, pa.string(), ["in the file"])})
    write(tmp_path / "gl/oxb?" / "f.parquet", {"carrier": (1, pa.string(), ["another"])})
    assert rows(engine, "from t", {"t": scan([file], schema(carrier="1 string"))}) == [{"carrier": "in the file"}]


def test_a_missing_or_broken_file_is_a_data_error(engine: SqlEngine, tmp_path: Path) -> None:
    columns = schema(id="1 long")
    with pytest.raises(DataError, match=r"cannot be read: .*gone\.parquet"):
        rows(engine, "from t", {"t": scan([DataFile(str(tmp_path / "gone.parquet"), 1, 1)], columns)})
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is none PAR1")
    with pytest.raises(DataError, match="cannot be read"):
        rows(engine, "from t", {"t": scan([DataFile(str(tmp_path / "broken.parquet"), 1, 1)], columns)})


# --- names ------------------------------------------------------------------------------------------------------------


def test_rows_in_memory_are_typed_by_their_schema(engine: SqlEngine) -> None:
    """Also where there are none, or only nulls: no type is guessed from values."""
    columns = Schema.of({"id": "long", "name": "string", "at": "timestamptz", "ok": "boolean"})
    moment = datetime(2013, 1, 1, 10, tzinfo=UTC)
    given = Rows(columns, [(1, "a", moment, True), (2, None, None, None)])
    assert rows(engine, "SELECT * FROM runs ORDER BY id", {"runs": given}) == [
        {"id": 1, "name": "a", "at": moment, "ok": True},
        {"id": 2, "name": None, "at": None, "ok": None},
    ]
    with engine.query("SELECT * FROM runs", {"runs": Rows(columns, [])}) as reader:
        assert [str(f.type) for f in reader.schema] == ["int64", "string", "timestamp[us, tz=UTC]", "bool"]
        assert reader.read_all().num_rows == 0


def test_arrow_data_of_any_kind_is_a_table(engine: SqlEngine, clean: pa.Table) -> None:
    for data in (clean, clean.to_reader(), pl.from_arrow(clean), clean.to_batches()[0]):
        assert rows(engine, "select sum(dep_delay) as s from x", {"x": data}) == [{"s": 3}]


def test_names_are_qualified_or_bare_in_the_namespace(engine: SqlEngine, clean: pa.Table) -> None:
    inputs = {"flights.clean": clean, "weather.clean": clean.slice(0, 1), "bare": clean.slice(0, 2)}
    count = "select count(*) as n from "
    assert rows(engine, count + "flights.clean", inputs) == [{"n": 3}]
    assert rows(engine, count + '"Flights".CLEAN', inputs) == [{"n": 3}]
    assert rows(engine, count + "clean", inputs, namespace="weather") == [{"n": 1}]
    assert rows(engine, count + "bare", inputs, namespace="weather") == [{"n": 2}]
    assert rows(engine, "with clean as (select 1) " + count + "clean", inputs, namespace="flights") == [{"n": 1}]
    assert rows(engine, count + "flights.clean c join weather.clean using (carrier)", inputs) == [{"n": 1}]
    with pytest.raises(UnknownName, match="There is no table"):
        rows(engine, count + "clean", inputs)


@pytest.mark.parametrize("namespace", ["main", "memory", "select", "tidemill", "Ünï"])
def test_a_pipeline_may_have_almost_any_name(engine: SqlEngine, clean: pa.Table, namespace: str) -> None:
    inputs = {f"{namespace}.t": clean, f"{namespace}.t@batch": clean.slice(0, 1)}
    assert rows(engine, f'select count(*) as n from "{namespace}".t', inputs) == [{"n": 3}]
    assert rows(engine, f'select count(*) as n from "{namespace}"."t@batch"', inputs) == [{"n": 1}]
    assert rows(engine, "select count(*) as n from t", inputs, namespace=namespace) == [{"n": 3}]


def test_a_pipeline_that_takes_the_engines_own_name_is_told_so(engine: SqlEngine, clean: pa.Table) -> None:
    with pytest.raises(DefinitionError, match='called "temp"'):
        rows(engine, "from temp.t", {"temp.t": clean})


def test_views_read_inputs_and_one_another(engine: SqlEngine, clean: pa.Table) -> None:
    views = {
        "flights.late": "select * from early where dep_delay > 1;  -- the last",
        "flights.early": "select * from flights.clean where dep_delay is not null",
        "other.unused": "select * from no.such_table",
    }
    assert rows(engine, "select carrier from flights.late", {"flights.clean": clean}, views=views) == [
        {"carrier": "UA"}
    ]


def test_a_view_that_fails_is_named_with_its_place(engine: SqlEngine, clean: pa.Table) -> None:
    with pytest.raises(UnknownName) as caught:
        rows(engine, "from f.v", {"f.t": clean}, views={"f.v": "select 'ü',\n  carier from t"})
    assert (caught.value.where, caught.value.hint) == ('view "f.v", line 2, column 3', 'did you mean "carrier"?')
    with pytest.raises(UserError, match=r'"f[.]a" reads itself'):
        rows(engine, "from f.a", {}, views={"f.a": "from f.b", "f.b": "from f.a"})


def test_parameters_are_bound_by_name(engine: SqlEngine, clean: pa.Table) -> None:
    values = {"c": "UA'; drop table x; --", "least": 1, "day": date(2013, 1, 1), "unused": object()}
    sql = "select count(*) as n, $day as day from t where dep_delay >= $least and carrier <> $c"
    assert rows(engine, sql, {"t": clean}, parameters=values) == [{"n": 2, "day": date(2013, 1, 1)}]
    with pytest.raises(UnknownName, match='no parameter "lest"') as caught:
        rows(engine, "select $lest", parameters=values)
    assert caught.value.hint == 'did you mean "least"?'
    with pytest.raises(UserError, match="needs a name"):
        rows(engine, "select ?", parameters=values)


# --- results ----------------------------------------------------------------------------------------------------------


def test_results_have_types_that_a_table_can_have(engine: SqlEngine) -> None:
    sql = """
        select sum(i) as s, 1::utinyint as u, 'a'::enum('a') as e, '{}'::json as j, [1::hugeint] as l,
        {'a b': 1::tinyint} as st, map {'k': 1::hugeint} as m, timestamp_ns '2013-01-01 00:00:00.123456789' as ns,
        timestamptz '2013-01-01 05:00:00+05' as tz, '00000000-0000-0000-0000-000000000001'::uuid as id,
        5::ubigint as ub, [1, 2]::int[2] as ar from range(3) t(i)
    """
    with engine.query(sql, {}) as reader:
        table = reader.read_all()
    assert dict(zip(table.schema.names, map(str, table.schema.types), strict=True)) | {} == {
        "s": "int64", "u": "int32", "e": "string", "j": "string", "l": "list<l: int64>", "st": "struct<a b: int32>",
        "m": "map<string, int64>", "ns": "timestamp[us]", "tz": "timestamp[us, tz=UTC]",
        "id": "extension<arrow.uuid>", "ub": "decimal128(20, 0)", "ar": "list<l: int32>",
    }  # fmt: skip
    row = table.to_pylist()[0]
    assert (row["s"], row["l"], row["st"], row["ar"]) == (3, [1], {"a b": 1}, [1, 2])
    assert row["tz"] == datetime(2013, 1, 1, tzinfo=UTC)
    assert row["id"] == UUID(int=1)


def test_a_sum_that_no_long_holds_is_an_error(engine: SqlEngine) -> None:
    with pytest.raises(UserError, match="out of range"):
        rows(engine, "select sum(9223372036854775807) as s from range(2)")


def test_the_order_and_the_names_of_columns_stay(engine: SqlEngine) -> None:
    with engine.query('select i as a, i::hugeint as a, -i as "B c" from range(200000) t(i) order by hash(i)', {}) as r:
        table = r.read_all()
    assert table.schema.names == ["a", "a", "B c"]
    expected = rows(engine, "select i as a from range(200000) t(i) order by hash(i)")
    assert table.column(1).to_pylist() == [r["a"] for r in expected]


def test_a_result_streams_and_may_be_left_early(engine: SqlEngine) -> None:
    """100 GB, of which the first batches are read within a memory limit of 1 GB."""
    with engine.query("select i, repeat('x', 1000) as s from range(100_000_000) t(i)", {}) as reader:
        first = [reader.read_next_batch().num_rows for _ in range(3)]
    assert all(first)
    with engine.query("select * from range(100_000_000)", {}) as reader:
        pass
    assert rows(engine, "select 1 as x") == [{"x": 1}]


def test_a_failure_in_the_middle_of_a_result_is_the_users_error(engine: SqlEngine) -> None:
    sql = "select if(i = 1_500_000, error('row ' || i), i) as x from range(3_000_000) t(i)"
    with engine.query(sql, {}) as reader:
        assert reader.read_next_batch().num_rows > 0
        with pytest.raises(UserError, match="Row 1500000"):
            reader.read_all()


def test_an_exception_in_the_callers_block_passes(engine: SqlEngine) -> None:
    with pytest.raises(ZeroDivisionError), engine.query("select 1", {}):
        raise ZeroDivisionError


def test_queries_in_threads_do_not_see_one_another(engine: SqlEngine) -> None:
    found: dict[int, Any] = {}

    def work(n: int) -> None:
        def own(x: int) -> int:
            return x * n

        sql = "select sum(own(v)) as s from t"
        found[n] = rows(engine, sql, {"t": pa.table({"v": list(range(5000))})}, functions={"own": own})[0]["s"]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n * sum(range(5000)) for n in range(4)}


def test_a_query_that_needs_more_memory_than_allowed_says_so(tmp_path: Path) -> None:
    small = DuckDBEngine(memory_limit="20MB", threads=1, temp_directory=str(tmp_path))
    with pytest.raises(UserError, match="more memory"):
        rows(small, "select list(i) as l from range(20_000_000) t(i)")


def test_a_sort_larger_than_memory_spills_and_cleans_up(tmp_path: Path) -> None:
    small = DuckDBEngine(memory_limit="60MB", threads=1, temp_directory=str(tmp_path))
    with small.query("select i, md5(i::varchar) as h from range(2_000_000) t(i) order by h", {}) as reader:
        reader.read_next_batch()
        assert list(tmp_path.iterdir())
        assert sum(b.num_rows for b in reader) > 1_900_000
    assert list(tmp_path.iterdir()) == []


# --- safety -----------------------------------------------------------------------------------------------------------


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


# --- messages ---------------------------------------------------------------------------------------------------------


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


# --- the user's functions ---------------------------------------------------------------------------------------------


def test_a_function_is_called_row_by_row_and_null_gives_null(engine: SqlEngine, clean: pa.Table) -> None:
    calls = []

    def shout(text: str, times: int) -> str:
        calls.append(text)
        return text * times

    sql = "select shout(carrier, dep_delay) as s from t order by carrier"
    assert [r["s"] for r in rows(engine, sql, {"t": clean}, functions={"shout": shout})] == ["AA", None, "UAUA"]
    assert sorted(calls) == ["AA", "UA"]


def test_a_parameter_that_admits_none_gets_it(engine: SqlEngine, clean: pa.Table) -> None:
    def known(delay: int | None) -> bool:
        return delay is not None

    sql = "select known(dep_delay) as k from t"
    assert [r["k"] for r in rows(engine, sql, {"t": clean}, functions={"known": known})] == [True, True, False]


def test_a_function_may_work_on_columns(engine: SqlEngine, clean: pa.Table) -> None:
    def twice(x: Annotated[pl.Series, int]) -> Annotated[pl.Series, "double"]:
        return x * 2.0

    def half(x: Annotated[pa.Array, "long"]) -> Annotated[pa.Array, float]:
        return pa.compute.divide(x.cast(pa.float64()), 2.0)

    sql = "select twice(dep_delay) as a, half(dep_delay) as b from t"
    found = rows(engine, sql, {"t": clean}, functions={"twice": twice, "half": half})
    assert [(r["a"], r["b"]) for r in found] == [(2.0, 0.5), (4.0, 1.0), (None, None)]
    many = pa.table({"dep_delay": list(range(10_000))})
    assert rows(engine, "select sum(twice(dep_delay)) as s from t", {"t": many}, functions={"twice": twice}) == [
        {"s": 2.0 * sum(range(10_000))}
    ]


def test_functions_take_and_give_all_kinds_of_values(engine: SqlEngine) -> None:
    def back(
        a: bool, b: float, c: bytes, d: date, e: datetime, f: list[int], g: dict[str, int],
        h: Annotated[Decimal, "decimal(9,2)"], i: Annotated[datetime, "timestamptz"], j: UUID,
        k: Annotated[dict[str, Any], "struct<x:long>"],
    ) -> str:  # fmt: skip
        return repr((a, b, c, d, e, f, g, h, i.utcoffset(), j.int, k))

    sql = """
        select back(true, 1.5, 'x'::blob, '2013-01-01', '2013-01-01 01:00', [1, null], map {'k': 2}, 1.25,
        '2013-01-01 00:00+05', '00000000-0000-0000-0000-000000000001'::uuid, {'x': 1}) as s
    """
    assert rows(engine, sql, functions={"back": back}) == [
        {"s": "(True, 1.5, b'x', datetime.date(2013, 1, 1), datetime.datetime(2013, 1, 1, 1, 0), [1, None], {'k': 2}, "
              "Decimal('1.25'), datetime.timedelta(0), 1, {'x': 1})"}
    ]  # fmt: skip

    def pair() -> dict[str, int]:
        return {"a": 1}

    def items(n: int) -> list[str]:
        return ["x"] * n

    found = rows(engine, "select pair() as p, items(2) as i", functions={"pair": pair, "items": items})
    assert found == [{"p": [("a", 1)], "i": ["x", "x"]}]


def test_an_exception_in_a_function_is_the_users_error_with_its_traceback(engine: SqlEngine, clean: pa.Table) -> None:
    def inner(x: int) -> int:
        raise ValueError(f"bad {x}")

    def outer(x: int) -> int:
        return inner(x)

    with pytest.raises(UserError) as caught:
        rows(engine, "select outer(dep_delay) as x from t", {"t": clean}, functions={"outer": outer})
    error = caught.value
    assert error.what == 'The function "outer" failed: ValueError: bad 1'
    assert error.where == f"{__file__}:{inner.__code__.co_firstlineno + 1}"
    assert isinstance(error.__cause__, ValueError)
    assert "return inner(x)" in error.__notes__[0]


def test_a_function_that_gives_something_else_than_it_says(engine: SqlEngine, clean: pa.Table) -> None:
    def wrong(x: int) -> int:
        return x if x == 1 else 2**70

    def short(x: Annotated[pl.Series, int]) -> Annotated[pl.Series, int]:
        return x.head(1)

    def other(x: Annotated[pl.Series, int]) -> Annotated[pl.Series, int]:
        return x.cast(pl.String) + "a"

    for function, says in (
        (wrong, "gave 1180591620717411303424, which is no int64"),
        (short, "gave 1 values for 3 rows"),
        (other, "gave a column of .*string.*, which is no int64"),
    ):
        with pytest.raises(UserError, match=says):
            rows(engine, "select f(dep_delay) as x from t", {"t": clean}, functions={"f": function})


@pytest.mark.parametrize(
    ("function", "name", "says"),
    [
        (lambda x: x, "f", 'parameter "x" of "f" is not annotated'),
        (print, "f", "SQL cannot pass|is not annotated|cannot be read"),
        (max, "lower", "cannot be read|already"),
    ],
)
def test_a_function_without_types_is_refused(
    engine: SqlEngine, function: Callable[..., Any], name: str, says: str
) -> None:
    with pytest.raises(DefinitionError, match=says):
        rows(engine, "select 1", functions={name: function})


def test_functions_that_cannot_be_registered(engine: SqlEngine) -> None:
    def plain(x: int) -> int:
        return x

    def mixed(x: Annotated[pl.Series, int], y: int) -> Annotated[pl.Series, int]:
        return x * y

    def untyped(x: pl.Series) -> pl.Series:
        return x

    def decimal(x: Decimal) -> int:
        return int(x)

    def many(*x: int) -> int:
        return sum(x)

    for name, function, says in (
        ("lower", plain, 'SQL has a function "lower" already'),
        ("not a name", plain, "cannot name a function"),
        ("f", mixed, "mixes columns and single values"),
        ("f", untyped, "is annotated Series, which gives no SQL type"),
        ("f", decimal, "is annotated Decimal, which gives no SQL type"),
        ("f", many, 'SQL cannot pass "x"'),
    ):
        with pytest.raises(DefinitionError, match=says):
            rows(engine, "select 1", functions={name: function})


def test_a_debugger_stops_in_a_function_with_the_row_in_hand(engine: SqlEngine, clean: pa.Table) -> None:
    seen: list[dict[str, Any]] = []

    class Scripted(pdb.Pdb):
        def interaction(self, frame: Any, *_: Any) -> None:
            assert frame is not None
            seen.append(dict(frame.f_locals))
            self.set_continue()

    def stop(carrier: str, delay: int) -> int:
        Scripted().set_trace()
        return delay

    rows(engine, "select stop(carrier, dep_delay) as x from t limit 1", {"t": clean}, functions={"stop": stop})
    assert [(frame["carrier"], frame["delay"]) for frame in seen] == [("AA", 1)]


def test_leaving_the_debugger_ends_the_query_as_it_ends_a_program(engine: SqlEngine, clean: pa.Table) -> None:
    def quit_here(delay: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows(engine, "select quit_here(dep_delay) as x from t", {"t": clean}, functions={"quit_here": quit_here})


def test_nothing_is_left_behind_when_the_program_ends() -> None:
    """DuckDB's binding reports objects that outlive the interpreter on standard error."""
    program = (
        "from tidemill.adapters.duckdb.engine import DuckDBEngine\n"
        "def f(x: int) -> int: return x\n"
        "with DuckDBEngine(threads=1).query('select f(1) as x', {}, functions={'f': f}) as r:\n"
        "    print(r.read_all()['x'][0])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.fixture(autouse=True)
def no_warnings(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """DuckDB warns where an interface makes extra copies."""
    yield
    assert [str(w.message) for w in recwarn] == []
