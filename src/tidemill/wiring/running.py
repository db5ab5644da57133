"""Running a DAG here and now: its files are read, a run is asked for, and this process drives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tidemill.wiring.services import holder, open_metadata, system_clock
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.model.batch import Interval
    from tidemill.model.run import Run
    from tidemill.ports.executor import JobEnded


def run_here(
    settings: Settings,
    name: str,
    *,
    interval: Interval | None = None,
    run_key: str | None = None,
    conf: Mapping[str, Any] | None = None,
    only: tuple[str, ...] = (),
    begun: Callable[[Run], None] = lambda _: None,
    ended: Callable[[JobEnded], None] = lambda _: None,
) -> Run:
    """Run a pipeline of the project for one batch, by its tasks one after another; returns how it ended.

    Args:
        settings: the project.
        name: the pipeline.
        interval: of the batch, or its run key; neither: a run of its own.
        run_key: see there.
        conf: parameters.
        only: tasks that it is restricted to, with what follows from them.
        begun: is told of the run.
        ended: is told of each try that has ended.

    Raises:
        UnknownName: there is no such pipeline, or task.
        Busy: the batch is being run.
    """
    from tidemill.adapters.sql.runstore import SqlRunStore
    from tidemill.adapters.sql.store import SqlMetadata
    from tidemill.flow.control import trigger
    from tidemill.flow.inline import drive
    from tidemill.wiring.parsing import parse_once
    from tidemill.wiring.performing import Performer

    parse_once(settings)
    clock = system_clock()
    metadata = open_metadata(settings, clock)
    assert isinstance(metadata, SqlMetadata)
    try:
        run = trigger(metadata, name, clock.now(), interval=interval, run_key=run_key, conf=conf, only=only)
        begun(run)
        store = SqlRunStore(metadata, clock)
        performer = Performer(settings)
        return drive(metadata, store, clock, store.definition, holder(), run, performer, ended)
    finally:
        metadata.close()
