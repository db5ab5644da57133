"""What a task is told about its run: Airflow's variables by name, tables, and what reaches outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tidemill.model.errors import SettingsError, UnknownName, UserError
from tidemill.model.run import TaskRun
from tidemill.ports.clock import Clock
from tidemill.ports.dbt import Dbt
from tidemill.ports.outside import Outside
from tidemill.ports.tasks import (
    Assets,
    AssetStates,
    BigValues,
    Connections,
    Pipelines,
    TableAccess,
    Tables,
    Variables,
)
from tidemill.ports.xcoms import XComs

#: Variables of the context that dbt projects are given.
DBT_VARS = ("ds", "ds_nodash", "ts", "data_interval_start", "data_interval_end", "logical_date", "run_id")


@dataclass(frozen=True)
class TaskServices:
    """What tasks reach the rest of Tidemill by; what is None is not there (in a test, say).

    Args:
        xcoms: what tasks of the run handed over.
        clock: the time.
        root: the project's folder.
        big: where large values go; without it they stay among the others.
        tables: the tables of this run. `pipelines`: other pipelines.
        variables, connections: the project's. `outside`: systems that connections lead to.
        dbt: what runs dbt projects.
        assets: what was told of assets. `asset_states`: what tasks keep of them.
        pages: what links to the project's pages begin with; empty: there are none.
        testing: nothing of the run is kept.
        standing: the task instances of a run, by its number, as they are on record.
    """

    xcoms: XComs
    clock: Clock
    root: Path
    big: BigValues | None = None
    tables: Tables | None = None
    pipelines: Pipelines | None = None
    variables: Variables | None = None
    connections: Connections | None = None
    outside: Outside | None = None
    dbt: Dbt | None = None
    assets: Assets | None = None
    asset_states: AssetStates | None = None
    pages: str = ""
    testing: bool = False
    standing: Callable[[int], Sequence[TaskRun]] = lambda _run_id: ()

    def need_pipelines(self) -> Pipelines:
        """Other pipelines. Raises SettingsError where none can be reached from here."""
        if self.pipelines is None:
            raise SettingsError(
                "Other pipelines cannot be reached from here.", hint="run it by a scheduler: tidemill up"
            )
        return self.pipelines

    def need_outside(self) -> Outside:
        """Systems outside. Raises SettingsError where none can be reached from here."""
        if self.outside is None:
            raise SettingsError("Systems outside cannot be reached from here.", hint="run it in a project")
        return self.outside


class TaskContext(Mapping[str, Any]):
    """The run, the task and its try: `context["ds"]` or `context.ds`.

    Values that are costly to find are found when they are asked for. `table("t")` gives a table of the run to read and
    to write.
    """

    def __init__(
        self, values: Mapping[str, Any], later: Mapping[str, Callable[[], Any]], services: TaskServices
    ) -> None:
        self._values = dict(values)
        self._later = dict(later)
        self.services = services
        self.skipped: dict[str, None] = {}
        #: What the try reports as rows that it wrote.
        self.rows: int | None = None

    def __getitem__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        if name in self._later:
            self._values[name] = self._later[name]()
            return self._values[name]
        raise KeyError(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(str(UnknownName.of("variable of the context", name, self))) from None

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._values, *self._later)))

    def __len__(self) -> int:
        return len(self._values.keys() | self._later.keys())

    def add(self, **values: Any) -> None:
        """More values: the exception, for callbacks."""
        self._values |= values

    def change(self, names: Iterable[str], by: Callable[[Any], Any]) -> None:
        """Give other values by some names, made of those that are there; made when they are asked for."""
        for name in names:
            found = self._values.pop(name) if name in self._values else None
            before = self._later.get(name, partial(_same, found))
            self._later[name] = partial(_changed, before, by)

    def skip(self, task_ids: Iterable[str]) -> None:
        """Decide against tasks after this one: they are skipped once this one has ended well."""
        self.skipped |= dict.fromkeys(task_ids)

    def table(self, name: str) -> TableAccess:
        """A table of this run: `.read()` its rows, `.write(frame)`.

        Raises:
            UserError: there are no tables here. UnknownName: there is no such table.
        """
        if self.services.tables is None:
            raise UserError(f'The table "{name}" cannot be reached here.', hint="tables are there in runs of a project")
        return self.services.tables.table(name)

    def __repr__(self) -> str:
        return f"<context of {self._values.get('task_instance_key_str')}>"


def _same(value: Any) -> Any:
    return value


def _changed(before: Callable[[], Any], by: Callable[[Any], Any]) -> Any:
    return by(before())


_current: ContextVar[TaskContext | None] = ContextVar("tidemill_context", default=None)


def get_current_context() -> TaskContext:
    """The context of the task that is being executed.

    Raises:
        UserError: none is.
    """
    found = _current.get()
    if found is None:
        raise UserError("No task is being executed.", hint="call get_current_context() within a task's function")
    return found


def enter_context(context: TaskContext | None) -> None:
    """A task begins or, with None, ends."""
    _current.set(context)


@contextmanager
def within_context(context: TaskContext | None) -> Iterator[None]:
    """What is called within this block is called for a task, whether or not one is being executed."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)
