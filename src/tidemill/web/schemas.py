"""The columns that a table has had: since when, and what changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from tidemill.flow.query import reading
from tidemill.model.errors import UserError
from tidemill.model.table import Schema
from tidemill.plan.schema_history import column_changes
from tidemill.web.branches import ColumnChange
from tidemill.web.table import Asked
from tidemill.web.tables import ColumnItem, table_of


class SchemaItem(Struct):
    """Columns that a table has had. Since when is not known where no snapshot with them is kept."""

    schema_id: int
    since: datetime | None
    snapshot_id: str | None
    batch_id: int | None
    columns: list[ColumnItem]
    changes: list[ColumnChange]


class Schemas(Struct):
    """All columns that a table has had, the newest first; `changes` are those since the one before."""

    branch: str
    table: str
    schemas: list[SchemaItem]


def show_schemas(asked: Asked) -> dict[str, Any]:
    """How a table's columns have changed."""
    wanted = asked.query
    with asked.backend.lake() as services, reading(services, wanted.branch, wanted.at) as seen:
        name = seen.resolve(str(table_of(asked)))
        if name not in seen.pointers:
            raise UserError(f'"{name}" is a view: its columns are those of its SQL.')
        found = services.catalog.schemas(name, seen.pointers[name])
    made: list[dict[str, Any]] = []
    before = Schema()
    for one in found:
        made.append({
            "schema_id": one.schema_id, "since": one.first and one.first.committed_at,
            "snapshot_id": one.first and str(one.first.snapshot_id), "batch_id": one.first and one.first.batch_id,
            "columns": [ColumnItem(column.name, str(column.type)) for column in one.schema],
            "changes": [ColumnChange(old, new) for old, new in column_changes(before, one.schema)],
        })  # fmt: skip
        before = one.schema
    return {"branch": wanted.branch, "table": str(name), "schemas": made[::-1]}
