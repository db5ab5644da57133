"""Conformance of the port `catalog`: creating, committing, scanning. One test a promise."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import StaticTable

from harness.lake import NAME, START, Lake, read
from tidemill.adapters.iceberg.catalog import IcebergCatalog
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.model.branch import ChangeKind, TableChange
from tidemill.model.errors import Conflict, DefinitionError, Refused, UnknownName
from tidemill.model.table import Partition, Schema, TableSpec


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalFiles(tmp_path / "lake"))


@pytest.fixture(params=["localfs", "memory"])
def any_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on either kind of files, for what needs no engine."""
    return Lake(LocalFiles(tmp_path / "lake") if request.param == "localfs" else MemoryFiles())


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
    lake.catalog = IcebergCatalog(lake.files, lake.clock, snapshots_kept=20)
    pointer = lake.create()
    costs: list[tuple[int, int, int]] = []
    before = counted(lake)
    for batch in range(1, 121):
        pointer = lake.append(pointer, [batch], batch)
        if batch % 10 == 0:
            now = counted(lake)
            costs.append((now[0] - before[0], now[1] - before[1], now[2]))
            before = now
    assert {files for files, _, _ in costs} == {30}
    full = costs[2:]  # from the 20th commit on
    assert max(written for _, written, _ in full) < 1.7 * min(written for _, written, _ in full)
    assert max(size for _, _, size in full) < 1.1 * min(size for _, _, size in full)
    assert len(StaticTable.from_metadata(pointer).inspect.manifests()) <= 15
    assert len(lake.catalog.history(NAME, pointer)) == 20
    assert sorted(lake.ids(pointer)) == list(range(1, 121))


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
