"""Conformance of the port `catalog`: compaction, expiry, and what the collector must leave (rule 8)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.lake import NAME, START, Lake, in_any_order, plain_rows, read
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.model.branch import ChangeKind
from tidemill.model.table import Partition, Schema, WriteMode


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalFiles(tmp_path / "lake"))


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
