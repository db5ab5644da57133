"""Ports that tasks reach the rest of Tidemill by: large values, tables, other pipelines, variables, connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.asset import AssetEvent
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


@dataclass(frozen=True, slots=True)
class AskedRun:
    """A run of another pipeline that a task has asked for.

    Args:
        pipeline: which.
        conf: parameters of the run.
        logical_date: a moment of its interval; None: it has none.
        run_key: tells it from others without an interval.
    """

    pipeline: str
    conf: Mapping[str, Any]
    logical_date: datetime | None = None
    run_key: str | None = None


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

    def group_states_at(self, pipeline: str, group: str, moment: datetime) -> list[TaskState]:
        """The states of all instances of the tasks of a group there; empty where there is no run, or no such group.

        Raises UnknownName.
        """
        ...

    def published(self, table: str, interval: Interval | None) -> bool:
        """Whether a batch of the table was published: that of the interval, or any. Raises UnknownName."""
        ...

    def published_before(self, pipeline: str, interval: Interval) -> Interval | None:
        """The newest interval before another whose batch is published; None where there is none."""
        ...


class Assets(Protocol):
    """What tasks have told of assets."""

    def events(self, names: Iterable[str], most: int) -> list[AssetEvent]:
        """What was told of assets, or through aliases (`alias:name`), by tasks of published runs: the newest, oldest
        first.
        """
        ...


class AssetStates(Protocol):
    """What tasks keep of an asset from one run to the next, as JSON texts by key: how far it was read, say."""

    def all(self, asset: str) -> dict[str, str]:
        """All values of an asset; empty where there are none."""
        ...

    def change(self, asset: str, values: Mapping[str, str | None], batch_id: int) -> None:
        """Keep values, and forget those that are None. Others stay, those that somebody keeps meanwhile among them.

        Args:
            asset: its name.
            values: by key.
            batch_id: the batch whose task says so.
        """
        ...


class Variables(Protocol):
    """Values of a project that people set."""

    def get(self, name: str) -> str | None:
        """The text of a variable; None where there is none."""
        ...


class OwnVariables(Variables, Protocol):
    """The same where tasks may set them."""

    def set(self, name: str, text: str) -> None:
        """Set a variable in the project's store.

        Raises:
            SettingsError: it is in a place that is asked before the store, the name or the text cannot be kept, or
                there is no store, or no key of it.
        """
        ...

    def delete(self, name: str) -> bool:
        """Forget a variable of the project's store; whether it was there. Raises SettingsError."""
        ...


class Connections(Protocol):
    """Addresses of services with what it takes to use them."""

    def get(self, name: str) -> Mapping[str, Any] | None:
        """Parts of a connection: `conn_type, host, port, login, password, schema, extra`; None where there is none."""
        ...
