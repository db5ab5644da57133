"""Store `checks`: results of checks, one row for each check of a table in an attempt."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from tidemill.adapters.sql.schema import checks
from tidemill.adapters.sql.session import AnyRow, Session
from tidemill.model.table import TableName
from tidemill.ports.metadata import CheckRecord


class SqlChecks:
    """The port's `Checks` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, records: Iterable[CheckRecord]) -> None:
        """Keep results."""
        rows = [{"project": self._session.project, **_columns(record)} for record in records]
        self._session.add_all(self._session.insert(checks), rows)

    def recent(
        self, *, run_id: int | None = None, table: TableName | None = None, skip: int = 0, limit: int | None = None
    ) -> list[CheckRecord]:
        """Results, newest first, without the first `skip`."""
        c = checks.c
        query = select(checks).where(c.project == self._session.project).order_by(c.id.desc()).limit(limit)
        if run_id is not None:
            query = query.where(c.run_id == run_id)
        if table is not None:
            query = query.where(c.namespace == table.namespace, c.table_name == table.table)
        if skip:
            query = query.offset(skip)
        return [_record(row) for row in self._session.all(query)]


def _columns(record: CheckRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "batch_id": record.batch_id,
        "namespace": record.table.namespace,
        "table_name": record.table.table,
        "name": record.name,
        "severity": record.severity,
        "passed": record.passed,
        "at": record.at,
        "rows": record.rows,
        "failed": record.failed,
        "observed": record.observed,
        "expected": record.expected,
        "failures": record.failures,
        "error": record.error,
    }


def _record(row: AnyRow) -> CheckRecord:
    return CheckRecord(
        run_id=row.run_id,
        batch_id=row.batch_id,
        table=TableName(row.namespace, row.table_name),
        name=row.name,
        severity=row.severity,
        passed=row.passed,
        at=row.at,
        rows=row.rows,
        failed=row.failed,
        observed=row.observed,
        expected=row.expected,
        failures=row.failures,
        error=row.error,
    )
