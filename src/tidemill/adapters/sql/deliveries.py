"""Store `deliveries`: what is mirrored where, and how the last tries went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update

from tidemill.adapters.sql.delivery_schema import deliveries
from tidemill.adapters.sql.session import Session
from tidemill.model.delivery import Delivery, DeliverySpec
from tidemill.model.table import TableName


class SqlDeliveries:
    """The port's `Deliveries` in one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def declare(self, pipeline: str, specs: Iterable[DeliverySpec]) -> None:
        """New and changed ones are behind; others are forgotten."""
        known = {one.spec.to: one for one in self.all(pipeline)}
        wanted = {spec.to: spec for spec in specs}
        for to in known.keys() - wanted.keys():
            self._session.change(delete(deliveries).where(*self._mine(pipeline, to)))
        for to, spec in wanted.items():
            if to not in known:
                made = self._session.insert(deliveries).values(
                    project=self._session.project, pipeline=pipeline, destination=to, spec=spec.as_json(),
                    delivered={}, rows=0, tries=0,
                )  # fmt: skip
                self._session.add_all(made, [{}])
            elif known[to].spec.as_json() != spec.as_json():
                anew: dict[str, Any] = {"spec": spec.as_json(), "delivered": {}, "tries": 0, "next_at": None}
                self._session.change(update(deliveries).where(*self._mine(pipeline, to)).values(**anew, error=None))

    def all(self, pipeline: str | None = None) -> list[Delivery]:
        """What is on record, by pipeline and destination."""
        c = deliveries.c
        query = select(deliveries).where(c.project == self._session.project).order_by(c.pipeline, c.destination)
        if pipeline is not None:
            query = query.where(c.pipeline == pipeline)
        return [
            Delivery(
                spec=DeliverySpec.from_json(row.pipeline, row.destination, row.spec),
                delivered={TableName.parse(name): pointer for name, pointer in row.delivered.items()},
                delivered_at=row.delivered_at,
                rows=row.rows,
                tries=row.tries,
                error=row.error,
                next_at=row.next_at,
            )
            for row in self._session.all(query)
        ]

    def done(self, spec: DeliverySpec, pointers: Mapping[TableName, str], rows: int, now: datetime) -> None:
        """A destination mirrors these versions."""
        values: dict[str, Any] = {"delivered": {str(name): pointer for name, pointer in pointers.items()}, "rows": rows}
        anew = {"tries": 0, "error": None, "next_at": None, "delivered_at": now}
        mine = self._mine(spec.pipeline, spec.to)
        self._session.change(update(deliveries).where(*mine).values(**values, **anew))

    def failed(self, spec: DeliverySpec, error: str, next_at: datetime) -> None:
        """Count a failed try."""
        values: dict[str, Any] = {"tries": deliveries.c.tries + 1, "error": error, "next_at": next_at}
        self._session.change(update(deliveries).where(*self._mine(spec.pipeline, spec.to)).values(**values))

    def _mine(self, pipeline: str, to: str) -> tuple[Any, ...]:
        c = deliveries.c
        return (c.project == self._session.project, c.pipeline == pipeline, c.destination == to)
