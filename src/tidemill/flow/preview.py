"""Preview: one table for one interval, without publishing and without a branch that stays.

The run goes as far as the table needs, on a branch of its own; then the branch is dropped. What was extracted stays
in the archive, so a later run finds it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tidemill.flow.attempt import Attempt, open_attempt
from tidemill.flow.extract import extract
from tidemill.flow.load import load
from tidemill.flow.run import open_batch
from tidemill.flow.services import Services
from tidemill.flow.transform import build
from tidemill.model.batch import BatchKey
from tidemill.model.branch import RefState
from tidemill.model.errors import UnknownName
from tidemill.model.pipeline import PipelineSpec, Task, TaskKind, tasks_of
from tidemill.model.run import RunState
from tidemill.model.table import Scan, TableName


@contextmanager
def previewed(services: Services, pipeline: PipelineSpec, table: str, key: BatchKey) -> Iterator[Scan]:
    """Build `table` and what it needs; gives the batch's rows of it as a scan, which holds within the context.

    Raises:
        UnknownName: the pipeline has no such table.
        UserError: the table is a view, which has no rows of its own.
    """
    if pipeline.table(table) is None:
        raise UnknownName.of("table", table, [*pipeline.sources, *pipeline.transforms])
    batch = open_batch(services, pipeline, key)
    with open_attempt(services, pipeline, batch) as attempt:
        try:
            for task in _needed(pipeline, table):
                _execute(attempt, task)
            name = TableName(pipeline.name, table)
            yield services.catalog.scan(name, attempt.written[name], batch_id=batch.id)
        finally:
            _forget(attempt)


def _needed(pipeline: PipelineSpec, table: str) -> list[Task]:
    """The tasks above the table, checks left out: a preview shows rows also where they are wrong."""
    tasks = {t.id: t for t in tasks_of(pipeline)}
    last = next(t for t in tasks.values() if t.name == table and t.kind in (TaskKind.LOAD, TaskKind.BUILD))
    wanted: set[str] = set()
    todo = [last.id]
    while todo:
        task_id = todo.pop()
        if task_id not in wanted:
            wanted.add(task_id)
            todo.extend(tasks[task_id].upstream)
    return [t for t in tasks.values() if t.id in wanted and t.kind is not TaskKind.CHECK]


def _execute(attempt: Attempt, task: Task) -> None:
    pipeline = attempt.pipeline
    if task.kind is TaskKind.EXTRACT:
        extract(attempt, pipeline.sources[task.name])
    elif task.kind is TaskKind.LOAD:
        source = pipeline.sources[task.name]
        load(attempt, source, extract(attempt, source))
    else:
        build(attempt, pipeline.transforms[task.name])


def _forget(attempt: Attempt) -> None:
    """End the attempt and drop its branch."""
    run = attempt.run
    with attempt.services.metadata.write() as tx:
        now = attempt.services.clock.now()
        tx.runs.move(run.id, run.fence, RunState.CANCELLED, now=now, error="a preview")
        if run.branch is not None:
            tx.refs.remove_pointers(run.branch)
            tx.refs.update(run.branch, state=RefState.DROPPED)
