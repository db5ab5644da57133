"""A lake for tests: a catalog on files, the few steps that most tests take, and DuckDB to read a `Scan` back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.table import StaticTable

from tidemill.adapters.iceberg.catalog import IcebergCatalog
from tidemill.model.branch import ChangeKind, StagedFile, TableChange
from tidemill.model.table import Scan, Schema, TableName, TableSpec
from tidemill.model.types import Decimal, List, Map, Struct, Type
from tidemill.ports.files import Files
from tidemill.testing.clock import ManualClock

NAME = TableName("bronze", "flights")
START = datetime(2013, 1, 1, tzinfo=UTC)
PLAIN = {"id": "long", "v": "string", "_batch_id": "long"}


class Lake:
    """A catalog, and the few steps that most tests take."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.clock = ManualClock(START)
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


def plain_rows(pointer: str) -> list[dict[str, Any]]:
    """The rows as plain PyIceberg reads them, in any order: it starts with the newest."""
    rows: list[dict[str, Any]] = StaticTable.from_metadata(pointer).scan().to_arrow().to_pylist()
    return in_any_order(rows)


def in_any_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=repr)
