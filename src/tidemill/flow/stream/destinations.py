"""Rows of a stream into a database outside: the destination itself keeps how far they have come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tidemill.flow.stream.loading import EVERY, Loader
from tidemill.model.frame.topic import ToDestination
from tidemill.model.table import Schema
from tidemill.ports.clock import Clock
from tidemill.ports.destination import Destination, Load, TableLoad
from tidemill.ports.topic import Topics


def source_of(stream: str, step: ToDestination) -> str:
    """The name under which a stream's position is kept in the destination."""
    return f"{stream}>{step.table}"


class DestinationLoader(Loader):
    """Loads one table of a destination.

    Args:
        stream: its full name.
        step: where rows go, and how.
        destination: the database.
        as_arrow: gives of rows their columns, and them as Arrow record batches.
        topics, topic, unpack, clock, every: see `Loader`.
    """

    def __init__(
        self,
        stream: str,
        step: ToDestination,
        destination: Destination,
        as_arrow: Callable[[Any], tuple[Schema, list[Any]]],
        topics: Topics,
        topic: str,
        unpack: Callable[[list[bytes]], Any],
        clock: Clock,
        every: timedelta = EVERY,
    ) -> None:
        super().__init__(step.place, topics, topic, unpack, clock, every)
        self._source = source_of(stream, step)
        self._step = step
        self._destination = destination
        self._as_arrow = as_arrow

    def begin(self) -> int:
        """By what the destination says."""
        return int(self._destination.position(self._source) or 0)

    def publish(self, rows: Any, first: int, after: int) -> None:
        """Load, where the position is still where the rows begin."""
        columns, batches = self._as_arrow(rows)
        step = self._step
        table = TableLoad(step.table, columns, batches, step.write, step.key, step.order)
        self._destination.load(Load(self._source, str(first) if first else None, str(after), (table,)))
