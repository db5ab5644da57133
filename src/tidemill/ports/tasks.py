"""Ports that tasks reach the rest of Tidemill by: large values, tables, other pipelines, variables, connections."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.batch import Interval
from tidemill.model.run import RunState, TaskState


class BigValues(Protocol):
    """Where values go that are too large for the metadata database."""

    def put(self, name: str, content: bytes) -> str:
        """Keep a content; returns its address. `name` begins with the run, and the same name is the same content."""
        ...

    def get(self, address: str) -> bytes:
        """The content of an address. Raises FileNotFoundError."""
        ...


class TableAccess(Protocol):
    """One table, on the run's branch."""

    def read(self, *, whole: bool = False) -> Any:
        """A frame of the rows of this run's batch, or of the whole table."""
        ...

    def write(self, frame: Any, **options: Any) -> int:
        """Write a frame as this batch's rows; returns how many. The table is published with the run."""
        ...


class Tables(Protocol):
    """The tables of a run."""

    def table(self, name: str) -> TableAccess:
        """A table by its name, `pipeline.table`, or bare one of this pipeline. Raises UnknownName."""
        ...


class Pipelines(Protocol):
    """Other pipelines, and their runs."""

    def trigger(
        self,
        pipeline: str,
        *,
        conf: Mapping[str, Any],
        logical_date: datetime | None = None,
        run_key: str | None = None,
        again: bool = False,
    ) -> int:
        """Ask for a run; returns its id. The same key or date gives the first run again, begun anew if `again`.

        Raises:
            UnknownName: there is no such pipeline.
        """
        ...

    def run_state(self, run_id: int) -> RunState | None:
        """The state of a run; None where it is not known."""
        ...

    def state_at(self, pipeline: str, moment: datetime) -> RunState | None:
        """The state of the newest run of the interval that begins at `moment`; None where there is none.

        Raises:
            UnknownName: there is no such pipeline.
        """
        ...

    def task_states_at(self, pipeline: str, task: str, moment: datetime) -> list[TaskState]:
        """The states of a task's instances there; empty where there is no run. Raises UnknownName."""
        ...

    def published(self, table: str, interval: Interval | None) -> bool:
        """Whether a batch of the table was published: that of the interval, or any. Raises UnknownName."""
        ...

    def published_before(self, pipeline: str, interval: Interval) -> Interval | None:
        """The newest interval before another whose batch is published; None where there is none."""
        ...


class Variables(Protocol):
    """Values of a project that people set."""

    def get(self, name: str) -> str | None:
        """The text of a variable; None where there is none."""
        ...


class Connections(Protocol):
    """Addresses of services with what it takes to use them."""

    def get(self, name: str) -> Mapping[str, Any] | None:
        """Parts of a connection: `conn_type, host, port, login, password, schema, extra`; None where there is none."""
        ...
