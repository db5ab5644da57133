"""Conformance of the port `catalog`: what its writer does with rows, and what it refuses."""

from __future__ import annotations

import random
import re
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import StaticTable

from harness.lake import NAME, START, Lake, table
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.model.branch import ChangeKind, TableChange
from tidemill.model.errors import ContractError, Refused
from tidemill.model.table import Partition, Schema


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalFiles(tmp_path / "lake"))


@pytest.fixture(params=["localfs", "memory"])
def any_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on either kind of files, for what needs no engine."""
    return Lake(LocalFiles(tmp_path / "lake") if request.param == "localfs" else MemoryFiles())


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
    assert len(staged) == 5, "one file for each row group of 131,072 rows, for each is over a megabyte"
    assert all(pq.read_metadata(f.path).num_row_groups == 1 for f in staged)
    assert [f.rows for f in staged] == [131_072] * 4 + [75_712]
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


@pytest.mark.parametrize("kind", ["uuid", "decimal(9,2)", "time", "binary", "boolean", "date"])
def test_writer_sorts_by_columns_of_every_type(lake: Lake, kind: str) -> None:
    pointer = lake.create({"k": kind, "id": "long"}, sort=("k",))
    values = {
        "uuid": [uuid.UUID(int=n).bytes for n in (2, 1)], "decimal(9,2)": [Number("2.00"), Number("1.00")],
        "time": [time(2), time(1)], "binary": [b"b", b"a"], "boolean": [True, False],
        "date": [date(2013, 1, 2), date(2013, 1, 1)],
    }[kind]  # fmt: skip
    pointer = lake.append(pointer, [{"k": v, "id": i} for i, v in enumerate([*values, None])])
    assert lake.ids(pointer) == [2, 1, 0]


def test_writer_bounds_open_files_however_many_partitions(lake: Lake) -> None:
    pointer = lake.create(partition=(Partition.parse("id"),))
    staged = lake.stage(pointer, list(range(200)), 1)
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged, batch_id=1))
    assert sorted(lake.ids(pointer)) == list(range(200))
    assert len(staged) == 200


def test_writer_takes_rows_with_different_columns(lake: Lake) -> None:
    pointer = lake.create()
    with lake.catalog.writer(NAME, pointer, batch_id=None) as writer:
        writer.write_rows([{"id": 1}, {"v": "x", "id": 2}, {"_batch_id": 3}])
        staged = writer.finish()
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged))
    assert [tuple(row.values()) for row in lake.read(pointer)] == [(1, None, None), (2, "x", None), (None, None, 3)]


def test_writer_adds_columns_that_batches_do_not_bring(lake: Lake) -> None:
    """Shared values, copies, and numbers that count on over batches of any size."""
    pointer = lake.create({"id": "long", "twin": "long", "_batch_id": "long", "_row": "long", "at": "timestamptz"})
    sizes = [1, 3, 70_000, 2, 20_000, 5]
    with lake.catalog.writer(
        NAME, pointer, batch_id=7, fill={"_batch_id": 7, "at": START}, copies={"twin": "id"}, number="_row", first=10
    ) as writer:
        for size in sizes:
            writer.write(pa.table({"id": pa.array([size] * size, pa.int64())}))
        staged = writer.finish()
    pointer = lake.catalog.commit(NAME, pointer, TableChange(ChangeKind.BATCH, staged, batch_id=7))
    rows = lake.read(pointer)
    assert [row["_row"] for row in rows] == list(range(10, 10 + sum(sizes)))
    assert [row["id"] for row in rows] == [size for size in sizes for _ in range(size)]
    assert all(row["twin"] == row["id"] and row["_batch_id"] == 7 and row["at"] == START for row in rows)
