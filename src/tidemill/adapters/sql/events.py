"""Store `events`: what others wait for, and the outbox, written in the transaction of what they tell (rule 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update

from tidemill.adapters.sql.schema import events
from tidemill.adapters.sql.session import Session
from tidemill.ports.metadata import Event


class SqlEvents:
    """The port's `Events` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, kind: str, payload: Mapping[str, Any], now: datetime) -> int:
        """Append an event; returns its id."""
        session = self._session
        made = session.add(
            session.insert(events)
            .values(project=session.project, kind=kind, at=now, payload=dict(payload), tries=0)
            .returning(events.c.id)
        )
        assert made is not None
        return int(made.id)

    def pending(self, kind: str, limit: int = 100) -> Sequence[Event]:
        """Events not done, oldest first."""
        c = events.c
        query = select(events).where(c.project == self._session.project, c.kind == kind, c.done_at.is_(None))
        return [
            Event(row.id, row.kind, row.at, row.payload, row.done_at, row.tries, row.error)
            for row in self._session.all(query.order_by(c.id).limit(limit))
        ]

    def done(self, event_id: int, now: datetime, error: str | None = None) -> None:
        """Mark as handled, or with `error` count a failed try. What is done stays done."""
        c = events.c
        waiting = (c.project == self._session.project, c.id == event_id, c.done_at.is_(None))
        values: dict[str, Any] = {"done_at": now} if error is None else {"tries": c.tries + 1, "error": error}
        self._session.change(update(events).where(*waiting).values(**values))

    def forget(self, prefix: str, before: datetime) -> int:
        """Let events go that nobody handles."""
        c = events.c
        # A range of kinds, which the index over what is not done finds.
        of_kind = (c.kind >= prefix, c.kind < prefix[:-1] + chr(ord(prefix[-1]) + 1))
        mine = (c.project == self._session.project, c.done_at.is_(None))
        return self._session.change(delete(events).where(*mine, *of_kind, c.at < before))
