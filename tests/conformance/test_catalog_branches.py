"""Conformance of the port `catalog`: how versions differ, and how a branch is put on top of another (rule 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import StaticTable

from harness.lake import NAME, Lake, in_any_order, plain_rows
from tidemill.adapters.iceberg.catalog import IcebergCatalog
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.adapters.memory.files import MemoryFiles
from tidemill.model.branch import ChangeKind, TableChange
from tidemill.model.errors import Conflict
from tidemill.model.table import Partition, Schema


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(LocalFiles(tmp_path / "lake"))


@pytest.fixture(params=["localfs", "memory"])
def any_lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake on either kind of files, for what needs no engine."""
    return Lake(LocalFiles(tmp_path / "lake") if request.param == "localfs" else MemoryFiles())


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
