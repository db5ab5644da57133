"""Store `streams`: what processes of streams tell of themselves, which are paused, and what checks have found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select

from tidemill.adapters.sql.session import Session
from tidemill.adapters.sql.stream_schema import stream_checks, stream_pauses, stream_processes
from tidemill.ports.streams import CheckCount


class SqlStreams:
    """The port's `Streams` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def tell(self, stream: str, process: str, at: datetime, facts: Mapping[str, Any]) -> None:
        """Replace what a process has told before."""
        told = {"at": at, "facts": dict(facts)}
        insert = self._session.insert(stream_processes)
        keep = insert.on_conflict_do_update(index_elements=["project", "stream", "process"], set_=told)
        key = {"project": self._session.project, "stream": stream, "process": process}
        self._session.add_all(keep.values(**key, **told), [{}])

    def told(self, stream: str | None = None) -> list[Mapping[str, Any]]:
        """What is known, by stream and process."""
        c = stream_processes.c
        query = select(c.facts).where(c.project == self._session.project).order_by(c.stream, c.process)
        if stream is not None:
            query = query.where(c.stream == stream)
        return [row.facts for row in self._session.all(query)]

    def forget(self, stream: str, process: str) -> None:
        """A process has ended."""
        c = stream_processes.c
        mine = (c.project == self._session.project, c.stream == stream, c.process == process)
        self._session.change(delete(stream_processes).where(*mine))

    def forget_before(self, at: datetime) -> None:
        """Forget processes that have told nothing since."""
        c = stream_processes.c
        self._session.change(delete(stream_processes).where(c.project == self._session.project, c.at < at))

    def pause(self, stream: str, at: datetime) -> None:
        """The first pause stays."""
        insert = self._session.insert(stream_pauses).on_conflict_do_nothing()
        self._session.add_all(insert.values(project=self._session.project, stream=stream, at=at), [{}])

    def resume(self, stream: str) -> None:
        """Processes that wait look every second."""
        c = stream_pauses.c
        self._session.change(delete(stream_pauses).where(c.project == self._session.project, c.stream == stream))

    def paused(self) -> frozenset[str]:
        """Their names."""
        c = stream_pauses.c
        query = select(c.stream).where(c.project == self._session.project)
        return frozenset(row.stream for row in self._session.all(query))

    def count(self, stream: str, task: str, since: int, counts: Iterable[CheckCount]) -> None:
        """Keep the greater counts."""
        key = ("project", "stream", "hour", "task", "since", "judged", "name")
        insert = self._session.insert(stream_checks)
        new = insert.excluded
        kept = insert.on_conflict_do_update(
            index_elements=key,
            set_={"severity": new.severity, "rows": new.rows, "failed": new.failed},
            where=stream_checks.c.rows < new.rows,
        )
        mine = {"project": self._session.project, "stream": stream, "task": task, "since": since}
        self._session.add_all(
            kept,
            [
                {**mine, "hour": c.hour, "judged": c.judged, "name": c.name, "severity": c.severity,
                 "rows": c.rows, "failed": c.failed}
                for c in counts
            ],
        )  # fmt: skip

    def counted(self, stream: str | None = None, begin: datetime | None = None) -> list[tuple[str, CheckCount]]:
        """What was found, of all tasks together."""
        c = stream_checks.c
        by = (c.stream, c.hour, c.judged, c.name)
        sums = (
            func.max(c.severity).label("severity"),
            func.sum(c.rows).label("seen"),
            func.sum(c.failed).label("failed"),
        )
        query = select(*by, *sums).where(c.project == self._session.project).group_by(*by).order_by(*by)
        if stream is not None:
            query = query.where(c.stream == stream)
        if begin is not None:
            query = query.where(c.hour >= begin)
        return [
            (row.stream, CheckCount(row.hour, row.judged, row.name, row.severity, int(row.seen), int(row.failed)))
            for row in self._session.all(query)
        ]

    def forget_counts(self, before: datetime) -> None:
        """Forget old hours."""
        c = stream_checks.c
        self._session.change(delete(stream_checks).where(c.project == self._session.project, c.hour < before))
