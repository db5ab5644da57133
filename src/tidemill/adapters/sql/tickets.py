"""Publish tickets: a run that lost a table once takes its ticket, so that its second try cannot lose (rule 3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, select

from tidemill.adapters.sql.schema import runs, tickets
from tidemill.adapters.sql.session import Session
from tidemill.model.run import RUN_ENDS
from tidemill.model.table import TableName


class Tickets:
    """What `SqlRefs` knows about tickets."""

    _session: Session

    def ticket(self, table: TableName, run_id: int, *, now: datetime) -> bool:
        """Take the publish ticket of a table; False: another run that is under way holds it."""
        session = self._session
        values = {"run_id": run_id}
        free = (tickets.c.run_id == run_id) | ~_holds(now)
        took = session.add(
            session.insert(tickets)
            .values(project=session.project, namespace=table.namespace, table_name=table.table, **values)
            .on_conflict_do_update(index_elements=["project", "namespace", "table_name"], set_=values, where=free)
            .returning(tickets.c.run_id)
        )
        return took is not None

    def ticket_holder(self, table: TableName, now: datetime) -> int | None:
        """The run that holds the table's ticket: one that has ended, or whose lease is over, holds none."""
        here = (tickets.c.namespace == table.namespace, tickets.c.table_name == table.table, _holds(now))
        row = self._session.first(select(tickets.c.run_id).where(self._of_project(), *here))
        return row.run_id if row else None

    def release_tickets(self, run_id: int) -> None:
        """Give back all tickets of a run."""
        self._session.change(delete(tickets).where(self._of_project(), tickets.c.run_id == run_id))

    def _of_project(self) -> Any:
        return tickets.c.project == self._session.project


def _holds(now: datetime) -> Any:
    """A ticket is worth as much as the lease of its run."""
    alive = (runs.c.id == tickets.c.run_id, runs.c.state.not_in(RUN_ENDS), runs.c.lease_until > now)
    return exists(select(runs.c.id).where(*alive).correlate(tickets))
