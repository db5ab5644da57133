"""What `Pipeline.test` does: one run with a metadata store, an archive and a lake that last as long as it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tidemill.model.batch import BatchKey, Interval
from tidemill.model.branch import MAIN
from tidemill.model.errors import RunFailed, UnknownName, UserError
from tidemill.model.place import told
from tidemill.model.run import RunState
from tidemill.model.table import BATCH_ID, LOADED_AT
from tidemill.plan.sql import quote
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.flow.observe import RunReport
    from tidemill.flow.services import Services
    from tidemill.model.pipeline import PipelineSpec
    from tidemill.ports.metadata import CheckRecord


@dataclass(frozen=True)
class PipelineTrial:
    """What became of a trial.

    Args:
        pipeline: its name. `interval`: for which it ran.
        state: of the run: success, failed.
        tables: by name, a Polars frame of each table that was made; where the run failed, as they were on its branch.
        checks: the results of all checks.
        errors: of tasks that failed, by their ids.
        error: what the run failed by, as it was raised.
    """

    pipeline: str
    interval: Interval | None
    state: RunState
    tables: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[CheckRecord, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether it would have been published."""
        return self.state is RunState.SUCCESS

    def table(self, name: str) -> Any:
        """The frame of one table. Raises UnknownName: the run has made none of that name."""
        if name not in self.tables:
            raise UnknownName.of("table of the trial", name, self.tables)
        return self.tables[name]

    def check(self) -> PipelineTrial:
        """Raise RunFailed, with the tasks' errors, unless it ended well; returns itself."""
        if not self.ok:
            errors = "".join(f"\n{name}: {error}" for name, error in self.errors.items())
            raise RunFailed(f'The trial of "{self.pipeline}" ended as {self.state}.{errors}')
        return self

    def __repr__(self) -> str:
        lines = [f"{self.pipeline}: {self.state}"]
        width = max(map(len, (*self.tables, *self.errors)), default=0)
        lines += [f"  {name:<{width}}  {frame.height:,} rows" for name, frame in self.tables.items()]
        lines += [f"  {name:<{width}}  {error.partition(chr(10))[0]}" for name, error in self.errors.items()]
        return "\n".join(lines)


def try_pipeline(
    spec: PipelineSpec,
    settings: Settings,
    interval: str | datetime | Interval | None = None,
    params: Mapping[str, Any] | None = None,
) -> PipelineTrial:
    """Run a pipeline for its test.

    Args:
        spec: what to run.
        settings: the project from which feeds are read.
        interval: see `Pipeline.test`, and so `params`.
        params: of the run.

    Raises:
        UserError: it has no such interval, or it means several.
    """
    from tidemill.wiring.runner import run_pipeline
    from tidemill.wiring.services import connect

    with TemporaryDirectory(prefix="tidemill-trial-") as folder:
        place = Path(folder).resolve()
        aside = replace(
            settings,
            metadata_url=f"sqlite:///{place}/tidemill.db",
            archive_url=f"{place}/archive",
            lake_url=f"{place}/lake",
            secrets=replace(settings.secrets, kept_in=settings.secrets.kept_in or settings.metadata_url),
        )
        services = connect(aside)
        try:
            [report] = run_pipeline(services, spec, [_key(spec, interval, services)], params=params)
            return _told(services, spec, report)
        finally:
            services.metadata.close()


def _key(spec: PipelineSpec, interval: str | datetime | Interval | None, services: Services) -> BatchKey:
    from tidemill.wiring.runner import keys_of

    if isinstance(interval, Interval):
        return BatchKey(spec.name, interval)
    keys = keys_of(spec, interval.isoformat() if isinstance(interval, datetime) else interval, services)
    if len(keys) != 1:
        raise UserError(
            f'"{interval}" means {len(keys)} intervals, and a test runs one.',
            where=spec.place,
            hint="a time in the interval, or Interval(start, end)",
        )
    return keys[0]


def _told(services: Services, spec: PipelineSpec, report: RunReport) -> PipelineTrial:
    branch = MAIN if report.ok else report.branch
    names = [*spec.sources, *spec.transforms]
    tables = (
        {} if branch is None else {n: made for n in names if (made := _frame(services, branch, spec, n)) is not None}
    )
    errors = {one.task.id: told(one.error) for one in report.tasks if one.error is not None}
    if report.error is not None and not errors:
        errors["publish"] = told(report.error)
    return PipelineTrial(
        spec.name, report.batch.key.interval, report.state, tables, report.checks, errors, report.error
    )


def _frame(services: Services, branch: str, spec: PipelineSpec, table: str) -> Any:
    """The rows of a table on a branch, without our own columns; None where the run has not made it."""
    from tidemill.adapters.polars.result import Result
    from tidemill.flow import query as flow

    text = f"SELECT * FROM {quote(spec.name)}.{quote(table)}"  # noqa: S608 - quoted
    try:
        with flow.reading(services, branch, None) as seen, flow.query(services, text, seen) as reader:
            frame = Result(reader.read_all(), table).to_polars()
    except UnknownName:
        return None
    return frame.drop([name for name in (BATCH_ID, LOADED_AT) if name in frame.columns])
