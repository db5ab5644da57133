"""Plain PyIceberg beside the catalog: it reads what we write, we read what it writes, and they may race."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import EqualTo, GreaterThan, GreaterThanOrEqual, In, IsNull, LessThan, StartsWith
from pyiceberg.manifest import ManifestContent, read_manifest_list, write_manifest_list
from pyiceberg.table import StaticTable, Table
from pyiceberg.types import LongType
from sqlalchemy import update

from tidemill.adapters.iceberg.catalog import IcebergCatalog
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.branch import ChangeKind, TableChange
from tidemill.model.errors import Refused
from tidemill.model.table import Partition, Schema, TableName, TableSpec

NAME = TableName("bronze", "flights")
COLUMNS = {"id": "long", "v": "string", "_batch_id": "long"}


class Shared:
    """One table: the pointer in PyIceberg's own SQL catalog, as other tools see it."""

    def __init__(self, folder: Path) -> None:
        self.files = LocalFiles(folder / "lake")
        self.ours = IcebergCatalog(self.files, SystemClock())
        self.folder = folder
        self.plain = self.connect()
        self.plain.create_namespace("bronze")

    def connect(self) -> SqlCatalog:
        return SqlCatalog("main", uri=f"sqlite:///{self.folder}/catalog.db", warehouse=str(self.folder / "lake"))

    def create(self, columns: dict[str, str] = COLUMNS, **spec: Any) -> Table:
        pointer = self.ours.create(TableSpec(NAME, **spec), Schema.of(columns))
        return self.plain.register_table(("bronze", "flights"), pointer)

    def pointer(self, plain: SqlCatalog | None = None) -> str:
        return (plain or self.plain).load_table(("bronze", "flights")).metadata_location

    def swap(self, plain: SqlCatalog, before: str, after: str) -> bool:
        """Move the pointer, if it is still `before`: what the metadata store does in its transaction."""
        with plain.engine.begin() as connection:
            moved = connection.execute(
                update(IcebergTables)
                .where(IcebergTables.table_name == "flights", IcebergTables.metadata_location == before)
                .values(metadata_location=after, previous_metadata_location=before)
            )
            return moved.rowcount == 1

    def append(self, rows: pa.Table, batch: int) -> None:
        before = self.pointer()
        assert self.swap(self.plain, before, self.appended(before, rows, batch))

    def appended(self, pointer: str, rows: pa.Table, batch: int) -> str:
        with self.ours.writer(NAME, pointer, batch_id=batch) as writer:
            writer.write(rows)
            staged = writer.finish()
        return self.ours.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged, batch_id=batch))

    def ids(self) -> list[int]:
        """The ids as the files of our scan hold them."""
        files = self.ours.scan(NAME, self.pointer()).files
        return sorted(i for f in files for i in pq.read_table(f.path, columns=["id"])["id"].to_pylist())


def rows(ids: list[int], batch: int | None) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "v": [f"v{i}" for i in ids],
            "_batch_id": pa.array([batch] * len(ids), pa.int64()),
        }
    )


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    made = Shared(tmp_path)
    yield made
    made.plain.close()


def test_both_write_the_same_table_in_turns(shared: Shared) -> None:
    shared.create()
    for turn in range(6):
        if turn % 2:
            shared.append(rows([turn], turn), turn)
        else:
            shared.plain.load_table(("bronze", "flights")).append(rows([turn], turn))
    table = shared.plain.load_table(("bronze", "flights"))
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == list(range(6))
    assert shared.ids() == list(range(6))
    files = shared.ours.scan(NAME, table.metadata_location).files
    assert [f.batch_id for f in files] == list(range(6)), "batches are known by statistics, in the order of commits"
    history = shared.ours.history(NAME, table.metadata_location)
    assert [s.kind for s in history] == [None, "batch"] * 3
    assert [s.rows for s in history] == list(range(1, 7))


def test_commits_of_plain_pyiceberg_are_judged_by_what_they_did(shared: Shared) -> None:
    shared.create()
    shared.append(rows([1, 2], 1), 1)
    base = shared.pointer()
    shared.plain.load_table(("bronze", "flights")).append(rows([3], 7))
    shared.plain.load_table(("bronze", "flights")).append(rows([4], None))
    found = shared.ours.difference(NAME, base, shared.pointer())
    assert (found.kinds, found.batches, len(found.added)) == ({ChangeKind.BATCH}, {7}, 2)
    shared.plain.load_table(("bronze", "flights")).delete("id = 2")
    found = shared.ours.difference(NAME, base, shared.pointer())
    assert ChangeKind.UPSERT in found.kinds
    assert len(found.removed) == 1
    assert shared.ids() == [1, 3, 4]
    with shared.plain.load_table(("bronze", "flights")).update_schema() as change:
        change.add_column("extra", LongType())
    assert shared.ours.difference(NAME, base, shared.pointer()).schema_changed
    shared.append(rows([5], 5), 5)
    assert shared.ids() == [1, 3, 4, 5]


def test_our_commit_removes_and_compacts_files_of_plain_pyiceberg(shared: Shared) -> None:
    table = shared.create()
    for batch in (3, 3, 4):
        table = shared.plain.load_table(("bronze", "flights"))
        table.append(rows([batch], batch))
    pointer = shared.pointer()
    compacted = shared.ours.compact(NAME, pointer, 1 << 20)
    assert [(f.batch_id, f.rows) for f in shared.ours.scan(NAME, compacted).files] == [(3, 2), (4, 1)]
    gone = tuple(f.path for f in shared.ours.scan(NAME, compacted, batch_id=3).files)
    left = shared.ours.commit(NAME, compacted, TableChange(ChangeKind.BATCH, remove=gone, batch_id=3))
    assert StaticTable.from_metadata(left).scan().to_arrow()["id"].to_pylist() == [4]


def test_nothing_that_plain_pyiceberg_does_deletes_files(shared: Shared) -> None:
    shared.create()
    shared.append(rows([1], 1), 1)
    old = shared.pointer()
    before = {info.path for info in shared.files.list()}
    with shared.plain.load_table(("bronze", "flights")).transaction() as transaction:
        transaction.set_properties({"write.metadata.previous-versions-max": "2"})
    for number in range(4):
        shared.plain.load_table(("bronze", "flights")).overwrite(rows([number], 1))
    assert before <= {info.path for info in shared.files.list()}
    assert [f.rows for f in shared.ours.scan(NAME, old).files] == [1]


def test_racing_appends_of_both_are_all_there(shared: Shared) -> None:
    """Ours compare and swap, and rebase where they lost; plain PyIceberg retries its own way."""
    shared.create()
    acknowledged: list[int] = []
    lost: list[int] = []
    broken: list[BaseException] = []
    start = threading.Barrier(4)

    def our_appends(worker: int) -> None:
        plain, catalog = shared.connect(), IcebergCatalog(shared.files, SystemClock())
        for turn in range(6):
            number = worker * 100 + turn
            base = shared.pointer(plain)
            with catalog.writer(NAME, base, batch_id=number) as writer:
                writer.write(rows([number], number))
                staged = writer.finish()
            branch = catalog.commit(NAME, base, TableChange(ChangeKind.BATCH, staged, batch_id=number))
            while not shared.swap(plain, head := shared.pointer(plain), catalog.rebase(NAME, base, branch, head)):
                lost.append(number)
            acknowledged.append(number)
        plain.close()

    def plain_appends(worker: int) -> None:
        plain = shared.connect()
        for turn in range(4):
            number = worker * 100 + turn
            try:
                plain.load_table(("bronze", "flights")).append(rows([number], number))
                acknowledged.append(number)
            except CommitFailedException:
                lost.append(number)
        plain.close()

    def run(appends: Any, worker: int) -> None:
        start.wait()
        try:
            appends(worker)
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=run, args=(our_appends, n)) for n in (1, 2)]
    threads += [threading.Thread(target=run, args=(plain_appends, n)) for n in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert len([n for n in acknowledged if n < 300]) == 12
    assert len(set(acknowledged) | set(lost)) == 20
    assert shared.ids() == sorted(acknowledged)
    table = shared.plain.load_table(("bronze", "flights"))
    assert sorted(table.scan().to_arrow()["id"].to_pylist()) == sorted(acknowledged)
    assert len(shared.ours.history(NAME, table.metadata_location)) == len(acknowledged)


FILTERS = [
    EqualTo("id", 7), In("id", [1, 35, 99]), GreaterThanOrEqual("id", 36), IsNull("v"), EqualTo("v", "é" * 20 + "7"),
    StartsWith("v", "é" * 18), GreaterThan("v", "z"), LessThan("price", Decimal("-3.00")), EqualTo("day", "2013-01-02"),
    GreaterThan("at", "2013-01-03T00:00:00+00:00"), LessThan("x", -3.0), EqualTo("small", 3), EqualTo("flag", True),
]  # fmt: skip


@pytest.mark.parametrize(
    "partition", ["", "day(at)", "bucket(4, id)", "truncate(20, v)", "month(day)", "small", "flag", "v"]
)
def test_plain_pyiceberg_prunes_by_our_statistics_without_losing_rows(tmp_path: Path, partition: str) -> None:
    """Wrong bounds or partition values would make a filtered scan miss rows."""
    columns = {
        "id": "long", "v": "string", "price": "decimal(9,2)", "day": "date", "at": "timestamptz", "x": "double",
        "small": "int", "flag": "boolean",
    }  # fmt: skip
    catalog = IcebergCatalog(LocalFiles(tmp_path), SystemClock())
    spec = TableSpec(NAME, partition=(Partition.parse(partition),) if partition else ())
    pointer = catalog.create(spec, Schema.of(columns))
    noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    data = [
        {
            "id": i, "v": None if i % 5 == 4 else "é" * 20 + str(i), "price": Decimal(i - 20) / 4, "small": i % 4,
            "day": date(2013, 1, 1) + timedelta(days=i // 10), "at": noon + timedelta(days=i // 10), "x": 5.0 - i,
            "flag": i % 3 == 0,
        }
        for i in range(40)
    ]  # fmt: skip
    types = pa.schema([("price", pa.decimal128(9, 2)), ("small", pa.int32())])
    for start in range(0, 40, 10):
        part = pa.Table.from_pylist(data[start : start + 10])
        part = pa.table(
            {n: part[n].cast(types.field(n).type) if n in types.names else part[n] for n in part.column_names}
        )
        with catalog.writer(NAME, pointer, batch_id=None) as writer:
            writer.write(part)
            staged = writer.finish()
        pointer = catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged))
    pointer = catalog.evolve(NAME, pointer, Schema.of({"small": "long", "price": "decimal(12,2)"}))
    held_by = {i: f.path for f in catalog.scan(NAME, pointer).files for i in pq.read_table(f.path)["id"].to_pylist()}
    assert len(held_by) == 40
    table = StaticTable.from_metadata(pointer)
    skipped = 0
    for wanted in FILTERS:
        planned = {task.file.file_path for task in table.scan(row_filter=wanted).plan_files()}
        assert {held_by[i] for i in kept(data, wanted)} <= planned, wanted
        skipped += len(set(held_by.values()) - planned)
    assert skipped > 0, "statistics and partitions are of use"
    whole = table.scan().to_arrow().sort_by("id").to_pylist()
    assert whole == [{name: row[name] for name in columns} for row in data]


def kept(data: list[dict[str, Any]], wanted: Any) -> list[int]:
    """The ids that a filter keeps, found without statistics."""
    name = wanted.term.name
    literals = wanted.literals if isinstance(wanted, In) else [getattr(wanted, "literal", None)]
    values = [value.value if value is not None else None for value in literals]
    if name == "day":
        values = [date.fromisoformat(v) for v in values]
    if name == "at":
        values = [datetime.fromisoformat(v) for v in values]
    tests = {
        EqualTo: lambda v: v in values,
        In: lambda v: v in values,
        GreaterThan: lambda v: v is not None and v > values[0],
        GreaterThanOrEqual: lambda v: v is not None and v >= values[0],
        LessThan: lambda v: v is not None and v < values[0],
        StartsWith: lambda v: v is not None and v.startswith(values[0]),
        IsNull: lambda v: v is None,
    }
    return sorted(row["id"] for row in data if tests[type(wanted)](row[name]))


def test_row_level_deletes_of_other_tools_are_refused_not_ignored(shared: Shared) -> None:
    table = shared.create()
    shared.append(rows([1, 2], 1), 1)
    table = shared.plain.load_table(("bronze", "flights"))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    manifests = list(read_manifest_list(table.io.new_input(snapshot.manifest_list)))
    manifests[0]._data[3] = ManifestContent.DELETES  # PyIceberg cannot write row-level deletes; Spark would
    Path(snapshot.manifest_list).unlink()
    with write_manifest_list(
        2, table.io.new_output(snapshot.manifest_list), snapshot.snapshot_id, None, snapshot.sequence_number, "null"
    ) as writer:
        writer.add_manifests(manifests)
    fresh = IcebergCatalog(shared.files, SystemClock())
    with pytest.raises(Refused, match="row-level deletes"):
        fresh.scan(NAME, shared.pointer())


def test_nested_names_that_another_tool_changed_are_told(shared: Shared) -> None:
    shared.create({"id": "long", "s": "struct<a:long,b:long>"})
    assert not shared.ours.scan(NAME, shared.pointer()).nested_by_id_only
    with shared.plain.load_table(("bronze", "flights")).update_schema() as change:
        change.add_column(("s", "c"), LongType())
    assert not shared.ours.scan(NAME, shared.pointer()).nested_by_id_only
    with shared.plain.load_table(("bronze", "flights")).update_schema() as change:
        change.rename_column(("s", "a"), "renamed")
    assert shared.ours.scan(NAME, shared.pointer()).nested_by_id_only
