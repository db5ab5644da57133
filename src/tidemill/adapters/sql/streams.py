"""Store `streams`: what processes of streams tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from tidemill.adapters.sql.session import Session
from tidemill.adapters.sql.stream_schema import stream_processes


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
