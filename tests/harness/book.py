"""Driving a run's book in tests the way a scheduler does, an event at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tidemill.model.graph import WHOLE, Graph, Node, TaskKey
from tidemill.model.instance import Begun, Dispatched, Ended, Started, Succeeded
from tidemill.model.run import RunState
from tidemill.plan.decide import RunBook, Step

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def chain(*ids: str, **options: Any) -> list[Node]:
    return [Node(id_, (ids[at - 1],) if at else (), **options) for at, id_ in enumerate(ids)]


class Driver:
    """Runs a book the way a scheduler does, an event at a time."""

    def __init__(self, *nodes: Node, **options: Any) -> None:
        self.book = RunBook(Graph(nodes), "run", **options)
        self.ready: list[TaskKey] = []
        self.end: RunState | None = None
        self.log: list[str] = []

    def apply(self, event: Any, now: datetime = NOW) -> Step:
        step = self.book.apply(event, now)
        self.ready += step.ready
        self.end = step.end or self.end
        return step

    def begin(self) -> Driver:
        self.apply(Begun())
        return self

    def finish(self, id_: str, outcome: Any = None, index: int = WHOLE) -> Step:
        key = (id_, index)
        self.ready.remove(key)
        self.apply(Dispatched(key))
        number = self.book.instances[key].tries
        self.apply(Started(key, number))
        return self.apply(Ended(key, number, outcome or Succeeded()))

    def states(self) -> dict[str, str]:
        return {k if i == WHOLE else f"{k}[{i}]": v.state.value for (k, i), v in self.book.instances.items()}
