"""Deliveries for tests: a project that delivers to a destination, and what both sides hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.deliver import Report, deliver
from tidemill.model.delivery import Delivery, DeliveryState
from tidemill.ports.destination import Destination, Load

#: The name of the connection in these tests.
TO = "there"


def deliver_to(project: Project, pipeline: Pipeline, destination: Destination) -> Report:
    """Deliver what the pipeline declares for `there`."""
    specs = pipeline.spec().deliveries
    assert specs is not None
    with project.services.metadata.write() as tx:
        tx.deliveries.declare(pipeline.name, specs)
    (spec,) = [one for one in specs if one.to == TO]
    return deliver(project.services, spec, lambda _: destination)


def recorded(project: Project) -> tuple[Delivery, DeliveryState]:
    """The one delivery on record, and how it stands."""
    with project.services.metadata.read() as tx:
        (one,) = tx.deliveries.all()
        return one, one.state(tx.refs.pointers("main"))


class Watched:
    """A destination that notes what it is told to load, and falls before or after it where it is told to."""

    def __init__(self, inner: Destination) -> None:
        self._inner = inner
        self.by_key = inner.by_key
        self.loads: list[Load] = []
        #: What to do instead of, or after, a load.
        self.before: Callable[[], Any] = lambda: None
        self.after: Callable[[], Any] = lambda: None

    def position(self, source: str) -> str | None:
        return self._inner.position(source)

    def load(self, load: Load) -> int:
        self.loads.append(load)
        self.before()
        done = self._inner.load(load)
        self.after()
        return done

    def close(self) -> None:
        self._inner.close()

    def last(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """What the last load did: write mode and removed batches, by table."""
        return {one.table: (str(one.write), one.batches) for one in self.loads[-1].tables}
