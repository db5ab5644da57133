"""Store of the audit log: entries are added, read by pages, and go when they are old."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, or_, select

from tidemill.adapters.sql.access_schema import log
from tidemill.adapters.sql.session import Session
from tidemill.model.access import Entry, Result


class SqlAuditLog:
    """The port's `AuditLog` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, entry: Entry) -> int:
        """Append an entry."""
        values: dict[str, Any] = {
            "at": entry.at, "who": entry.who, "action": entry.action, "target": entry.target,
            "result": entry.result.value, "pipeline": entry.pipeline, "address": entry.address, "token": entry.token,
            "detail": dict(entry.detail), "of_id": entry.of,
        }  # fmt: skip
        made = self._session.insert(log).values(project=self._session.project, **values)
        row = self._session.add(made.returning(log.c.id))
        assert row is not None
        return int(row.id)

    def page(
        self,
        *,
        before: int | None = None,
        limit: int = 100,
        who: str | None = None,
        action: str | None = None,
        pipeline: str | None = None,
        result: Result | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Entry]:
        """Entries, newest first."""
        c, end = log.c, log.alias("ends")
        wanted: list[Any] = [c.project == self._session.project]
        for column, value in ((c.who, who), (c.action, action), (c.pipeline, pipeline)):
            if value is not None:
                wanted.append(column == value)
        if result is not None:
            wanted.append(c.result == result.value)
        if before is not None:
            wanted.append(c.id < before)
        if since is not None:
            wanted.append(c.at >= since)
        if until is not None:
            wanted.append(c.at < until)
        has_end = select(end.c.id).where(end.c.of_id == c.id).exists()
        wanted.append(or_(c.result != Result.BEGUN.value, ~has_end))
        rows = self._session.all(select(log).where(and_(*wanted)).order_by(c.id.desc()).limit(limit))
        return [
            Entry(
                row.at, row.who, row.action, row.target, Result(row.result), row.id, row.pipeline, row.address,
                row.token, row.detail, row.of_id,
            )
            for row in rows
        ]  # fmt: skip

    def forget(self, before: datetime) -> int:
        """Let old entries go."""
        return self._session.change(delete(log).where(log.c.project == self._session.project, log.c.at < before))
