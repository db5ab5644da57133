"""The catalog against a model: any sequence of commits, evolutions, forks, rebases and compactions gives the rows
that a list of dictionaries gives, at every pointer that was ever returned, for DuckDB and for plain PyIceberg.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pyiceberg.table import StaticTable

from harness.examples import few
from tidemill.adapters.iceberg.catalog import IcebergCatalog
from tidemill.adapters.localfs.files import LocalFiles
from tidemill.model.branch import ChangeKind, TableChange
from tidemill.model.errors import Conflict
from tidemill.model.table import Partition, Schema, TableName, TableSpec, WriteMode
from tidemill.testing.clock import ManualClock

NAME = TableName("model", "t")
ENGINE = duckdb.connect()
DUCKDB_TYPES = {"int": "INTEGER", "long": "BIGINT", "string": "VARCHAR"}


@dataclass
class Model:
    """One version of the table: rows by stable column keys, what the columns are called and typed, and where
    each row came from: files are sets of rows that move together.
    """

    pointer: str
    #: Column key -> (name, type). Keys never return, as field ids do not.
    columns: dict[int, tuple[str, str]]
    #: Rows of each batch; None for rows that an upsert mixed.
    rows: dict[int | None, list[dict[int, Any]]] = field(default_factory=dict)

    def shown(self) -> list[dict[str, Any]]:
        """All rows, named as the columns are called now, in any order."""
        named = [
            {name: row.get(key) for key, (name, _) in self.columns.items()}
            for rows in self.rows.values()
            for row in rows
        ]
        return sorted(named, key=repr)


class CatalogMachine(RuleBasedStateMachine):
    """`main` is one line of versions; `branch` forks from it and is rebased onto it."""

    @initialize(
        partition=st.sampled_from(["", "bucket(3, id)", "truncate(2, v)"]),
        write=st.sampled_from(list(WriteMode)),
        sort=st.booleans(),
    )
    def create(self, partition: str, write: WriteMode, sort: bool) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.catalog = IcebergCatalog(LocalFiles(self.folder), ManualClock(), snapshots_kept=4)
        spec = TableSpec(
            NAME,
            write=write,
            key=("id",),
            partition=(Partition.parse(partition),) if partition else (),
            sort=("v",) if sort else (),
        )
        pointer = self.catalog.create(spec, Schema.of({"id": "int", "v": "string", "_batch_id": "long"}))
        self.main = Model(pointer, {1: ("id", "int"), 2: ("v", "string"), 3: ("_batch_id", "long")})
        self.next_column, self.next_batch = 4, 1
        #: Only append tables keep each batch's rows in files of their own, to be replaced by a re-run.
        self.reruns = write is WriteMode.APPEND
        self.fork: tuple[Model, Model] | None = None
        self.seen: list[Model] = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # helpers

    def fresh_rows(self, model: Model, values: list[int], batch: int) -> list[dict[int, Any]]:
        rows = []
        for value in values:
            row: dict[int, Any] = {}
            for key, (name, kind) in model.columns.items():
                row[key] = batch if name == "_batch_id" else f"v{value}" if kind == "string" else value
            rows.append(row)
        return rows

    def staged(self, model: Model, rows: list[dict[int, Any]], batch: int | None) -> Any:
        with self.catalog.writer(NAME, model.pointer, batch_id=batch) as writer:
            for start in range(0, len(rows), 2):
                some = rows[start : start + 2]
                named = [{name: row.get(key) for key, (name, _) in model.columns.items()} for row in some]
                writer.write(pa.RecordBatch.from_pylist(named))
            return writer.finish()

    def write_batch(self, model: Model, values: list[int], batch: int) -> None:
        """A run of `batch`: its earlier rows are replaced."""
        rows = self.fresh_rows(model, values, batch)
        old = [f.path for f in self.catalog.scan(NAME, model.pointer, batch_id=batch).files if f.batch_id == batch]
        change = TableChange(ChangeKind.BATCH, self.staged(model, rows, batch), tuple(old), batch, 1)
        model.pointer = self.catalog.commit(NAME, model.pointer, change)
        model.rows[batch] = rows

    # rules

    @rule(values=st.lists(st.integers(0, 5), min_size=1, max_size=4))
    def append(self, values: list[int]) -> None:
        self.write_batch(self.main, values, self.next_batch)
        self.next_batch += 1

    @rule(data=st.data(), values=st.lists(st.integers(6, 9), max_size=3))
    def run_again(self, data: st.DataObject, values: list[int]) -> None:
        batches = sorted(b for b in self.main.rows if b is not None)
        if batches and self.reruns:
            self.write_batch(self.main, values, data.draw(st.sampled_from(batches)))

    @rule(change=st.integers(100, 105))
    def upsert(self, change: int) -> None:
        """Every row is written again into files that mix batches; those with an even id are changed."""
        held = [row for rows in self.main.rows.values() for row in rows]
        rows = [{key: value for key, value in row.items() if key in self.main.columns} for row in held]
        for row in rows:
            if row[1] % 2 == 0:
                row[2] = f"v{change}"
        files = tuple(f.path for f in self.catalog.scan(NAME, self.main.pointer).files)
        added = self.staged(self.main, rows, None)
        self.main.pointer = self.catalog.commit(
            NAME, self.main.pointer, TableChange(ChangeKind.UPSERT, added, files, self.next_batch, 1)
        )
        self.main.rows = {None: rows} if rows else {}

    @rule(on_branch=st.booleans(), kind=st.sampled_from(["int", "string"]))
    def add_column(self, on_branch: bool, kind: str) -> None:
        model = self.side(on_branch)
        name = f"c{self.next_column}"
        model.pointer = self.catalog.evolve(NAME, model.pointer, Schema.of({name: kind}))
        model.columns[self.next_column] = (name, kind)
        self.next_column += 1

    @rule(data=st.data())
    def widen(self, data: st.DataObject) -> None:
        narrow = [key for key, (_, kind) in self.main.columns.items() if kind == "int"]
        if narrow:
            key = data.draw(st.sampled_from(narrow))
            name = self.main.columns[key][0]
            self.main.pointer = self.catalog.evolve(NAME, self.main.pointer, Schema.of({name: "long"}))
            self.main.columns[key] = (name, "long")

    @rule(data=st.data())
    def rename_and_drop(self, data: st.DataObject) -> None:
        """One column gets a new name; another goes, and its name comes back for a new column."""
        free = [k for k, (n, _) in self.main.columns.items() if n not in ("_batch_id", "id", "v")]
        if len(free) < 2:
            return
        renamed, gone = data.draw(st.permutations(free))[:2]
        old, kind = self.main.columns[renamed]
        reused = self.main.columns[gone][0]
        new = f"r{self.next_column}"
        pointer = self.catalog.evolve(NAME, self.main.pointer, Schema(), rename={old: new}, drop=[reused])
        self.main.pointer = self.catalog.evolve(NAME, pointer, Schema.of({reused: "string"}))
        self.main.columns[renamed] = (new, kind)
        del self.main.columns[gone]
        self.main.columns[self.next_column] = (reused, "string")
        self.next_column += 1

    @rule(size=st.sampled_from([2_000, 1 << 20]))
    def compact(self, size: int) -> None:
        self.main.pointer = self.catalog.compact(NAME, self.main.pointer, size)

    @precondition(lambda self: len(self.seen) > 4)
    @rule()
    def expire(self) -> None:
        self.main.pointer = self.catalog.expire(
            NAME, self.main.pointer, older_than=datetime(2030, 1, 1, tzinfo=UTC), keep=2
        )

    @precondition(lambda self: self.fork is None)
    @rule(values=st.lists(st.integers(20, 25), min_size=1, max_size=3), again=st.booleans(), data=st.data())
    def branch(self, values: list[int], again: bool, data: st.DataObject) -> None:
        self.fork = (copy.deepcopy(self.main), copy.deepcopy(self.main))
        self.write_on_branch(values, again, data)

    @precondition(lambda self: self.fork is not None)
    @rule(values=st.lists(st.integers(26, 29), min_size=1, max_size=3), again=st.booleans(), data=st.data())
    def write_more_on_branch(self, values: list[int], again: bool, data: st.DataObject) -> None:
        self.write_on_branch(values, again, data)

    def write_on_branch(self, values: list[int], again: bool, data: st.DataObject) -> None:
        assert self.fork is not None
        batches = sorted(b for b in self.fork[1].rows if b is not None)
        batch = data.draw(st.sampled_from(batches)) if again and batches and self.reruns else self.next_batch
        self.next_batch = max(self.next_batch, batch + 1)
        self.write_batch(self.fork[1], values, batch)

    @precondition(lambda self: self.fork is not None)
    @rule()
    def rebase(self) -> None:
        """What the branch did to batches is done to main: or it is a conflict, and main stays as it was."""
        assert self.fork is not None
        (base, branch), self.fork = self.fork, None
        found = self.catalog.difference(NAME, base.pointer, branch.pointer)
        assert found.added.isdisjoint(found.removed)
        main_files = {f.path for f in self.catalog.scan(NAME, self.main.pointer).files}
        one_sided = branch.pointer == base.pointer or self.main.pointer == base.pointer
        same_columns = branch.columns == self.main.columns
        try:
            pointer = self.catalog.rebase(NAME, base.pointer, branch.pointer, self.main.pointer)
        except Conflict:
            assert not one_sided
            assert not same_columns or not found.removed <= main_files
            return
        if self.main.pointer == base.pointer:
            self.main = branch
            return
        assert one_sided or (same_columns and found.removed <= main_files)
        for batch, rows in branch.rows.items():
            before = base.rows.get(batch, [])
            if rows != before:
                others = [row for row in self.main.rows.get(batch, []) if row not in before]
                self.main.rows[batch] = others + rows
        self.main.pointer = pointer

    @precondition(lambda self: self.fork is None)
    @rule(
        values=st.lists(st.integers(30, 35), min_size=1, max_size=3),
        meanwhile=st.sampled_from(["append", "run_again", "compact"]),
        again=st.booleans(),
        data=st.data(),
    )
    def race(self, values: list[int], meanwhile: str, again: bool, data: st.DataObject) -> None:
        """A fork, a write on each side, and the rebase, in one step, for chance seldom brings them together."""
        self.branch(values, again, data)
        match meanwhile:
            case "append":
                self.append([7])
            case "run_again":
                self.run_again(data, [8])
            case "compact":
                self.compact(1 << 20)
        self.rebase()

    def side(self, on_branch: bool) -> Model:
        return self.fork[1] if on_branch and self.fork else self.main

    # what must hold

    @invariant()
    def every_pointer_reads_as_it_did(self) -> None:
        if not hasattr(self, "main"):
            return
        assert self.by_duckdb(self.main.pointer) == self.main.shown()
        if not self.seen or self.seen[-1].pointer != self.main.pointer:
            self.seen.append(copy.deepcopy(self.main))
        old = self.seen[len(self.seen) // 2]
        assert self.by_duckdb(old.pointer) == old.shown()
        assert self.catalog.load(NAME, self.main.pointer).rows == len(self.main.shown())

    @rule()
    def plain_pyiceberg_reads_the_same(self) -> None:
        rows = StaticTable.from_metadata(self.main.pointer).scan().to_arrow().to_pylist()
        assert sorted(rows, key=repr) == self.main.shown()

    @rule()
    def what_is_reachable_is_enough(self) -> None:
        files = LocalFiles(self.folder)
        marked = self.catalog.reachable([(NAME, self.main.pointer)])
        assert marked <= {info.path for info in files.list()}
        assert {files.relative(f.path) for f in self.catalog.scan(NAME, self.main.pointer).files} <= marked

    def by_duckdb(self, pointer: str) -> list[dict[str, Any]]:
        scan = self.catalog.scan(NAME, pointer)
        if not scan.files:
            return []
        columns = ", ".join(
            f"{c.field_id}: {{name: '{c.name}', type: '{DUCKDB_TYPES[str(c.type)]}', default_value: NULL}}"
            for c in scan.schema
        )
        paths = [f.path for f in scan.files]
        found = ENGINE.sql(f"SELECT * FROM read_parquet({paths!r}, schema=MAP {{{columns}}})").to_arrow_table()
        return sorted(found.to_pylist(), key=repr)


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(
    max_examples=few(12),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
