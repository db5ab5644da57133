"""What every frame engine promises (`ports/frame_engine.py`), over real Parquet files with field ids."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars import col

from harness.examples import few
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model import agg
from tidemill.model.errors import UnknownName
from tidemill.model.frame import Frame, Input, concat
from tidemill.model.table import BATCH_ID, LOADED_AT, Column, DataFile, Scan, Schema, TableName
from tidemill.model.types import parse_type
from tidemill.ports.frame_engine import FrameEngine

ENGINES: dict[str, Callable[[], FrameEngine]] = {"polars": PolarsEngine}
NAME = TableName("flights", "departures")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> FrameEngine:
    return ENGINES[request.param]()


def write(
    path: Path, columns: Mapping[str, pa.Array], ids: Mapping[str, int] | None = None, batch: int | None = None
) -> DataFile:
    """A Parquet file as the lake writes it: each column with its field id."""
    fields = [
        pa.field(name, array.type, metadata=None if ids is None else {"PARQUET:field_id": str(ids[name])})
        for name, array in columns.items()
    ]
    table = pa.table(list(columns.values()), schema=pa.schema(fields))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=1000)
    return DataFile(str(path), table.num_rows, path.stat().st_size, batch)


def schema(**columns: tuple[int, str]) -> Schema:
    """Columns by name: field id and type."""
    return Schema(tuple(Column(name, parse_type(kind), True, number) for name, (number, kind) in columns.items()))


def read(engine: FrameEngine, scan: Scan, frame: Frame | None = None) -> list[dict[str, Any]]:
    """The rows of a frame over a scan, the scan's own where there is none."""
    whole = Frame.of(Input("t", system_columns=True))
    with engine.batches(whole if frame is None else frame, {"t": scan}) as reader:
        rows: list[dict[str, Any]] = reader.read_all().to_pylist(maps_as_pydicts="strict")
        return rows


def rows_in(engine: FrameEngine, wanted: Schema, *files: DataFile, batch: int | None = None) -> list[dict[str, Any]]:
    return read(engine, Scan(NAME, wanted, tuple(files), None, batch))


# Columns are found by field id


def test_a_renamed_column_is_found_under_its_older_name(engine: FrameEngine, tmp_path: Path) -> None:
    old = write(tmp_path / "a.parquet", {"origin": pa.array(["JFK"])}, {"origin": 1})
    new = write(tmp_path / "b.parquet", {"airport": pa.array(["LGA"])}, {"airport": 1})
    assert rows_in(engine, schema(airport=(1, "string")), old, new) == [{"airport": "JFK"}, {"airport": "LGA"}]


def test_swapped_names_are_not_mixed_up(engine: FrameEngine, tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", {"a": pa.array([1]), "b": pa.array([2])}, {"a": 1, "b": 2})
    assert rows_in(engine, schema(b=(1, "long"), a=(2, "long")), file) == [{"b": 1, "a": 2}]


def test_an_added_column_is_null_in_older_files(engine: FrameEngine, tmp_path: Path) -> None:
    """Also where nothing but that column is asked for: the number of rows stays."""
    files = [
        write(tmp_path / "a.parquet", {"a": pa.array([1, 2, 3])}, {"a": 1}),
        write(tmp_path / "b.parquet", {"a": pa.array([4]), "n": pa.array(["x"])}, {"a": 1, "n": 2}),
    ]
    scan = Scan(NAME, schema(a=(1, "long"), n=(2, "string")), tuple(files))
    assert [r["n"] for r in read(engine, scan)] == [None, None, None, "x"]
    assert read(engine, scan, Frame.of(Input("t")).select("n")) == [{"n": n} for n in (None, None, None, "x")]
    assert rows_in(engine, schema(n=(2, "string")), *files) == [{"n": n} for n in (None, None, None, "x")]


def test_a_dropped_column_does_not_reappear_under_its_name(engine: FrameEngine, tmp_path: Path) -> None:
    """Dropped and added again under the same name, it has another id: old values stay gone, whatever their type."""
    old = write(tmp_path / "a.parquet", {"a": pa.array([1]), "note": pa.array(["secret"])}, {"a": 1, "note": 2})
    new = write(tmp_path / "b.parquet", {"a": pa.array([2]), "note": pa.array([7])}, {"a": 1, "note": 3})
    assert rows_in(engine, schema(a=(1, "long")), old, new) == [{"a": 1}, {"a": 2}]
    again = schema(a=(1, "long"), note=(3, "long"))
    assert rows_in(engine, again, old, new) == [{"a": 1, "note": None}, {"a": 2, "note": 7}]


def test_narrower_types_are_widened(engine: FrameEngine, tmp_path: Path) -> None:
    narrow = {
        "i": pa.array([2**31 - 1, None], pa.int32()),
        "f": pa.array([0.5, None], pa.float32()),
        "d": pa.array([Decimal("1.25"), None], pa.decimal128(5, 2)),
        "u": pa.nulls(2),
    }
    wide = {
        "i": pa.array([2**40], pa.int64()),
        "f": pa.array([1e300], pa.float64()),
        "d": pa.array([Decimal("123456789.25")], pa.decimal128(20, 2)),
        "u": pa.array(["x"]),
    }
    ids = {"i": 1, "f": 2, "d": 3, "u": 4}
    files = write(tmp_path / "a.parquet", narrow, ids), write(tmp_path / "b.parquet", wide, ids)
    found = rows_in(engine, schema(i=(1, "long"), f=(2, "double"), d=(3, "decimal(20,2)"), u=(4, "string")), *files)
    assert found == [
        {"i": 2**31 - 1, "f": 0.5, "d": Decimal("1.25"), "u": None},
        {"i": None, "f": None, "d": None, "u": None},
        {"i": 2**40, "f": 1e300, "d": Decimal("123456789.25"), "u": "x"},
    ]


def test_nested_columns_evolve_too(engine: FrameEngine, tmp_path: Path) -> None:
    """Fields of structs, also in lists, are matched by name: added ones are null, dropped ones gone."""
    old = pa.array(
        [{"lat": 1.5, "old": 1, "hits": [{"n": 1, "gone": "x"}]}, None],
        pa.struct(
            [
                ("lat", pa.float32()),
                ("old", pa.int64()),
                ("hits", pa.list_(pa.struct([("n", pa.int32()), ("gone", pa.string())]))),
            ]
        ),
    )
    new = pa.array(
        [{"name": "a", "lat": 1e300, "hits": [{"n": 2**40, "of": 3}, None]}],
        pa.struct(
            [
                ("name", pa.string()),
                ("lat", pa.float64()),
                ("hits", pa.list_(pa.struct([("n", pa.int64()), ("of", pa.int64())]))),
            ]
        ),
    )
    files = write(tmp_path / "a.parquet", {"at": old}, {"at": 1}), write(tmp_path / "b.parquet", {"p": new}, {"p": 1})
    wanted = schema(p=(1, "struct<name:string,lat:double,hits:list<struct<n:long,of:long>>>"))
    assert rows_in(engine, wanted, *files) == [
        {"p": {"name": None, "lat": 1.5, "hits": [{"n": 1, "of": None}]}},
        {"p": None},
        {"p": {"name": "a", "lat": 1e300, "hits": [{"n": 2**40, "of": 3}, None]}},
    ]


def test_files_without_field_ids_are_matched_by_name(engine: FrameEngine, tmp_path: Path) -> None:
    """Written by other tools and added to the table."""
    file = write(tmp_path / "a.parquet", {"b": pa.array([2]), "a": pa.array([1])})
    assert rows_in(engine, schema(a=(1, "long"), b=(2, "long"), c=(3, "date")), file) == [{"a": 1, "b": 2, "c": None}]


def test_every_type_is_read(engine: FrameEngine, tmp_path: Path) -> None:
    key = UUID("12345678-1234-5678-1234-567812345678")
    values: dict[str, tuple[str, Any, pa.DataType]] = {
        "b": ("boolean", True, pa.bool_()),
        "i": ("int", 1, pa.int32()),
        "l": ("long", 2**60, pa.int64()),
        "f": ("float", 0.5, pa.float32()),
        "d": ("double", 1e300, pa.float64()),
        "day": ("date", date(2024, 2, 29), pa.date32()),
        "t": ("time", time(1, 2, 3, 4), pa.time64("us")),
        "at": ("timestamp", datetime(2024, 1, 2, 3, 4, 5, 6), pa.timestamp("us")),
        "utc": ("timestamptz", datetime(2024, 1, 2, tzinfo=UTC), pa.timestamp("us", "UTC")),
        "s": ("string", "ü", pa.string()),
        "y": ("binary", b"\0x", pa.binary()),
        "u": ("uuid", key.bytes, pa.binary(16)),
        "m": ("decimal(9,2)", Decimal("1.25"), pa.decimal128(9, 2)),
        "list": ("list<string>", ["a", None], pa.list_(pa.string())),
        "map": ("map<string,long>", {"k": 1}, pa.map_(pa.string(), pa.int64())),
        "struct": ("struct<a:long,b:list<struct<c:date>>>", {"a": 1, "b": [{"c": date(2024, 1, 1)}]},
                   pa.struct([("a", pa.int64()), ("b", pa.list_(pa.struct([("c", pa.date32())])))])),
        "none": ("unknown", None, pa.null()),
    }  # fmt: skip
    ids = {name: number for number, name in enumerate(values, 1)}
    columns = {name: pa.array([None, value], kind) for name, (_, value, kind) in values.items()}
    file = write(tmp_path / "a.parquet", columns, ids)
    wanted = schema(**{name: (ids[name], kind) for name, (kind, _, _) in values.items()})
    assert rows_in(engine, wanted, file) == [
        dict.fromkeys(values),
        {name: value for name, (_, value, _) in values.items()},
    ]
    kinds = {name: "binary" if kind == "uuid" else kind for name, (kind, _, _) in values.items()}
    assert engine.columns(Frame.of(Input("t")), {"t": Scan(NAME, wanted, (file,))}) == Schema.of(kinds)


ARROW = {"int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(), "string": pa.string()}
WIDER = {"int": "long", "float": "double"}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-9, 9),
    "long": st.integers(-(2**62), 2**62),
    "float": st.sampled_from([0.5, -2.0]),
    "double": st.floats(allow_nan=False),
    "string": st.text("ab", max_size=2),
}


@dataclass
class Evolving:
    """A table that changes as Iceberg allows, and what its rows must read as, by field id."""

    ids: Iterator[int] = field(default_factory=lambda: iter(range(1, 1000)))
    columns: dict[int, tuple[str, str]] = field(default_factory=dict)
    files: list[DataFile] = field(default_factory=list)
    rows: list[dict[int, Any]] = field(default_factory=list)

    def change(self, draw: Callable[[Any], Any]) -> None:
        kind = draw(st.sampled_from(["add", "add", "drop", "rename", "widen", "move"]))
        names = {name for name, _ in self.columns.values()}
        free = [n for n in "abcdef" if n not in names]
        if kind == "add" and free:
            self.columns[next(self.ids)] = (draw(st.sampled_from(free)), draw(st.sampled_from(sorted(ARROW))))
        if not self.columns:
            return
        number = draw(st.sampled_from(sorted(self.columns)))
        name, held = self.columns[number]
        if kind == "drop" and len(self.columns) > 1:
            del self.columns[number]
        elif kind == "rename" and free:
            self.columns[number] = (draw(st.sampled_from(free)), held)
        elif kind == "widen" and held in WIDER:
            self.columns[number] = (name, WIDER[held])
        elif kind == "move":
            self.columns[number] = self.columns.pop(number)

    def write(self, path: Path, draw: Callable[[Any], Any]) -> None:
        made: list[dict[int, Any]] = [
            {number: draw(st.one_of(st.none(), VALUES[kind])) for number, (_, kind) in self.columns.items()}
            for _ in range(draw(st.integers(0, 3)))
        ]
        arrays = {n: pa.array([row[i] for row in made], ARROW[kind]) for i, (n, kind) in self.columns.items()}
        self.files.append(write(path, arrays, {n: i for i, (n, _) in self.columns.items()}))
        self.rows += made


@settings(max_examples=few(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_evolution_reads_as_the_newest_columns(engine: FrameEngine, tmp_path: Path, data: st.DataObject) -> None:
    """Adding, dropping, renaming, widening, moving columns between files, in any order, names used again."""
    table = Evolving()
    folder = Path(tempfile.mkdtemp(dir=tmp_path))  # a path is never written twice: engines remember footers
    for number in range(data.draw(st.integers(1, 5))):
        for _ in range(data.draw(st.integers(0 if table.columns else 1, 3))):
            table.change(data.draw)
        if table.columns:
            table.write(folder / f"{number}.parquet", data.draw)
    if not table.columns:
        return
    wanted = schema(**{name: (number, kind) for number, (name, kind) in table.columns.items()})
    found = rows_in(engine, wanted, *table.files)
    assert found == [{name: row.get(number) for number, (name, _) in table.columns.items()} for row in table.rows]


# Files and batches


def numbers(path: Path, values: Sequence[int], batches: Sequence[int], batch: int | None = None) -> DataFile:
    columns = {"a": pa.array(values, pa.int64()), BATCH_ID: pa.array(batches, pa.int64())}
    return write(path, columns, {"a": 1, BATCH_ID: 2}, batch)


SYSTEM = Schema((Column("a", parse_type("long"), True, 1), Column(BATCH_ID, parse_type("long"), True, 2)))


def test_a_scan_of_one_batch_gives_its_rows_only(engine: FrameEngine, tmp_path: Path) -> None:
    """Files of other batches are not opened (one does not even exist); files that mix batches are filtered."""
    files = (
        numbers(tmp_path / "a.parquet", [1, 2], [7, 7], 7),
        DataFile(str(tmp_path / "missing.parquet"), 1, 1, 8),
        numbers(tmp_path / "b.parquet", [3, 4, 5], [7, 8, 7]),
    )
    assert [r["a"] for r in rows_in(engine, SYSTEM, *files, batch=7)] == [1, 2, 3, 5]
    without = Schema(SYSTEM.columns[:1])
    assert rows_in(engine, without, *files, batch=7) == [{"a": a} for a in (1, 2, 3, 5)]


def test_a_scan_without_files_has_columns(engine: FrameEngine, tmp_path: Path) -> None:
    """Also one whose files all are of other batches; steps on it work."""
    wanted = schema(a=(1, "long"), t=(2, "timestamp"), p=(3, "struct<x:double>"))
    file = numbers(tmp_path / "a.parquet", [1], [7], 7)
    assert rows_in(engine, wanted) == []
    assert rows_in(engine, SYSTEM, file, batch=9) == []
    frame = (
        Frame.of(Input("t")).tumbling_window("1h", on="t").agg(n=agg.count(), x=agg.mean(col("p").struct.field("x")))
    )
    with engine.batches(frame.final(), {"t": Scan(NAME, wanted, ())}) as reader:
        assert reader.schema.names == ["window_start", "window_end", "n", "x"]
        assert reader.read_all().num_rows == 0


def test_rows_come_in_the_order_of_files(engine: FrameEngine, tmp_path: Path) -> None:
    """Files of different shapes interleaved, with more rows than one batch."""
    files, wanted = [], []
    for number in range(12):
        start = number * 10_000
        column, kind = ("old", pa.int32()) if number % 3 == 0 else ("n", pa.int64())
        array = pa.array(range(start, start + 10_000), kind)
        files.append(write(tmp_path / f"{number}.parquet", {column: array}, {column: 1}))
        wanted += range(start, start + 10_000)
    frame = Frame.of(Input("t")).with_columns(m=col("n") * 2).filter(col("n") >= 5)
    scan = Scan(NAME, schema(n=(1, "long")), tuple(files))
    with engine.batches(frame, {"t": scan}) as reader:
        table = reader.read_all()
    assert table["n"].to_pylist() == wanted[5:]


def test_names_and_paths_may_be_anything(engine: FrameEngine, tmp_path: Path) -> None:
    """Names are no patterns: `*`, `[1]`, `dt=2024`, spaces, quotes, a file:// address."""
    odd = 'a "b".c\' d'
    files = []
    for number, folder in enumerate(["dt=2024-01-01", "x[1]*?", "ü %20 {a}"]):
        columns = {odd: pa.array([number]), "select": pa.array(["x"])}
        file = write(tmp_path / folder / "f.parquet", columns, {odd: 1, "select": 2})
        files.append(file)
    files.append(DataFile("file://" + files[0].path, 1, 1))
    wanted = Schema((Column(odd, parse_type("long"), True, 1), Column("select", parse_type("string"), True, 2)))
    assert rows_in(engine, wanted, *files) == [{odd: n, "select": "x"} for n in (0, 1, 2, 0)]


def test_system_columns_show_when_asked_for(engine: FrameEngine, tmp_path: Path) -> None:
    """A join of two tables must not put one's `_batch_id` among the user's columns."""
    loaded = pa.array([datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    columns = {"a": pa.array([1]), BATCH_ID: pa.array([7]), LOADED_AT: loaded}
    file = write(tmp_path / "a.parquet", columns, {"a": 1, BATCH_ID: 2, LOADED_AT: 3})
    wanted = Schema((*SYSTEM.columns, Column(LOADED_AT, parse_type("timestamptz"), True, 3)))
    scan = Scan(NAME, wanted, (file,))
    assert read(engine, scan, Frame.of(Input("t"))) == [{"a": 1}]
    assert list(read(engine, scan, Frame.of(Input("t", system_columns=True)))[0]) == ["a", BATCH_ID, LOADED_AT]


def test_a_batch_joins_the_whole_table(engine: FrameEngine, tmp_path: Path) -> None:
    """Inputs of one name and two scopes are two inputs."""
    files = (numbers(tmp_path / "a.parquet", [1, 2], [7, 7], 7), numbers(tmp_path / "b.parquet", [3], [8], 8))
    f, whole = Frame.of(Input("t")), Frame.of(Input("t", "whole"))
    inputs = {"t": Scan(NAME, SYSTEM, files, None, 8), "whole(t)": Scan(NAME, SYSTEM, files)}
    with engine.batches(f.join(whole.with_columns(b=col("a") + 1), on={"a": "b"}, how="right"), inputs) as reader:
        assert reader.read_all().to_pylist() == [{"a": 1, "b": 2}, {"a": 2, "b": 3}, {"a": 3, "b": 4}]
    with pytest.raises(UnknownName), engine.batches(f, {"whole(t)": inputs["t"]}):
        pass


def test_columns_are_told_without_reading_rows(engine: FrameEngine) -> None:
    wanted = Schema.of({"a": "int", "s": "string"})
    f = concat(Frame.of(Input("t")), Frame.of(Input("u"))).with_columns(b=col("a") * 1.5)
    found = engine.columns(f, {"t": wanted, "u": Schema.of({"a": "long"})})
    assert found == Schema.of({"a": "long", "s": "string", "b": "double"})


def test_functions_see_each_row_of_a_scan_once(engine: FrameEngine, tmp_path: Path) -> None:
    files = tuple(numbers(tmp_path / f"{n}.parquet", range(n * 1000, (n + 1) * 1000), [1] * 1000) for n in range(3))
    seen: list[int] = []

    def note(row: Mapping[str, Any]) -> Mapping[str, Any]:
        seen.append(row["a"])
        return row

    f = Frame.of(Input("t")).map_rows(note).group_by(odd=col("a") % 2 == 1).agg(n=agg.count())
    assert read(engine, Scan(NAME, SYSTEM, files), f) == [{"odd": False, "n": 1500}, {"odd": True, "n": 1500}]
    assert seen == list(range(3000))


# Of the Polars engine


def test_footers_are_read_once(tmp_path: Path) -> None:
    """Data files never change: a second scan of the same files opens none for its columns."""
    opened: list[str] = []

    def open_file(path: str) -> BinaryIO:
        opened.append(path)
        return open(path, "rb")

    engine = PolarsEngine(open_file=open_file)
    files = tuple(numbers(tmp_path / f"{n}.parquet", [n], [1]) for n in range(3))
    for _ in range(2):
        assert [r["a"] for r in rows_in(engine, SYSTEM, *files)] == [0, 1, 2]
    assert sorted(opened) == sorted(file.path for file in files)


MEASURE = """
import resource, sys
from datetime import timedelta
import polars as pl, pyarrow as pa
from polars import col
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model.frame import Frame, Input
from tidemill.model.table import Column, DataFile, Scan, Schema, TableName
from tidemill.model.types import parse_type

kind, *paths = sys.argv[1:]
columns = Schema(tuple(Column(n, parse_type(t), True, i) for i, (n, t) in enumerate(
    [("id", "long"), ("x", "double"), ("s", "string"), ("added", "string")], 1)))
scan = Scan(TableName("a", "b"), columns, tuple(DataFile(p, 0, 0) for p in paths))
f = Frame.of(Input("t")).filter(col("x") >= 0).with_columns(y=col("x") * 3.6, s2=col("s") + "!").drop("x")
if kind == "rows":
    f = f.map_rows(lambda r: r, adds={})
with PolarsEngine().batches(f, {"t": scan}) as reader:
    rows = sum(batch.num_rows for batch in reader)
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def measure(kind: str, files: Sequence[DataFile]) -> tuple[int, int]:
    """Rows and peak memory (MB) of a stateless frame in a process of its own."""
    command = [sys.executable, "-c", MEASURE, kind, *(f.path for f in files)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(printed[0]), int(printed[1])


@pytest.mark.parametrize("kind", ["columns", "rows"])
def test_memory_does_not_grow_with_the_number_of_rows(kind: str, tmp_path: Path) -> None:
    """2M rows in 20 files (200 MB as columns; a tenth of the rows where Python sees each) take as much as 0.2M."""
    per_file = 100_000 if kind == "columns" else 10_000
    numbers_ = pa.array(range(per_file))
    columns = {
        "id": numbers_,
        "x": numbers_.cast(pa.float64()),
        "s": pa.array([f"{i:060d}" for i in range(per_file)]),
    }
    files = [write(tmp_path / f"{n}.parquet", columns, {"id": 1, "x": 2, "s": 3}) for n in range(20)]
    few_rows, few = measure(kind, files[:4])
    all_rows, peak = measure(kind, files)
    assert (few_rows, all_rows) == (4 * per_file, 20 * per_file)
    assert peak < few + 60, f"{few} MB for {few_rows} rows, {peak} MB for {all_rows}"
