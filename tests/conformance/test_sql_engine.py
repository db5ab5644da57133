"""The promises of the port `SqlEngine`, for every adapter that offers it: tables, names, results."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pytest

from harness.sql import CLEAN, ENGINES, rows, scan, schema, write
from tidemill.adapters.duckdb.engine import DuckDBEngine
from tidemill.model.errors import DataError, DefinitionError, UnknownName, UserError
from tidemill.model.table import DataFile, Schema
from tidemill.ports.engine import Rows, SqlEngine, WithFiles


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> SqlEngine:
    made: SqlEngine = request.param(threads=2, memory_limit="1GB", temp_directory=str(tmp_path))
    return made


@pytest.fixture
def clean() -> pa.Table:
    return CLEAN


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
    small = DuckDBEngine(memory_limit="40MB", threads=1, temp_directory=str(tmp_path))
    with small.query("select i, md5(i::varchar) as h from range(1_000_000) t(i) order by h", {}) as reader:
        reader.read_next_batch()
        assert list(tmp_path.iterdir())
        assert sum(b.num_rows for b in reader) > 900_000
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(autouse=True)
def no_warnings(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    """DuckDB warns where an interface makes extra copies."""
    yield
    assert [str(w.message) for w in recwarn] == []
