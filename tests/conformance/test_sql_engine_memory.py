"""What the port `SqlEngine` promises of memory, of the disk on which rows wait, and of the order in which they come."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.disks import small_disk
from harness.sql import ENGINES, rows, scan, schema
from tidemill.model.errors import NeedsMemory, Unreachable
from tidemill.model.table import DataFile
from tidemill.plan.merge import INCOMING, REWRITTEN, Upsert
from tidemill.plan.sql_order import out_of_order

#: Holds all its rows, and lets none of them wait on the disk.
GREEDY = "select len(list(i)) as n from range(4_000_000) t(i)"
SORT = "select i, md5(i::varchar) as h from range(500_000) t(i) order by h"
MB = 1 << 20


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> Any:
    """An adapter's class."""
    return request.param


def test_a_statement_keeps_to_the_memory_that_it_is_given(kind: Any, tmp_path: Path) -> None:
    engine = kind(threads=1, temp_directory=str(tmp_path))
    with pytest.raises(NeedsMemory):
        rows(engine, GREEDY, memory=8 * MB)
    assert rows(engine, GREEDY) == [{"n": 4_000_000}]
    with engine.query(SORT, {}, memory=16 * MB) as reader:
        reader.read_next_batch()
        assert list(tmp_path.iterdir()), "rows wait on the disk"


def test_an_engine_with_a_limit_of_its_own_keeps_to_that(kind: Any, tmp_path: Path) -> None:
    engine = kind(threads=1, temp_directory=str(tmp_path), memory_limit="1GB")
    assert rows(engine, GREEDY, memory=8 * MB) == [{"n": 4_000_000}]


def test_a_disk_without_room_for_rows_that_wait_is_told_as_such(kind: Any, tmp_path: Path) -> None:
    """It is nobody's data that is wrong, and the same statement can succeed when there is room."""
    with small_disk(tmp_path / "disk", 4) as disk:
        engine = kind(threads=1, temp_directory=str(disk.folder))
        with pytest.raises(Unreachable, match="no room left") as caught:
            rows(engine, SORT, memory=16 * MB)
        assert caught.value.where == str(disk.folder)
        disk.grow(256)
        assert len(rows(engine, SORT, memory=16 * MB)) == 500_000


def test_rows_of_a_scan_come_in_the_order_of_its_files_and_their_rows(kind: Any, tmp_path: Path) -> None:
    """Each file has many row groups, which several threads read."""
    files = [_numbered(tmp_path / name, at * 200_000, 200_000) for at, name in enumerate(("b", "a", "c"))]
    given = {"t": scan(files, schema(n="1 long"))}
    engine = kind(threads=4, temp_directory=str(tmp_path))
    with engine.query("select n + 0 as n from t", given) as reader:
        assert reader.read_all().column(0).to_pylist() == list(range(600_000))
    assert rows(engine, out_of_order("t", ["n"]), given) == [{"disorder": False}]
    wrong = {"t": scan([files[1], files[0]], schema(n="1 long"))}
    assert rows(engine, out_of_order("t", ["n"]), wrong) == [{"disorder": True}]


@pytest.mark.parametrize(
    ("pairs", "disorder"),
    [([], False), ([(2, 1)], False), ([(1, 9), (2, 0), (2, 0), (2, 1)], False), ([(1, 1), (1, 0)], True)],
)
def test_order_is_that_of_the_first_column_and_then_of_the_next(
    kind: Any, pairs: list[tuple[int, int]], disorder: bool
) -> None:
    table = pa.table({name: pa.array([p[at] for p in pairs], pa.int64()) for at, name in enumerate(("a b", "c"))})
    assert rows(kind(threads=1), out_of_order("t", ["a b", "c"]), {"t": table}) == [{"disorder": disorder}]


def test_ranking_the_newest_rows_holds_what_decides_and_not_whole_rows(kind: Any, tmp_path: Path) -> None:
    """60,000 rows of 600 bytes in 30 MB, of which next to nothing may wait on the disk."""
    count, dice = 60_000, Random(1)
    columns = {
        "id": pa.array([n % 1_000 for n in range(count)]),
        "text": pa.array([f"{n} {dice.randbytes(300).hex()}" for n in range(count)]),
        "_order": pa.array([n // 7 for n in range(count)]),
        "_row": pa.array(range(count)),
        "_deleted": pa.array([False] * count),
        "_batch_id": pa.array([2] * count),
        "_loaded_at": pa.array([0] * count),
    }
    text = [
        f"{at} {kind_}" for at, kind_ in enumerate(("long", "string", "long", "long", "boolean", "long", "long"), 1)
    ]
    incoming = schema(**dict(zip(columns, text, strict=True)))
    fields = [
        pa.field(n, a.type, metadata={"PARQUET:field_id": str(at)}) for at, (n, a) in enumerate(columns.items(), 1)
    ]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table(list(columns.values()), schema=pa.schema(fields)), path, row_group_size=8_192)
    given = {INCOMING: scan([DataFile(str(path), count, path.stat().st_size, 2)], incoming)}
    given[REWRITTEN] = scan([], schema(id="1 long", text="2 string", _batch_id="6 long", _loaded_at="7 long"))
    write = Upsert(("id",), ("id", "text", "_batch_id", "_loaded_at"))
    engine = kind(threads=1, memory_limit="30MB", temp_limit="1MB", temp_directory=str(tmp_path))
    found = rows(engine, write.newest().sql, given)
    assert sorted((row["id"], int(row["text"].split()[0])) for row in found) == [
        (n, count - 1_000 + n) for n in range(1_000)
    ]


def _numbered(path: Path, first: int, count: int) -> DataFile:
    table = pa.table(
        [pa.array(range(first, first + count), pa.int64())],
        schema=pa.schema([pa.field("n", pa.int64(), metadata={"PARQUET:field_id": "1"})]),
    )
    pq.write_table(table, path, row_group_size=8_192)
    return DataFile(str(path), count, path.stat().st_size)
