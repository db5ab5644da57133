"""What the tests of SQL engines share: the engines, data files with field ids, and rows of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.adapters.duckdb.engine import DuckDBEngine
from tidemill.model.table import Column, DataFile, Scan, Schema, TableName
from tidemill.model.types import parse_type
from tidemill.ports.engine import SqlEngine

NAME = TableName("flights", "clean")
#: Every adapter that offers the port; each is made with (threads, memory_limit, temp_directory).
ENGINES = (DuckDBEngine,)
CLEAN = pa.table({"carrier": ["AA", "UA", "B6"], "dep_delay": [1, 2, None]})


def rows(engine: SqlEngine, sql: str, inputs: dict[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    with engine.query(sql, inputs or {}, **options) as reader:
        return list(reader.read_all().to_pylist())


def schema(**columns: str) -> Schema:
    """Columns as `name="id type"`."""
    made = [(name, *text.split(" ", 1)) for name, text in columns.items()]
    return Schema(tuple(Column(name, parse_type(kind), field_id=int(id)) for name, id, kind in made))


def write(path: Path, columns: dict[str, tuple[int, pa.DataType, list[Any]]], batch_id: int | None = None) -> DataFile:
    """A data file whose columns are `name: (field id, type, values)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [pa.field(n, t, metadata={"PARQUET:field_id": str(i)}) for n, (i, t, _) in columns.items()]
    table = pa.table([pa.array(v, t) for _, t, v in columns.values()], schema=pa.schema(fields))
    pq.write_table(table, path)
    return DataFile(str(path), table.num_rows, path.stat().st_size, batch_id)


def scan(files: list[DataFile], columns: Schema, batch_id: int | None = None) -> Scan:
    return Scan(NAME, columns, tuple(files), batch_id=batch_id)
