"""Deliveries in processes that die at a moment: between rows, around the load, at each write, around each commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.crashing import guarded
from harness.project import Project
from tidemill.authoring.pipeline import Pipeline
from tidemill.flow.deliver import deliver
from tidemill.ports.destination import Destination, Load, TableLoad
from tidemill.testing.faults import FaultPoints

TABLES = ("orders", "latest")


def declare(project: Project) -> Pipeline:
    """A table that is appended to, and one with keys, delivered; the feeds are those of `crashing.write_feeds`."""
    p = project.pipeline("shop")
    p.files("feeds/{{ ds }}.csv", name="orders", columns={"id": "long", "place": "string", "amount": "long"})

    @p.table(key="id", write="upsert")
    def latest(orders: Any) -> Any:
        return orders

    p.deliver(*TABLES, to="there")
    return p


class Pointed:
    """A destination with a fault point before a load, before each of its record batches, and after it."""

    def __init__(self, inner: Destination, points: FaultPoints) -> None:
        self._inner = inner
        self._points = points
        self.by_key = inner.by_key

    def position(self, source: str) -> str | None:
        return self._inner.position(source)

    def load(self, load: Load) -> int:
        self._points.point("before load")
        tables = [replace(one, rows=self._rows(one)) for one in load.tables]
        done = self._inner.load(replace(load, tables=tables))
        self._points.point("after load")
        return done

    def close(self) -> None:
        self._inner.close()

    def _rows(self, table: TableLoad) -> Iterator[Any]:
        for batch in table.rows:
            self._points.point(f"rows of {table.table}")
            yield batch
        self._points.point(f"end of {table.table}")


def opener(kind: str, address: str) -> Callable[[FaultPoints], Destination]:
    """Opens a destination; files pass points of their own."""

    def opened(points: FaultPoints) -> Destination:
        if kind == "duckdb":
            from tidemill.adapters.duckdb.destination import DuckDestination

            return DuckDestination(Path(address))
        if kind == "postgresql":
            from psycopg.conninfo import conninfo_to_dict

            from tidemill.adapters.postgres.destination import PostgresDestination

            return PostgresDestination(conninfo_to_dict(address))
        from tidemill.adapters.arrow.destination import FilesDestination
        from tidemill.adapters.localfs.files import LocalFiles
        from tidemill.adapters.system.clock import SystemClock

        return FilesDestination(points.files(LocalFiles(Path(address))), SystemClock())

    return opened


def deliver_dying(root: Path, kind: str, address: str, report: Path, at: int | None) -> None:
    """Deliver what the project has published, and die at a point; the report tells those that were passed."""

    def work() -> None:
        points = FaultPoints(at)
        project = Project(root, wrap_metadata=points.metadata)
        (spec,) = declare(project).spec().deliveries or ()
        points.passed.clear()
        made = deliver(project.services, spec, lambda _: Pointed(opener(kind, address)(points), points))
        if made.error is not None:
            raise made.error
        report.write_text("\n".join(points.passed), encoding="utf-8")

    guarded(work, report)
