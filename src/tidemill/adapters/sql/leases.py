"""Store `leases`: what the collector must leave alone, and what it means to delete (rule 8)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from tidemill.adapters.sql.schema import doomed, leases
from tidemill.adapters.sql.session import Session
from tidemill.model.errors import Conflict
from tidemill.model.table import TableName
from tidemill.ports.metadata import Lease


class SqlLeases:
    """The port's `Leases` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def acquire(self, holder: str, pointers: Iterable[tuple[TableName, str]], until: datetime) -> int:
        """Take a lease; returns its id."""
        session = self._session
        kept = [[table.namespace, table.table, pointer] for table, pointer in pointers]
        made = session.add(
            session.insert(leases)
            .values(project=session.project, holder=holder, until=until, pointers=kept)
            .returning(leases.c.id)
        )
        assert made is not None
        return int(made.id)

    def renew(self, lease_id: int, until: datetime) -> None:
        """Prolong it. Raises Conflict where it was over and has been taken away."""
        mine = (self._own(), leases.c.id == lease_id)
        if not self._session.change(update(leases).where(*mine).values(until=until)):
            raise Conflict(f"Lease {lease_id} is over: its files may be gone.", hint="read again from the start")

    def release(self, lease_id: int) -> None:
        """End it; ending it twice is no error."""
        self._session.change(delete(leases).where(self._own(), leases.c.id == lease_id))

    def live(self, now: datetime) -> list[Lease]:
        """Leases that are not over; those over are removed (by a write transaction)."""
        if self._session.writing:
            self._session.change(delete(leases).where(self._own(), leases.c.until <= now))
        query = select(leases).where(self._own(), leases.c.until > now).order_by(leases.c.id)
        return [
            Lease(
                row.id,
                row.holder,
                row.until,
                tuple((TableName(namespace, table), pointer) for namespace, table, pointer in row.pointers),
            )
            for row in self._session.all(query)
        ]

    def doom(self, paths: Iterable[str], now: datetime) -> None:
        """Note files as garbage, seen first at `now`; a path that is noted keeps its first time."""
        rows = [{"project": self._session.project, "path": path, "noted_at": now} for path in dict.fromkeys(paths)]
        self._session.add_all(self._session.insert(doomed).on_conflict_do_nothing(), rows)

    def doomed(self, before: datetime) -> list[str]:
        """Paths noted before that time, oldest first."""
        c = doomed.c
        query = select(c.path).where(c.project == self._session.project, c.noted_at < before)
        return [path for (path,) in self._session.all(query.order_by(c.noted_at, c.path))]

    def pardon(self, paths: Iterable[str]) -> None:
        """Forget paths: they were deleted, or are in use again."""
        c = doomed.c
        one = delete(doomed).where(c.project == self._session.project, c.path == bindparam("gone"))
        self._session.add_all(one, [{"gone": path} for path in dict.fromkeys(paths)])

    def _own(self) -> Any:
        return leases.c.project == self._session.project
