"""What `.run()`, `.preview()` and calls of decorated functions do; also what the command line calls."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.authoring.pipeline import Pipeline
from tidemill.model.batch import BatchKey, Interval
from tidemill.model.errors import RunFailed, TidemillError, UnknownName, UserError
from tidemill.model.frame import Frame, Topic
from tidemill.plan.params import check_name
from tidemill.plan.schedule import latest_complete, parse_intervals
from tidemill.wiring.settings import Settings, load_settings

if TYPE_CHECKING:
    from tidemill.authoring.streams import Stream
    from tidemill.flow.observe import Observer, RunReport
    from tidemill.flow.services import Services
    from tidemill.model.pipeline import PipelineSpec

_log = logging.getLogger("tidemill")
_open: dict[Path, tuple[Settings, Services]] = {}


def services_of(settings: Settings) -> Services:
    """The services of a project, opened once in a process."""
    from tidemill.wiring.services import connect

    if settings.root not in _open or _open[settings.root][0] != settings:
        close(settings.root)
        _open[settings.root] = (settings, connect(settings))
    return _open[settings.root][1]


def close(root: Path | None = None) -> None:
    """Let go of a project's connections, or of all."""
    for key in [root] if root is not None else list(_open):
        if key in _open:
            _open.pop(key)[1].metadata.close()


def keys_of(pipeline: PipelineSpec, when: str | None, services: Services) -> list[BatchKey]:
    """The batches that a user means by a date, a range, a run key, or nothing.

    Raises:
        UserError: no interval of the schedule is over yet, or the text is no date.
    """
    if pipeline.timetable is None:
        if when is None:
            return [BatchKey(pipeline.name, run_key=f"manual-{uuid.uuid4().hex[:12]}")]
        return [BatchKey(pipeline.name, run_key=when)]
    if when is not None:
        meant = parse_intervals(when, pipeline.timetable, pipeline.start)
        _check_within(pipeline, meant)
        return [BatchKey(pipeline.name, i) for i in meant]
    newest = latest_complete(pipeline.timetable, services.clock.now(), start=pipeline.start, end=pipeline.end)
    if newest is None:
        raise UserError(
            f'No interval of "{pipeline.name}" is over yet.',
            where=pipeline.place,
            hint=f"tidemill run {pipeline.name} <date>",
        )
    return [BatchKey(pipeline.name, newest)]


def _check_within(pipeline: PipelineSpec, meant: Sequence[Interval]) -> None:
    """Intervals lie between the pipeline's start and end: a batch elsewhere is a slip of the finger."""
    early = next((i for i in meant if pipeline.start and i.start < pipeline.start), None)
    late = next((i for i in meant if pipeline.end and i.end > pipeline.end), None)
    if early is None and late is None:
        return
    side, limit = ("before the start", pipeline.start) if early else ("after the end", pipeline.end)
    assert limit is not None
    raise UserError(
        f'The interval {early or late} is {side} of "{pipeline.name}", {limit:%Y-%m-%d %H:%M}.',
        where=pipeline.place,
        hint="another date, or another start= or end= of the pipeline",
    )


def run_pipeline(
    services: Services,
    pipeline: PipelineSpec,
    keys: list[BatchKey],
    *,
    refetch: bool = False,
    start: Sequence[str] = (),
    params: Mapping[str, Any] | None = None,
    observer: Observer | None = None,
) -> list[RunReport]:
    """Run a pipeline for each batch in turn; stops at the first that fails."""
    from tidemill.flow.observe import Silent
    from tidemill.flow.run import RunOptions, run_batch

    if params:
        for name in params:
            check_name(name, pipeline.params, where=pipeline.place)
        pipeline = pipeline.with_params(params)
    reports: list[RunReport] = []
    for key in keys:
        reports.append(run_batch(services, pipeline, key, RunOptions(refetch, observer or Silent(), tuple(start))))
        if not reports[-1].ok:
            break
    return reports


class ProjectRunner:
    """The runner behind `Pipeline.run` and its like, for the project of the current folder or script."""

    def run(self, pipeline: Pipeline, when: str | None, **options: Any) -> Any:
        """See `Pipeline.run`."""
        from tidemill.wiring.results import Results

        known = ("refetch", "params", "start")
        for name in options:
            if name not in known:
                raise UnknownName.of("option", name, known)
        spec = pipeline.spec()
        settings = _settings_for(pipeline)
        services = services_of(settings)
        reports = run_pipeline(services, spec, keys_of(spec, when, services), **options)
        if (spec.deliveries or settings.glue) and any(report.ok for report in reports):
            _deliver(services, settings, spec)
        last = reports[-1]
        if last.error is not None:
            raise _failure(last.error)
        return Results(tuple(reports))

    def preview(self, pipeline: Pipeline, table: str, when: str | None, rows: int) -> Any:
        """See `Pipeline.preview`."""
        from tidemill.adapters.polars.result import Result
        from tidemill.flow.preview import previewed

        spec = pipeline.spec()
        services = services_of(_settings_for(pipeline))
        key = keys_of(spec, when, services)[0]
        with (
            previewed(services, spec, table, key) as scan,
            services.sql.query("SELECT * FROM t LIMIT $rows", {"t": scan}, parameters={"rows": rows}) as reader,
        ):
            return Result(reader.read_all(), f"{pipeline.name}.{table}, {key.interval or key.run_key}, not published")

    def test(
        self, pipeline: Pipeline, interval: str | datetime | Interval | None, params: Mapping[str, Any] | None
    ) -> Any:
        """See `Pipeline.test`."""
        from tidemill.wiring.pipeline_trials import try_pipeline

        return try_pipeline(pipeline.spec(), _settings_for(pipeline), interval, params)

    def call(self, function: Callable[..., Any], frames: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """See `Table.__call__`."""
        from tidemill.adapters.polars.function import run_function

        return run_function(function, *frames, **named)

    def peek(self, what: Topic | Frame | Stream, rows: int, messages: int, to: str | None = None) -> Any:
        """See `DeclaredTopic.peek`, `Frame.peek`, `Stream.peek`."""
        from tidemill.wiring.stream_peek import Peeking

        pipeline = None if isinstance(what, Topic | Frame) else what.pipeline
        settings = load_settings(None) if pipeline is None else _settings_for(pipeline)
        with Peeking(settings, services_of(settings).metadata) as peeking:
            if isinstance(what, Topic):
                return peeking.topic(what, rows)
            if isinstance(what, Frame):
                return peeking.frame(what, rows, messages)
            spec = what.pipeline.spec()
            return peeking.stream(spec, spec.streams[what.name], rows, messages, to)


def _deliver(services: Services, settings: Settings, pipeline: PipelineSpec) -> None:
    """What was published goes where it is to go; what does not get there is told, and fails no run."""
    from tidemill.wiring.delivering import deliver_all, mirrors

    specs = (*(pipeline.deliveries or ()), *mirrors(services.metadata, settings))
    for report in deliver_all(services, settings, specs):
        if report.error is not None:
            what = "%s is published, and not delivered to %s: %s"
            _log.warning(what, pipeline.name, report.spec.to, report.error)


def _settings_for(pipeline: Pipeline) -> Settings:
    """The project that TIDEMILL_PROJECT names, or else that of the file which declares the pipeline; code typed at a
    prompt belongs to the current folder.
    """
    file = Path(pipeline.place.rpartition(":")[0])
    named = bool(os.environ.get("TIDEMILL_PROJECT"))
    return load_settings(file.parent if file.is_file() and not named else None)


def _failure(error: BaseException) -> BaseException:
    """What `.run()` raises: the user's own exception stays what it is, so that debuggers land in it."""
    return error if isinstance(error, TidemillError | Exception) else RunFailed(str(error))
