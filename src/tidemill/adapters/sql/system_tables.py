"""The system tables that users query: `tidemill.batches`, `runs`, `tasks`, `checks`, `files`, `stream_checks`.

Their columns are a promise to users, whatever the tables beneath look like. They join on `batch_id` and `run_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, Select, Table, select

from tidemill.adapters.sql.schema import batches, checks, files, manifests, runs, tasks
from tidemill.adapters.sql.stream_schema import stream_checks
from tidemill.model.errors import UnknownName
from tidemill.model.table import Schema


@dataclass(frozen=True, slots=True)
class SystemTable:
    """One system table: where its rows come from, which table names their project, and its columns."""

    source: FromClause
    owner: Table
    order: tuple[Any, ...]
    #: Name -> (type, SQL expression).
    columns: Mapping[str, tuple[str, Any]]

    @property
    def schema(self) -> Schema:
        """Names and types, in order."""
        return Schema.of({name: kind for name, (kind, _) in self.columns.items()})

    def query(self, project: str) -> Select[Any]:
        """The project's rows, oldest first."""
        chosen = [expression.label(name) for name, (_, expression) in self.columns.items()]
        return select(*chosen).select_from(self.source).where(self.owner.c.project == project).order_by(*self.order)


def system_table(name: str) -> SystemTable:
    """The system table of that name. Raises UnknownName."""
    if name not in _TABLES:
        raise UnknownName.of("system table", name, _TABLES)
    return _TABLES[name]


def _plain(table: Table, **types: str) -> dict[str, tuple[str, Any]]:
    return {name: (kind, table.c[name]) for name, kind in types.items()}


_LONG, _TEXT, _TIME = "long", "string", "timestamptz"

_TABLES: Mapping[str, SystemTable] = {
    "batches": SystemTable(
        source=batches,
        owner=batches,
        order=(batches.c.id,),
        columns={
            "batch_id": (_LONG, batches.c.id),
            **_plain(batches, pipeline=_TEXT, interval_start=_TIME, interval_end=_TIME, run_key=_TEXT, state=_TEXT),
            **_plain(batches, created_at=_TIME, extracted_at=_TIME, archived_at=_TIME, loaded_at=_TIME),
            **_plain(batches, published_at=_TIME, code_version=_TEXT),
        },
    ),
    "runs": SystemTable(
        source=runs.join(batches),
        owner=runs,
        order=(runs.c.id,),
        columns={
            "run_id": (_LONG, runs.c.id),
            "batch_id": (_LONG, runs.c.batch_id),
            "pipeline": (_TEXT, batches.c.pipeline),
            **_plain(runs, attempt=_LONG, state=_TEXT, branch=_TEXT, created_at=_TIME, started_at=_TIME),
            **_plain(runs, ended_at=_TIME, error=_TEXT, holder=_TEXT, code_version=_TEXT),
        },
    ),
    "tasks": SystemTable(
        source=tasks.join(runs).join(batches, batches.c.id == runs.c.batch_id),
        owner=runs,
        order=(tasks.c.id,),
        columns={
            "run_id": (_LONG, tasks.c.run_id),
            "batch_id": (_LONG, runs.c.batch_id),
            "pipeline": (_TEXT, batches.c.pipeline),
            **_plain(tasks, task=_TEXT, state=_TEXT, tries=_LONG, started_at=_TIME, ended_at=_TIME),
            **_plain(tasks, rows=_LONG, bytes=_LONG, error=_TEXT),
        },
    ),
    "checks": SystemTable(
        source=checks,
        owner=checks,
        order=(checks.c.id,),
        columns={
            **_plain(checks, run_id=_LONG, batch_id=_LONG),
            "table": (_TEXT, checks.c.namespace + "." + checks.c.table_name),
            **_plain(checks, name=_TEXT, severity=_TEXT, passed="boolean", at=_TIME, rows=_LONG, failed=_LONG),
            **_plain(checks, observed=_TEXT, expected=_TEXT, failures=_TEXT, error=_TEXT),
        },
    ),
    "files": SystemTable(
        source=files.join(manifests),
        owner=manifests,
        order=(files.c.manifest_id, files.c.position),
        columns={
            **_plain(manifests, batch_id=_LONG, pipeline=_TEXT, source=_TEXT, version=_LONG, extracted_at=_TIME),
            **_plain(files, path=_TEXT, name=_TEXT, sha256=_TEXT, bytes=_LONG, rows=_LONG, format=_TEXT),
            **_plain(files, compression=_TEXT),
        },
    ),
    "stream_checks": SystemTable(
        source=stream_checks,
        owner=stream_checks,
        order=(stream_checks.c.stream, stream_checks.c.hour, stream_checks.c.judged, stream_checks.c.name),
        columns={
            **_plain(stream_checks, stream=_TEXT, hour=_TIME, judged=_TEXT, name=_TEXT, severity=_TEXT, task=_TEXT),
            **_plain(stream_checks, rows=_LONG, failed=_LONG),
        },
    ),
}
