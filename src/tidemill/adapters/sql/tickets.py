"""Publish tickets: a run that lost a table once takes its ticket, so that its second try cannot lose (rule 3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, select

from tidemill.adapters.sql.schema import tickets
from tidemill.adapters.sql.session import Session
from tidemill.model.table import TableName


class Tickets:
    """What `SqlRefs` knows about tickets."""

    _session: Session

    def ticket(self, table: TableName, run_id: int, *, now: datetime, until: datetime) -> bool:
        """Take the publish ticket of a table, or prolong one's own; False: another run holds it."""
        session = self._session
        values = {"run_id": run_id, "until": until}
        free = (tickets.c.until <= now) | (tickets.c.run_id == run_id)
        took = session.add(
            session.insert(tickets)
            .values(project=session.project, namespace=table.namespace, table_name=table.table, **values)
            .on_conflict_do_update(index_elements=["project", "namespace", "table_name"], set_=values, where=free)
            .returning(tickets.c.run_id)
        )
        return took is not None

    def ticket_holder(self, table: TableName, now: datetime) -> int | None:
        """The run that holds the table's ticket."""
        here = (tickets.c.namespace == table.namespace, tickets.c.table_name == table.table, tickets.c.until > now)
        row = self._session.first(select(tickets.c.run_id).where(self._of_project(), *here))
        return row.run_id if row else None

    def release_tickets(self, run_id: int) -> None:
        """Give back all tickets of a run."""
        self._session.change(delete(tickets).where(self._of_project(), tickets.c.run_id == run_id))

    def _of_project(self) -> Any:
        return tickets.c.project == self._session.project
