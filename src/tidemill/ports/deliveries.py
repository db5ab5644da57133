"""Port `deliveries`: a part of the metadata store. What is mirrored where, and how the last tries went.

A row is made in the transaction of a publish, so what is published and not delivered is on record from that moment on.
Whether it is behind is told by the pointers of `main`, whoever has moved them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from tidemill.model.delivery import Delivery, DeliverySpec
from tidemill.model.table import TableName


class Deliveries(Protocol):
    """One record for each pipeline and destination."""

    def declare(self, pipeline: str, specs: Iterable[DeliverySpec]) -> None:
        """These are all the deliveries of a pipeline: new ones are behind, those that are asked for otherwise too, and
        those that are not among them are forgotten.
        """
        ...

    def all(self, pipeline: str | None = None) -> list[Delivery]:
        """What is on record, by pipeline and destination."""
        ...

    def done(self, spec: DeliverySpec, pointers: Mapping[TableName, str], rows: int, now: datetime) -> None:
        """A destination mirrors these versions; failed tries are forgotten. Says nothing where there is no record."""
        ...

    def failed(self, spec: DeliverySpec, error: str, next_at: datetime) -> None:
        """Count a failed try."""
        ...
