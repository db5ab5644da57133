"""Tables of a run, for a task that asks its context for one: `context.table("orders").write(frame)`.

The task joins the run's attempt when it first touches a table, so a run whose tasks touch none has no branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from tidemill.authoring.options import table_spec
from tidemill.flow.attempt import Attempt
from tidemill.flow.services import Services
from tidemill.flow.shared import joined_attempt
from tidemill.flow.transform import build
from tidemill.model.pipeline import PipelineSpec, Scope, TransformSpec
from tidemill.model.run import RunInfo
from tidemill.model.table import PublishMode, TableName
from tidemill.plan.sql import quote
from tidemill.ports.executor import Job
from tidemill.ports.tasks import TableAccess, Tables


def spec_of(run: RunInfo) -> PipelineSpec:
    """What a run of tasks is, seen as a pipeline that declares no table."""
    return PipelineSpec(run.pipeline, None, None, None, False, {}, {}, {}, params=run.conf, place=run.file)


class RunTables(Tables):
    """The tables of one try of a task; `close` ends what it holds.

    Args:
        services: asked for when a table is first touched, because that loads the engines.
        job: the try.
        as_frame: what makes a frame for the user of an Arrow table.
    """

    def __init__(self, services: Callable[[], Services], job: Job, as_frame: Callable[[Any], Any]) -> None:
        self._services = services
        self._job = job
        self._as_frame = as_frame
        self._held = ExitStack()
        self._attempt: Attempt | None = None

    def table(self, name: str) -> TableAccess:
        """A table by its name, `pipeline.table`, or bare one of this pipeline."""
        assert self._job.run is not None
        return _RunTable(self, TableName.parse(name, self._job.run.pipeline))

    @property
    def attempt(self) -> Attempt:
        """The run's attempt, joined."""
        if self._attempt is None:
            run = self._job.run
            assert run is not None
            joined = joined_attempt(self._services(), spec_of(run), self._job, touches=True)
            self._attempt = self._held.enter_context(joined)
        return self._attempt

    def read(self, name: TableName, scope: Scope) -> Any:
        """The rows of a table as a frame."""
        scan = self.attempt.scan(name, scope)
        query = f"SELECT * FROM {quote('t')}"  # noqa: S608 - a constant
        with self.attempt.services.sql.query(query, {"t": scan}) as reader:
            return self._as_frame(reader.read_all())

    def write(self, name: TableName, frame: Any, options: Mapping[str, Any]) -> int:
        """Write a frame as the batch's rows of a table."""
        spec = table_spec(name, PublishMode.RUN, dict(options))
        built = build(self.attempt, TransformSpec(spec, (), function=lambda: frame))
        return built.rows or 0

    def close(self) -> None:
        """Leave the attempt; what was read is noted."""
        if self._attempt is not None:
            with self._attempt.services.metadata.write() as tx:
                tx.runs.add_reads(self._attempt.run.id, self._attempt.reads)
        self._held.close()
        self._attempt = None


class _RunTable(TableAccess):
    def __init__(self, tables: RunTables, name: TableName) -> None:
        self._tables = tables
        self._name = name

    def read(self, *, whole: bool = False) -> Any:
        return self._tables.read(self._name, Scope.WHOLE if whole else Scope.BATCH)

    def write(self, frame: Any, **options: Any) -> int:
        return self._tables.write(self._name, frame, options)
