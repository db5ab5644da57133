"""Conformance of the port `catalog`: one test a promise. Rows are read back by DuckDB from nothing but a `Scan`."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import StaticTable

from tidemill.adapters.iceberg.catalog import IcebergCatalog
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.model.branch import ChangeKind, StagedFile, TableChange
from tidemill.model.errors import Conflict, ContractError, DefinitionError, Refused, UnknownName
from tidemill.model.table import Partition, Scan, Schema, TableName, TableSpec, WriteMode
from tidemill.model.types import Decimal, List, Map, Struct, Type
from tidemill.ports.files import Files

NAME = TableName("bronze", "flights")
START = datetime(2013, 1, 1, tzinfo=UTC)
PLAIN = {"id": "long", "v": "string", "_batch_id": "long"}


class StillClock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Lake:
    """A catalog, and the few steps that most tests take."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.clock = StillClock()
        self.catalog = IcebergCatalog(files, self.clock)

    def create(self, columns: dict[str, str] = PLAIN, name: TableName = NAME, **spec: Any) -> str:
        return self.catalog.create(TableSpec(name, **spec), Schema.of(columns))

    def stage(self, pointer: str, rows: Any, batch: int | None = None) -> tuple[StagedFile, ...]:
        with self.catalog.writer(NAME, pointer, batch_id=batch) as writer:
            writer.write(rows if isinstance(rows, pa.Table) else table(rows, batch))
            return writer.finish()

    def append(self, pointer: str, rows: Any, batch: int | None = None, remove: Iterable[str] = ()) -> str:
        staged = self.stage(pointer, rows, batch)
        change = TableChange(ChangeKind.BATCH, staged, tuple(remove), batch_id=batch, attempt=1)
        return self.catalog.commit(NAME, pointer, change)

    def paths(self, pointer: str, batch: int | None = None) -> tuple[str, ...]:
        return tuple(f.path for f in self.catalog.scan(NAME, pointer, batch_id=batch).files)

    def read(self, pointer: str, batch: int | None = None) -> list[dict[str, Any]]:
        return read(self.catalog.scan(NAME, pointer, batch_id=batch))

    def ids(self, pointer: str) -> list[int]:
        return [row["id"] for row in self.read(pointer)]


def table(rows: Sequence[Any], batch: int | None = None) -> pa.Table:
    """Rows as an Arrow table: dictionaries, or bare ids."""
    full = [row if isinstance(row, dict) else {"id": row, "v": f"v{row}"} for row in rows]
    if batch is not None:
        full = [{"_batch_id": batch, **row} for row in full]
    return pa.Table.from_pylist(full)


DUCKDB_TYPES = {
    "boolean": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "date": "DATE",
    "time": "TIME", "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ", "string": "VARCHAR", "binary": "BLOB",
    "uuid": "UUID", "unknown": "VARCHAR",
}  # fmt: skip


def duckdb_type(kind: Type) -> str:
    match kind:
        case Struct(fields):
            return "STRUCT(" + ", ".join(f'"{n}" {duckdb_type(t)}' for n, t in fields) + ")"
        case List(element):
            return duckdb_type(element) + "[]"
        case Map(key, value):
            return f"MAP({duckdb_type(key)}, {duckdb_type(value)})"
        case Decimal(precision, scale):
            return f"DECIMAL({precision}, {scale})"
    return DUCKDB_TYPES[kind.name]


ENGINE = duckdb.connect()
ENGINE.execute("SET TimeZone = 'UTC'")


def read(scan: Scan) -> list[dict[str, Any]]:
    """The rows of a scan as DuckDB reads them: files and field ids, nothing else."""
    assert not scan.nested_by_id_only
    if not scan.files:
        return []
    columns = ", ".join(
        f"{c.field_id}: {{name: '{c.name}', type: '{duckdb_type(c.type)}', default_value: NULL}}" for c in scan.schema
    )
    where = f'WHERE "_batch_id" = {scan.batch_id}' if scan.batch_id is not None else ""
    files = [f.path for f in scan.files]
    found = ENGINE.sql(f"SELECT * FROM read_parquet({files!r}, schema=MAP {{{columns}}}) {where}")
    # Through Arrow: fetchall() needs pytz for times with a zone.
    rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist()
    return rows


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalFiles(tmp_path / "lake"))


@pytest.fixture(params=["localfs", "memory"])
def any_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on either kind of files, for what needs no engine."""
    return Lake(LocalFiles(tmp_path / "lake") if request.param == "localfs" else MemoryFiles())


# create, load


def test_create_writes_one_empty_version_below_its_own_folder(any_lake: Lake) -> None:
    pointer = any_lake.create({"id": "long not null", "v": "string"}, doc="All flights.")
    version = any_lake.catalog.load(NAME, pointer)
    assert [str(c) for c in version.schema] == ["id long not null", "v string"]
    assert [c.field_id for c in version.schema] == [1, 2]
    assert (version.snapshot_id, version.rows, version.committed_at, version.pointer) == (None, 0, None, pointer)
    (path,) = [info.path for info in any_lake.files.list()]
    assert any_lake.files.url(path) == pointer
    assert re.fullmatch(r"bronze/flights-[0-9a-f]{8}/metadata/00000-[0-9a-f-]{36}\.metadata\.json", path)
    assert version.uuid.startswith(path.split("/")[1].removeprefix("flights-"))
    assert version.properties["gc.enabled"] == "false"
    assert version.properties["write.metadata.delete-after-commit.enabled"] == "false"
    assert version.properties["tidemill.write"] == "append"
    assert version.properties["comment"] == "All flights."
    assert any_lake.catalog.scan(NAME, pointer).files == ()
    assert any_lake.catalog.history(NAME, pointer) == []


def test_create_gives_the_same_ids_to_the_same_columns(any_lake: Lake) -> None:
    columns = {"a": "struct<x:long,y:list<struct<z:string>>>", "b": "map<string,int>", "_batch_id": "long"}
    scans = [any_lake.catalog.scan(NAME, any_lake.create(columns)) for _ in range(2)]
    assert scans[0].schema == scans[1].schema
    assert scans[0].nested_ids == scans[1].nested_ids
    ids = [c.field_id for c in scans[0].schema] + [number for _, number in scans[0].nested_ids]
    assert sorted(ids) == list(range(1, 10))
    assert dict(scans[0].nested_ids).keys() >= {("a", "y", "element", "z"), ("b", "key"), ("b", "value")}


def test_create_keeps_partition_and_sort_as_declared(any_lake: Lake) -> None:
    partition = ("day(at)", "bucket(16, id)", "truncate(4, v)", "country")
    columns = {"id": "long", "at": "timestamptz", "v": "string", "country": "string", "at_day": "long"}
    declared = tuple(Partition.parse(text) for text in partition)
    pointer = any_lake.create(columns, partition=declared, sort=("at", "id"))
    version = any_lake.catalog.load(NAME, pointer)
    assert version.partition == partition
    assert version.sort == ("at", "id")


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ({"partition": (Partition.parse("day(att)"),)}, UnknownName),
        ({"partition": (Partition.parse("day(v)"),)}, DefinitionError),
        ({"partition": (Partition.parse("tags"),)}, DefinitionError),
        ({"sort": ("idd",)}, UnknownName),
        ({"sort": ("tags",)}, DefinitionError),
    ],
)
def test_create_refuses_layouts_that_do_not_fit(lake: Lake, spec: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        lake.create({"id": "long", "at": "timestamp", "v": "string", "tags": "list<string>"}, **spec)
    assert list(lake.files.list()) == []


def test_create_refuses_columns_that_differ_only_in_case(lake: Lake) -> None:
    columns = [*Schema.of({"id": "long"}), *Schema.of({"ID": "long"})]
    with pytest.raises(DefinitionError):
        lake.catalog.create(TableSpec(NAME), Schema(tuple(columns)))


def test_load_raises_for_a_pointer_to_nothing(any_lake: Lake) -> None:
    with pytest.raises(FileNotFoundError):
        any_lake.catalog.load(NAME, any_lake.files.url("bronze/x/metadata/0.metadata.json"))


# writer


EVERY_TYPE = {
    "boolean": ("boolean", True), "int": ("int", -7), "long": ("long", 2**40), "float": ("float", 1.5),
    "double": ("double", 0.1), "decimal": ("decimal(38,9)", Number("-1.000000001")), "date": ("date", date(1969, 1, 2)),
    "timestamp": ("timestamp", datetime(1912, 3, 4, 5, 6, 7, 8)), "string": ("string", "リミニ" * 9),
    "timestamptz": ("timestamptz", START), "binary": ("binary", b"\0\xff" * 20), "list": ("list<list<int>>", [[1], []]),
    "struct": ("struct<a:long,b:struct<c:string>>", {"a": 1, "b": {"c": "x"}}), "map": ("map<string,long>", [("k", 1)]),
    "time": ("time", datetime(1, 1, 1, 12, 30, 0, 5).time()),
}  # fmt: skip


def test_writer_keeps_values_of_every_type_and_nulls(lake: Lake) -> None:
    pointer = lake.create(
        {"id": "long", **{name: kind for name, (kind, _) in EVERY_TYPE.items()}, "unknown": "unknown"}
    )
    values = {name: value for name, (_, value) in EVERY_TYPE.items()}
    schema = pa.schema([("id", pa.int64()), *[(n, pa.array([v]).type) for n, v in values.items() if n != "map"]])
    schema = schema.append(pa.field("map", pa.map_(pa.string(), pa.int64())))
    rows = pa.Table.from_pylist([{"id": 1, **values}, {"id": 2}], schema=schema)
    pointer = lake.append(pointer, rows)
    nothing = dict.fromkeys(EVERY_TYPE)
    assert lake.read(pointer) == [{"id": 1, **values, "unknown": None}, {"id": 2, **nothing, "unknown": None}]


def test_writer_matches_columns_by_name_and_casts_safely(lake: Lake) -> None:
    pointer = lake.create({"id": "long", "v": "string", "x": "double", "s": "struct<a:long,b:string>"})
    data = pa.table(
        {
            "s": pa.array([{"b": "q", "a": 1}], pa.struct([("b", pa.string()), ("a", pa.int8())])),
            "x": pa.array([3], pa.int16()),
            "v": pa.array(["a"]).dictionary_encode(),
            "id": pa.array([7], pa.int32()),
        }
    )
    with lake.catalog.writer(NAME, pointer, batch_id=None) as writer:
        writer.write(data)
        writer.write(pa.RecordBatch.from_pylist([{"id": 8}]))
        staged = writer.finish()
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged))
    assert lake.read(pointer) == [
        {"id": 7, "v": "a", "x": 3.0, "s": {"a": 1, "b": "q"}},
        {"id": 8, "v": None, "x": None, "s": None},
    ]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ({"id": [1], "surplus": [1]}, "surplus"),
        ({"id": [1], "s": [{"a": 1, "z": 2}]}, "s.z"),
        ({"id": ["1"]}, "id"),
        ({"id": [None], "v": ["x"]}, "id"),
        ({"id": [1], "v": [5]}, "v"),
        ({"id": [1.5]}, "id"),
        ({"id": [1], "small": [2**31]}, "small"),
        ({"id": [1], "at": [datetime(2013, 1, 1)]}, "at"),
        ({"v": ["no id at all"]}, "id"),
    ],
)
def test_writer_refuses_what_would_be_lost(lake: Lake, rows: dict[str, Any], named: str) -> None:
    columns = {"id": "long not null", "v": "string", "small": "int", "s": "struct<a:long>", "at": "timestamptz"}
    pointer = lake.create(columns)
    with pytest.raises(ContractError, match=f'"{re.escape(named)}"'):
        lake.stage(pointer, pa.table(rows))
    assert not [info.path for info in lake.files.list() if info.path.endswith(".parquet")]


def test_writer_refuses_rows_of_another_batch(lake: Lake) -> None:
    pointer = lake.create()
    with pytest.raises(Refused, match="batch 7"):
        lake.stage(pointer, table([{"id": 1, "_batch_id": 8}]), 7)
    with pytest.raises(Refused, match="batch 7"):
        lake.stage(pointer, pa.table({"id": [1]}), 7)


def test_writer_without_finish_leaves_no_visible_file(any_lake: Lake) -> None:
    pointer = any_lake.create()
    with any_lake.catalog.writer(NAME, pointer, batch_id=None) as writer:
        writer.write(table([1]))

    def interrupted() -> None:
        with any_lake.catalog.writer(NAME, pointer, batch_id=None) as writer:
            writer.write(table([1]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(list(any_lake.files.list())) == 1


def test_writer_that_is_finished_takes_no_more(any_lake: Lake) -> None:
    with any_lake.catalog.writer(NAME, any_lake.create(), batch_id=None) as writer:
        assert writer.finish() == ()
        with pytest.raises(Refused):
            writer.write(table([1]))


def test_writer_keeps_the_order_of_rows_and_cuts_files_at_their_target(lake: Lake) -> None:
    pointer = lake.create()
    target = {"write.target-file-size-bytes": str(1 << 20)}
    pointer = lake.catalog.evolve(NAME, pointer, Schema(), properties=target)
    noise = random.Random(1)
    rows = pa.table(
        {"id": range(600_000), "v": [f"{noise.random()}" for _ in range(600_000)], "_batch_id": [4] * 600_000}
    )
    staged = lake.stage(pointer, rows, 4)
    assert len(staged) == 3, "one file for each row group of 262,144 rows, for each is over a megabyte"
    assert all(pq.read_metadata(f.path).num_row_groups == 1 for f in staged)
    assert [f.rows for f in staged] == [262_144, 262_144, 75_712]
    assert all(f.batch_id == 4 and f.bytes == Path(f.path).stat().st_size for f in staged)
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged, batch_id=4))
    assert lake.ids(pointer) == list(range(600_000))


def test_writer_gives_each_partition_files_of_its_own_in_order(lake: Lake) -> None:
    pointer = lake.create(
        {"id": "long", "at": "timestamptz", "v": "string"}, partition=tuple(map(Partition.parse, ["day(at)", "v"]))
    )
    days = [START, START + timedelta(days=1), None]
    rows = [{"id": i, "at": days[i % 3], "v": "ab"[i % 2]} for i in range(60)]
    staged = lake.stage(pointer, pa.Table.from_pylist(rows))
    assert len(staged) == 6
    for file in staged:
        held = pq.read_table(file.path).to_pylist()
        assert len({(r["at"], r["v"]) for r in held}) == 1
        assert [r["id"] for r in held] == sorted(r["id"] for r in held)
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged))
    assert sorted(lake.ids(pointer)) == list(range(60))
    plain = StaticTable.from_metadata(pointer).inspect.partitions().to_pylist()
    assert {(p["partition"]["at_day"], p["partition"]["v"]) for p in plain} == {
        (day.date() if day else None, letter) for day in days for letter in "ab"
    }


def test_writer_sorts_row_groups_and_says_so(lake: Lake) -> None:
    pointer = lake.create(sort=("v", "id"))
    rows = [{"id": i, "v": v} for i, v in [(3, "b"), (1, "b"), (9, None), (2, "a")]]
    pointer = lake.append(pointer, rows, 1)
    assert lake.ids(pointer) == [9, 2, 1, 3]
    (file,) = StaticTable.from_metadata(pointer).scan().plan_files()
    assert file.file.sort_order_id == 1


def test_writer_bounds_open_files_however_many_partitions(lake: Lake) -> None:
    pointer = lake.create(partition=(Partition.parse("id"),))
    staged = lake.stage(pointer, list(range(200)), 1)
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged, batch_id=1))
    assert sorted(lake.ids(pointer)) == list(range(200))
    assert len(staged) == 200


# commit, scan


def test_commit_adds_rows_and_leaves_the_old_version_alone(lake: Lake) -> None:
    first = lake.append(lake.create(), [1, 2], 1)
    second = lake.append(first, [3], 2)
    assert lake.ids(first) == [1, 2]
    assert lake.ids(second) == [1, 2, 3]
    version = lake.catalog.load(NAME, second)
    assert (version.rows, version.pointer) == (3, second)
    assert version.committed_at is not None
    assert version.committed_at > START, "times go on even where the clock stands still"


def test_commit_only_adds_files(lake: Lake) -> None:
    pointer = lake.append(lake.create(), [1], 1)
    before = {i.path: lake.files.open(i.path).read() for i in lake.files.list()}
    pointer = lake.append(pointer, [2], 2, remove=lake.paths(pointer))
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of({"w": "long"}))
    lake.catalog.compact(NAME, pointer, 1 << 20)
    after = {i.path: lake.files.open(i.path).read() for i in lake.files.list()}
    assert {path: after[path] for path in before} == before


def test_commit_replaces_the_files_of_a_batch(lake: Lake) -> None:
    pointer = lake.append(lake.append(lake.create(), [1, 2], 1), [3], 2)
    pointer = lake.append(pointer, [10, 20], 1, remove=lake.paths(pointer, 1))
    assert sorted(lake.ids(pointer)) == [3, 10, 20]
    last = lake.catalog.history(NAME, pointer)[-1]
    assert (last.operation, last.kind, last.batch_id) == ("overwrite", "batch", 1)
    assert (last.rows, last.added_rows, last.removed_rows) == (3, 2, 2)


def test_commit_that_only_removes_leaves_the_rest(lake: Lake) -> None:
    pointer = lake.append(lake.append(lake.create(), [1, 2], 1), [3], 2)
    change = TableChange(ChangeKind.BATCH, remove=lake.paths(pointer, 1), batch_id=1)
    pointer = lake.catalog.commit(NAME, pointer, change)
    assert lake.ids(pointer) == [3]
    assert lake.catalog.history(NAME, pointer)[-1].operation == "delete"


def test_commit_conflicts_where_a_file_to_remove_is_gone(lake: Lake) -> None:
    first = lake.append(lake.create(), [1], 1)
    second = lake.append(first, [2], 1, remove=lake.paths(first))
    with pytest.raises(Conflict):
        lake.append(second, [3], 1, remove=lake.paths(first))


def test_commit_sets_properties_and_a_change_of_nothing_is_nothing(lake: Lake) -> None:
    pointer = lake.append(lake.create(), [1], 1)
    assert lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH)) == pointer
    change = TableChange(ChangeKind.BATCH, properties=(("tidemill.order", "at"),))
    changed = lake.catalog.commit(NAME, pointer, change)
    assert lake.catalog.load(NAME, changed).properties["tidemill.order"] == "at"
    assert lake.catalog.commit(NAME, changed, change) == changed
    assert len(lake.catalog.history(NAME, changed)) == 1


def test_commit_refuses_files_of_another_table_and_files_staged_twice(lake: Lake) -> None:
    pointer, other = lake.create(), lake.create({"v": "string", "id": "long"})
    stranger = lake.stage(other, [{"id": 1}])
    with pytest.raises(Refused, match="not written for"):
        lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, stranger))
    own = lake.stage(pointer, [1], 1)
    with pytest.raises(Refused, match="twice"):
        lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, own + own))


def test_files_staged_before_a_column_was_added_still_fit(lake: Lake) -> None:
    pointer = lake.create({"id": "int"})
    staged = lake.stage(pointer, [{"id": 1}])
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of({"id": "long", "w": "string"}))
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged))
    assert lake.read(pointer) == [{"id": 1, "w": None}]


def test_another_process_commits_what_one_staged(lake: Lake) -> None:
    pointer = lake.create(partition=(Partition.parse("bucket(4, id)"),))
    staged = lake.stage(pointer, list(range(20)), 3)
    fresh = IcebergCatalog(lake.files, lake.clock)
    pointer = fresh.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged, batch_id=3))
    assert sorted(lake.ids(pointer)) == list(range(20))
    assert {f.batch_id for f in fresh.scan(NAME, pointer).files} == {3}


def test_scan_gives_files_in_the_order_of_commits_with_rows_bytes_and_batch(lake: Lake) -> None:
    pointer = lake.create()
    for batch in range(1, 31):  # enough for manifests to be joined three times
        pointer = lake.append(pointer, [batch, -batch], batch)
    files = lake.catalog.scan(NAME, pointer).files
    assert [f.batch_id for f in files] == list(range(1, 31))
    assert all(f.rows == 2 and f.bytes == Path(f.path).stat().st_size for f in files)
    assert lake.ids(pointer) == [sign * batch for batch in range(1, 31) for sign in (1, -1)]


def test_scan_of_a_batch_reads_only_files_that_can_hold_it(lake: Lake) -> None:
    pointer = lake.create()
    for batch in (1, 2, 3):
        pointer = lake.append(pointer, [batch * 10], batch)
    mixed = [{"id": 11, "_batch_id": 1}, {"id": 31, "_batch_id": 3}, {"id": 5, "_batch_id": None}]
    pointer = lake.append(pointer, mixed)
    scan = lake.catalog.scan(NAME, pointer, batch_id=1)
    assert [f.batch_id for f in scan.files] == [1, None]
    assert [r["id"] for r in read(scan)] == [10, 11]
    assert [r["id"] for r in lake.read(pointer, 2)] == [20]
    assert [f.batch_id for f in lake.catalog.scan(NAME, pointer, batch_id=2).files] == [2, None], "2 is between 1 and 3"


def test_scan_reads_earlier_snapshots_with_their_columns(lake: Lake) -> None:
    pointer = lake.append(lake.create(), [1], 1)
    snapshot = lake.catalog.load(NAME, pointer).snapshot_id
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of({"w": "long"}), drop=["v"])
    pointer = lake.append(pointer, [{"id": 2, "w": 5}], 2)
    old = lake.catalog.scan(NAME, pointer, snapshot_id=snapshot)
    assert read(old) == [{"id": 1, "v": "v1", "_batch_id": 1}]
    assert [r["w"] for r in lake.read(pointer)] == [None, 5]
    with pytest.raises(UnknownName):
        lake.catalog.scan(NAME, pointer, snapshot_id=12345)


def test_history_tells_snapshots_oldest_first(any_lake: Lake) -> None:
    pointer = any_lake.create()
    for batch in (1, 2):
        pointer = any_lake.append(pointer, [batch], batch)
        any_lake.clock.sleep(60)
    first, second = any_lake.catalog.history(NAME, pointer)
    assert (first.batch_id, first.kind, first.operation, first.rows, first.added_rows) == (1, "batch", "append", 1, 1)
    assert (second.batch_id, second.rows) == (2, 2)
    assert second.committed_at - first.committed_at >= timedelta(seconds=59)


def counted(lake: Lake) -> tuple[int, int, int]:
    """Files and bytes in the lake, the data apart, and the size of the newest metadata."""
    infos = [i for i in lake.files.list() if not i.path.endswith(".parquet")]
    newest = max((i for i in infos if i.path.endswith(".json")), key=lambda i: i.path)
    return len(infos), sum(i.bytes for i in infos), newest.bytes


def test_the_cost_of_a_commit_does_not_grow(lake: Lake) -> None:
    """Three files a commit, and bytes that follow the number of kept snapshots, not that of commits."""
    pointer = lake.create()
    costs: list[tuple[int, int, int]] = []
    before = counted(lake)
    for batch in range(1, 261):
        pointer = lake.append(pointer, [batch], batch)
        if batch % 20 == 0:
            now = counted(lake)
            costs.append((now[0] - before[0], now[1] - before[1], now[2]))
            before = now
    assert {files for files, _, _ in costs} == {60}
    full = costs[5:]  # from the 100th commit on
    assert max(written for _, written, _ in full) < 1.5 * min(written for _, written, _ in full)
    assert max(size for _, _, size in full) < 1.1 * min(size for _, _, size in full)
    manifests = StaticTable.from_metadata(pointer).inspect.manifests()
    assert len(manifests) <= 18
    assert len(lake.catalog.history(NAME, pointer)) == 100
    assert sorted(lake.ids(pointer)) == list(range(1, 261))


def test_removing_reads_only_manifests_that_can_hold_the_file(lake: Lake) -> None:
    pointer = lake.create({"id": "long", "day": "date"}, partition=(Partition.parse("day"),))
    days = [date(2013, 1, 1) + timedelta(days=n) for n in range(6)]
    for n, day in enumerate(days):
        pointer = lake.append(pointer, [{"id": n, "day": day}])
    opened: list[str] = []

    class Watched(LocalFiles):
        def open(self, path: str) -> Any:
            opened.append(path)
            return super().open(path)

    fresh = IcebergCatalog(Watched(lake.files.url("x").removesuffix("/x")), lake.clock)
    wanted = [f.path for f in fresh.scan(NAME, pointer).files][2]
    everything = [path for path in opened if path.endswith("m0.avro")]
    opened.clear()
    fresh = IcebergCatalog(Watched(lake.files.url("x").removesuffix("/x")), lake.clock)
    pointer = fresh.commit(NAME, pointer, TableChange(ChangeKind.BATCH, remove=(wanted,)))
    assert len(everything) == 6
    assert len([path for path in opened if path.endswith("m0.avro")]) == 1
    assert lake.ids(pointer) == [0, 1, 3, 4, 5]


# evolve


def test_evolved_tables_read_right_from_old_and_new_files(lake: Lake) -> None:
    """Added, renamed, dropped and widened columns, and a name that comes back with another meaning."""
    pointer = lake.create({"id": "int", "v": "string", "gone": "string", "f": "float", "d": "decimal(5,2)"})
    pointer = lake.append(pointer, [{"id": 1, "v": "a", "gone": "secret", "f": 0.5, "d": Number("1.25")}])
    pointer = lake.catalog.evolve(
        NAME, pointer, Schema.of({"id": "long", "new": "long", "f": "double", "d": "decimal(9,2)"})
    )
    pointer = lake.catalog.evolve(NAME, pointer, Schema(), drop=["gone"], rename={"v": "w"})
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of({"gone": "long", "v": "string"}))
    row = {"id": 2**40, "w": "b", "f": 1e300, "d": Number("1234567.25"), "new": 5, "gone": 6, "v": "again"}
    pointer = lake.append(pointer, [row])
    old = {"id": 1, "w": "a", "f": 0.5, "d": Number("1.25"), "new": None, "gone": None, "v": None}
    assert lake.read(pointer) == [old, row]
    assert [str(c.type) for c in lake.catalog.load(NAME, pointer).schema] == [
        "long", "string", "double", "decimal(9,2)", "long", "long", "string",
    ]  # fmt: skip
    assert plain_rows(pointer) == in_any_order([old, row])


def test_nested_columns_evolve_too(lake: Lake) -> None:
    pointer = lake.create({"s": "struct<a:int,b:string>", "l": "list<struct<x:int>>", "m": "map<string,struct<k:int>>"})
    old = {"s": {"a": 1, "b": "q"}, "l": [{"x": 1}], "m": [("p", {"k": 1})]}
    pointer = lake.append(pointer, mapped([old]))
    wanted = {
        "s": "struct<c:struct<d:long>,a:long>",
        "l": "list<struct<x:long,y:string>>",
        "m": "map<string,struct<k:long,n:string>>",
    }
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of(wanted))
    new = {
        "s": {"a": 2**40, "b": "r", "c": {"d": 5}},
        "l": [{"x": 2, "y": "z"}, None],
        "m": [("q", {"k": 2, "n": "n"})],
    }
    pointer = lake.append(pointer, mapped([new]))
    expected = {"s": {"a": 1, "b": "q", "c": None}, "l": [{"x": 1, "y": None}], "m": [("p", {"k": 1, "n": None})]}
    assert lake.read(pointer) == [expected, new]
    assert plain_rows(pointer) == in_any_order([expected, new])


def mapped(rows: list[dict[str, Any]]) -> pa.Table:
    """A table whose column `m` is a map."""
    value = pa.array([v for row in rows for _, v in row["m"]]).type
    maps = pa.array([row["m"] for row in rows], pa.map_(pa.string(), value))
    return pa.Table.from_pylist([{k: v for k, v in row.items() if k != "m"} for row in rows]).append_column("m", maps)


def plain_rows(pointer: str) -> list[dict[str, Any]]:
    """The rows as plain PyIceberg reads them, in any order: it starts with the newest."""
    rows: list[dict[str, Any]] = StaticTable.from_metadata(pointer).scan().to_arrow().to_pylist()
    return in_any_order(rows)


def in_any_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=repr)


def test_a_column_without_values_takes_any_type_later(lake: Lake) -> None:
    pointer = lake.create({"id": "long", "x": "unknown", "l": "list<unknown>", "s": "struct<u:unknown,k:long>"})
    first = {"id": 1, "l": [], "s": {"u": None, "k": 1}}
    pointer = lake.append(
        pointer,
        pa.Table.from_pylist(
            [first],
            schema=pa.schema(
                [
                    ("id", pa.int64()),
                    ("l", pa.list_(pa.null())),
                    ("s", pa.struct([("u", pa.null()), ("k", pa.int64())])),
                ]
            ),
        ),
    )
    assert [str(c.type) for c in lake.catalog.load(NAME, pointer).schema] == [
        "long", "unknown", "list<unknown>", "struct<u:unknown,k:long>",
    ]  # fmt: skip
    assert lake.catalog.evolve(NAME, pointer, Schema.of({"x": "unknown", "l": "list<unknown>"})) == pointer
    wanted = {"x": "double", "l": "list<struct<a:long>>", "s": "struct<u:list<string>>"}
    pointer = lake.catalog.evolve(NAME, pointer, Schema.of(wanted))
    second = {"id": 2, "x": 0.5, "l": [{"a": 1}], "s": {"u": ["z"], "k": 2}}
    pointer = lake.append(pointer, [second])
    assert lake.catalog.load(NAME, pointer).schema.names == ("id", "x", "l", "s")
    expected = [{"id": 1, "x": None, "l": None, "s": {"u": None, "k": 1}}, second]
    assert lake.read(pointer) == expected
    assert plain_rows(pointer) == in_any_order(expected)


def test_evolve_gives_back_the_pointer_where_nothing_changes(any_lake: Lake) -> None:
    pointer = any_lake.create(
        {"id": "long", "d": "decimal(20,4)", "s": "struct<a:double>", "x": "double", "v": "string"}
    )
    for narrower in (
        {}, {"id": "int"}, {"s": "struct<a:float>"}, {"x": "long"}, {"d": "decimal(10,2)"}, {"d": "long"},
        {"v": "unknown"}, {"s": "unknown"},
    ):  # fmt: skip
        assert any_lake.catalog.evolve(NAME, pointer, Schema.of(narrower)) == pointer
    assert any_lake.catalog.evolve(NAME, pointer, Schema(), properties={"gc.enabled": "false"}) == pointer


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"id": "string"}, '"id" of table "bronze.flights" is long and cannot become string'),
        ({"id": "double"}, "long and cannot become double"),
        ({"v": "long"}, "string and cannot become long"),
        ({"s": "struct<a:struct<b:string>>"}, '"s.a.b" .* is long and cannot become string'),
        ({"s": "long"}, "cannot become long"),
        ({"l": "list<string>"}, '"l.element"'),
        ({"d": "decimal(12,3)"}, "decimal"),
        ({"d": "decimal(38,0)"}, "decimal"),
        ({"at": "timestamptz"}, "timestamp and cannot become timestamptz"),
        ({"ID": "long"}, "differs from it only in case"),
    ],
)
def test_evolve_refuses_what_iceberg_does_not_allow(lake: Lake, wanted: dict[str, str], message: str) -> None:
    pointer = lake.create(
        {
            "id": "long",
            "v": "string",
            "s": "struct<a:struct<b:long>>",
            "l": "list<int>",
            "d": "decimal(10,2)",
            "at": "timestamp",
        }
    )
    with pytest.raises(ContractError, match=message):
        lake.catalog.evolve(NAME, pointer, Schema.of(wanted))


def test_evolve_checks_names_and_keeps_columns_that_the_layout_needs(lake: Lake) -> None:
    pointer = lake.create(partition=(Partition.parse("bucket(4, id)"),), sort=("v",))
    for drop in (["id"], ["v"]):
        with pytest.raises(ContractError, match="partitioned or sorted"):
            lake.catalog.evolve(NAME, pointer, Schema(), drop=drop)
    for wrong in ({"drop": ["idd"]}, {"rename": {"idd": "x"}}):
        with pytest.raises(UnknownName, match="idd"):
            lake.catalog.evolve(NAME, pointer, Schema(), **wrong)
    with pytest.raises(ContractError, match="two columns"):
        lake.catalog.evolve(NAME, pointer, Schema(), rename={"id": "V"})
    renamed = lake.catalog.evolve(NAME, pointer, Schema(), rename={"id": "key"})
    assert lake.catalog.load(NAME, renamed).partition == ("bucket(4, key)",)
    assert lake.ids(lake.append(pointer, [1, 2, 3], 1)) != []


# difference


def test_difference_of_a_version_to_itself_is_empty(any_lake: Lake) -> None:
    pointer = any_lake.append(any_lake.create(), [1], 1)
    assert any_lake.catalog.difference(NAME, pointer, pointer).empty


def test_difference_tells_files_kinds_and_batches(any_lake: Lake) -> None:
    base = any_lake.append(any_lake.append(any_lake.create(), [1], 1), [2], 2)
    head = any_lake.append(base, [3], 3)
    head = any_lake.append(head, [20], 2, remove=any_lake.paths(base, 2))
    found = any_lake.catalog.difference(NAME, base, head)
    assert found.added == set(any_lake.paths(head)) - set(any_lake.paths(base))
    assert found.removed == set(any_lake.paths(base, 2))
    assert found.kinds == {ChangeKind.BATCH}
    assert found.batches == {2, 3}
    assert not found.schema_changed
    assert not found.layout_changed
    assert not found.empty


def test_difference_tells_other_kinds_and_changed_columns(any_lake: Lake) -> None:
    base = any_lake.append(any_lake.create(), [1], 1)
    head = any_lake.catalog.evolve(NAME, base, Schema.of({"w": "long"}))
    found = any_lake.catalog.difference(NAME, base, head)
    assert (found.schema_changed, found.kinds, found.added) == (True, frozenset(), frozenset())
    for kind in (ChangeKind.UPSERT, ChangeKind.REPLACE):
        staged = any_lake.stage(head, [5], 9)
        next_head = any_lake.catalog.commit(NAME, head, TableChange(kind, staged, any_lake.paths(head), batch_id=9))
        found = any_lake.catalog.difference(NAME, head, next_head)
        assert (found.kinds, found.batches) == ({kind}, frozenset())
        head = next_head


def test_difference_from_before_the_table_is_everything(any_lake: Lake) -> None:
    head = any_lake.append(any_lake.append(any_lake.create(), [1], 1), [2], 2)
    found = any_lake.catalog.difference(NAME, "", head)
    assert found.added == set(any_lake.paths(head))
    assert found.batches == {1, 2}
    assert found.schema_changed


def test_difference_of_dropped_snapshots_is_judged_by_files(tmp_path: Path) -> None:
    lake = Lake(LocalFiles(tmp_path))
    lake.catalog = IcebergCatalog(lake.files, lake.clock, snapshots_kept=3)
    base = head = lake.append(lake.create(), [0], 100)
    for batch in range(1, 8):
        head = lake.append(head, [batch], batch)
    assert len(lake.catalog.history(NAME, head)) == 3
    found = lake.catalog.difference(NAME, base, head)
    assert (found.kinds, found.batches) == ({ChangeKind.BATCH}, set(range(1, 8)))
    shrunk = lake.append(head, [70], 7, remove=lake.paths(head, 7))
    found = lake.catalog.difference(NAME, base, shrunk)
    assert found.removed == set(), "what came and went in between is no difference"
    shrunk = lake.append(shrunk, [71], 100, remove=lake.paths(head, 100))
    for batch in range(8, 12):
        shrunk = lake.append(shrunk, [batch], batch)
    assert ChangeKind.UPSERT in lake.catalog.difference(NAME, base, shrunk).kinds


def test_difference_reads_only_manifests_that_differ(lake: Lake) -> None:
    pointer = lake.create()
    for batch in range(3):
        pointer = lake.append(pointer, [batch], batch)
    head = lake.append(pointer, [100], 100)
    kept = {m["path"] for m in StaticTable.from_metadata(pointer).inspect.manifests().to_pylist()}
    shared = kept & {m["path"] for m in StaticTable.from_metadata(head).inspect.manifests().to_pylist()}
    fresh = IcebergCatalog(lake.files, lake.clock)
    for path in shared:
        Path(path).unlink()
    assert len(shared) == 3
    assert len(fresh.difference(NAME, pointer, head).added) == 1


# rebase


def fork(lake: Lake, **spec: Any) -> tuple[str, str, str]:
    """A base, and two versions on top of it that each appended a batch."""
    base = lake.append(lake.create(**spec), [1], 1)
    return base, lake.append(base, [2], 2), lake.append(base, [3], 3)


def test_rebase_puts_the_branch_on_top_without_rewriting_data(lake: Lake) -> None:
    base, branch, onto = fork(lake)
    before = {i.path for i in lake.files.list()}
    joined = lake.catalog.rebase(NAME, base, branch, onto)
    assert lake.ids(joined) == [1, 3, 2]
    written = {i.path for i in lake.files.list()} - before
    assert not [path for path in written if path.endswith(".parquet")]
    last = lake.catalog.history(NAME, joined)[-1]
    assert (last.kind, last.batch_id, last.operation) == ("batch", 2, "append")
    assert lake.catalog.difference(NAME, onto, joined).batches == {2}
    assert lake.catalog.difference(NAME, base, joined).batches == {2, 3}


def test_rebase_of_one_changed_side_takes_that_side(any_lake: Lake) -> None:
    base, branch, onto = fork(any_lake)
    assert any_lake.catalog.rebase(NAME, base, base, onto) == onto
    assert any_lake.catalog.rebase(NAME, base, branch, base) == branch
    assert any_lake.catalog.rebase(NAME, base, branch, branch) == branch


def test_rebase_removes_what_the_branch_removed(lake: Lake) -> None:
    base = lake.append(lake.append(lake.create(), [1], 1), [2], 2)
    branch = lake.append(base, [20], 2, remove=lake.paths(base, 2))
    branch = lake.append(branch, [21], 2)
    onto = lake.append(base, [3], 3)
    joined = lake.catalog.rebase(NAME, base, branch, onto)
    assert sorted(lake.ids(joined)) == [1, 3, 20, 21]
    assert len(lake.catalog.history(NAME, joined)) == 4, "the branch's two commits become one"


def test_rebase_conflicts_where_both_removed_the_same_file(any_lake: Lake) -> None:
    base = any_lake.append(any_lake.create(), [1], 1)
    branch = any_lake.append(base, [10], 1, remove=any_lake.paths(base))
    onto = any_lake.append(base, [11], 1, remove=any_lake.paths(base))
    with pytest.raises(Conflict):
        any_lake.catalog.rebase(NAME, base, branch, onto)


@pytest.mark.parametrize("side", ["branch", "onto", "both"])
def test_rebase_conflicts_where_columns_differ(any_lake: Lake, side: str) -> None:
    base, branch, onto = fork(any_lake)
    if side in ("branch", "both"):
        branch = any_lake.catalog.evolve(NAME, branch, Schema.of({"left": "long"}))
    if side in ("onto", "both"):
        onto = any_lake.catalog.evolve(NAME, onto, Schema.of({"right": "long"}))
    with pytest.raises(Conflict, match="columns"):
        any_lake.catalog.rebase(NAME, base, branch, onto)


def test_rebase_takes_the_same_column_added_on_both_sides(lake: Lake) -> None:
    base, branch, onto = fork(lake)
    branch, onto = (lake.catalog.evolve(NAME, p, Schema.of({"w": "long"})) for p in (branch, onto))
    branch = lake.append(branch, [{"id": 4, "w": 44}], 2)
    joined = lake.catalog.rebase(NAME, base, branch, onto)
    assert [(r["id"], r["w"]) for r in lake.read(joined)] == [(1, None), (3, None), (2, None), (4, 44)]


def test_rebase_conflicts_where_the_table_was_created_again(any_lake: Lake) -> None:
    base, branch, _ = fork(any_lake)
    with pytest.raises(Conflict, match="dropped and created again"):
        any_lake.catalog.rebase(NAME, base, branch, any_lake.append(any_lake.create(), [1], 1))


def test_rebase_carries_properties_and_refuses_to_overwrite_them(any_lake: Lake) -> None:
    base, branch, onto = fork(any_lake)
    branch = any_lake.catalog.evolve(NAME, branch, Schema(), properties={"a": "1"})
    joined = any_lake.catalog.rebase(NAME, base, branch, onto)
    assert any_lake.catalog.load(NAME, joined).properties["a"] == "1"
    onto = any_lake.catalog.evolve(NAME, onto, Schema(), properties={"a": "2"})
    with pytest.raises(Conflict, match='"a"'):
        any_lake.catalog.rebase(NAME, base, branch, onto)


def test_rebase_after_compaction_of_the_same_files_conflicts_only_if_they_were_removed(lake: Lake) -> None:
    base = lake.append(lake.append(lake.create(), [1], 1), [2], 1)
    onto = lake.catalog.compact(NAME, base, 1 << 20)
    assert onto != base
    appended = lake.append(base, [3], 3)
    assert sorted(lake.ids(lake.catalog.rebase(NAME, base, appended, onto))) == [1, 2, 3]
    replaced = lake.append(base, [10], 1, remove=lake.paths(base))
    with pytest.raises(Conflict):
        lake.catalog.rebase(NAME, base, replaced, onto)


def test_two_branches_that_created_the_same_table_join_without_rewriting(lake: Lake) -> None:
    partition = (Partition.parse("bucket(2, id)"),)
    branch = lake.append(lake.create(partition=partition), [1, 2, 3], 1)
    onto = lake.append(lake.create(partition=partition), [4], 2)
    before = {i.path for i in lake.files.list() if i.path.endswith(".parquet")}
    joined = lake.catalog.rebase(NAME, "", branch, onto)
    assert {i.path for i in lake.files.list() if i.path.endswith(".parquet")} == before
    assert sorted(lake.ids(joined)) == [1, 2, 3, 4]
    assert lake.catalog.load(NAME, joined).uuid == lake.catalog.load(NAME, onto).uuid
    assert lake.catalog.difference(NAME, onto, joined).batches == {1}


def test_two_branches_that_created_it_differently_join_by_column_name(lake: Lake) -> None:
    branch = lake.append(
        lake.create({"v": "string", "n": "int", "id": "long", "_batch_id": "long"}), [{"id": 1, "v": "a", "n": 1}], 1
    )
    branch = lake.append(branch, [{"id": 2, "v": "b", "n": 2}], 2)
    onto = lake.append(
        lake.create({"id": "long", "v": "string", "_batch_id": "long", "extra": "unknown"}), [{"id": 3, "v": "c"}], 3
    )
    joined = lake.catalog.rebase(NAME, "", branch, onto)
    rows = {r["id"]: (r["v"], r["n"], r["extra"], r["_batch_id"]) for r in lake.read(joined)}
    assert rows == {1: ("a", 1, None, 1), 2: ("b", 2, None, 2), 3: ("c", None, None, 3)}
    assert [f.batch_id for f in lake.catalog.scan(NAME, joined).files] == [3, 1, 2]
    assert plain_rows(joined) == in_any_order(lake.read(joined))
    assert lake.catalog.difference(NAME, onto, joined).batches == {1, 2}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"columns": {"id": "long"}}, {"columns": {"id": "string"}}),
        ({"partition": (Partition.parse("id"),)}, {}),
        ({"sort": ("id",)}, {"sort": ("v",)}),
    ],
)
def test_two_branches_that_cannot_be_joined_conflict(lake: Lake, left: dict[str, Any], right: dict[str, Any]) -> None:
    with pytest.raises(Conflict, match="created twice"):
        lake.catalog.rebase(NAME, "", lake.create(**left), lake.create(**right))


# compact


def test_compact_joins_small_files_and_keeps_rows_and_order(lake: Lake) -> None:
    pointer = lake.create(write=WriteMode.REPLACE)
    for batch in range(10):
        pointer = lake.append(pointer, [batch * 10, batch], batch)
    before = lake.read(pointer)
    compacted = lake.catalog.compact(NAME, pointer, 1 << 20)
    assert lake.read(compacted) == before
    assert len(lake.paths(compacted)) == 1
    assert len(lake.paths(pointer)) == 10, "the version before keeps its files"
    assert lake.catalog.history(NAME, compacted)[-1].kind == "compact"
    assert lake.catalog.history(NAME, compacted)[-1].operation == "replace"
    found = lake.catalog.difference(NAME, pointer, compacted)
    assert (found.kinds, found.batches) == ({ChangeKind.COMPACT}, frozenset())
    assert lake.catalog.compact(NAME, compacted, 1 << 20) == compacted
    assert plain_rows(compacted) == in_any_order(before)
    assert lake.read(lake.append(compacted, [7], 7))[:-1] == before


def test_compact_of_append_tables_never_mixes_batches(lake: Lake) -> None:
    pointer = lake.create()
    for batch, row in [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (1, 6), (3, 7)]:
        pointer = lake.append(pointer, [row], batch)
    pointer = lake.append(pointer, [{"id": 8, "_batch_id": 3}, {"id": 9, "_batch_id": 4}])
    pointer = lake.catalog.compact(NAME, pointer, 1 << 20)
    files = lake.catalog.scan(NAME, pointer).files
    assert [(f.batch_id, f.rows) for f in files] == [(1, 2), (2, 3), (1, 1), (3, 1), (None, 2)]
    assert lake.ids(pointer) == list(range(1, 10))


def test_compact_keeps_partitions_apart_and_big_files_alone(lake: Lake) -> None:
    pointer = lake.create(partition=(Partition.parse("v"),), write=WriteMode.UPSERT, key=("id",))
    for n in range(6):
        pointer = lake.append(pointer, [{"id": n, "v": "ab"[n % 2]}], 1)
    sizes = [f.bytes for f in lake.catalog.scan(NAME, pointer).files]
    assert lake.catalog.compact(NAME, pointer, min(sizes)) == pointer, "every file is at the target already"
    compacted = lake.catalog.compact(NAME, pointer, 1 << 20)
    held = [[r["v"] for r in pq.read_table(path).to_pylist()] for path in lake.paths(compacted)]
    assert sorted(held) == [["a"] * 3, ["b"] * 3]
    pairs = lake.catalog.compact(NAME, pointer, max(sizes) * 2 + 1)
    assert sorted(f.rows for f in lake.catalog.scan(NAME, pairs).files) == [1, 1, 2, 2]


def test_compact_reads_old_files_by_field_ids(lake: Lake) -> None:
    pointer = lake.create({"id": "int", "v": "string", "s": "struct<a:int>"}, write=WriteMode.REPLACE)
    pointer = lake.append(pointer, [{"id": 1, "v": "x", "s": {"a": 1}}])
    pointer = lake.catalog.evolve(
        NAME, pointer, Schema.of({"id": "long", "s": "struct<a:long,b:string>"}), rename={"v": "w"}
    )
    pointer = lake.append(pointer, [{"id": 2, "w": "y", "s": {"a": 2, "b": "z"}}])
    before = lake.read(pointer)
    assert lake.read(lake.catalog.compact(NAME, pointer, 1 << 20)) == before


# collector: reachable, expire


def collect(lake: Lake, pointers: Iterable[str]) -> int:
    """What the collector does: delete all that is not marked. Returns how many files went."""
    marked = lake.catalog.reachable((NAME, pointer) for pointer in pointers)
    garbage = [i.path for i in lake.files.list() if i.path not in marked]
    for path in garbage:
        lake.files.delete(path)
    return len(garbage)


def test_everything_that_versions_need_is_reachable_and_nothing_else(lake: Lake) -> None:
    first = lake.append(lake.create(), [1], 1)
    second = lake.append(first, [2], 1, remove=lake.paths(first))
    third = lake.catalog.compact(NAME, lake.append(second, [3], 1), 1 << 20)
    lake.stage(third, [4], 4)  # staged and never committed
    snapshots = [s.snapshot_id for s in lake.catalog.history(NAME, third)]
    assert collect(lake, [first, third]) == 4, "created and second's metadata, the one in between, the staged file"
    fresh = Lake(lake.files)
    assert fresh.ids(first) == [1]
    assert fresh.ids(third) == [2, 3]
    travelled = [[r["id"] for r in read(fresh.catalog.scan(NAME, third, snapshot_id=s))] for s in snapshots]
    assert travelled == [[1], [2], [2, 3], [2, 3]]
    assert collect(fresh, [first, third]) == 0
    with pytest.raises(FileNotFoundError):
        fresh.catalog.load(NAME, second)


def test_expired_snapshots_free_their_files(lake: Lake) -> None:
    pointer = lake.create()
    for batch in range(4):
        pointer = lake.append(pointer, [batch], 1, remove=lake.paths(pointer))
        lake.clock.sleep(60)
    expired = lake.catalog.expire(NAME, pointer, older_than=lake.clock.now(), keep=2)
    assert [s.rows for s in lake.catalog.history(NAME, expired)] == [1, 1]
    assert len(lake.catalog.history(NAME, pointer)) == 4, "a version is never changed"
    assert lake.catalog.expire(NAME, expired, older_than=lake.clock.now(), keep=2) == expired
    assert lake.catalog.expire(NAME, pointer, older_than=START, keep=1) == pointer
    collect(lake, [expired])
    assert len([i for i in lake.files.list() if i.path.endswith(".parquet")]) == 2
    assert Lake(lake.files).ids(expired) == [3]
    assert lake.catalog.load(NAME, expired).snapshot_id == lake.catalog.load(NAME, pointer).snapshot_id


def test_a_reader_with_an_old_pointer_reads_on_until_the_collector_comes(lake: Lake) -> None:
    old = lake.append(lake.create(), [1], 1)
    pointer = old
    for batch in range(2, 12):
        pointer = lake.append(pointer, [batch], 1, remove=lake.paths(pointer))
    pointer = lake.catalog.expire(NAME, pointer, older_than=START + timedelta(days=9), keep=1)
    assert lake.ids(old) == [1]
    assert lake.ids(pointer) == [11]
    collect(lake, [pointer, old])
    assert lake.ids(old) == [1]
