"""`tidemill run` and `tidemill replay`: batches, one after another, each published whole or not at all."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tidemill.cli.command import Command
from tidemill.cli.failure import INTERRUPTED, explain, print_traceback, show
from tidemill.cli.invocation import Invocation, pass_invocation
from tidemill.cli.output import is_terminal

if TYPE_CHECKING:
    from tidemill.cli.progress import Collector
    from tidemill.flow.deliver import Report as Delivered
    from tidemill.flow.observe import RunReport
    from tidemill.model.batch import BatchKey
    from tidemill.model.pipeline import PipelineSpec

_FILE = re.compile(r"(?P<file>.+\.(?:py|ya?ml))(?::(?P<pipeline>\w+))?")


@dataclass(frozen=True, slots=True)
class Work:
    """One batch to run; `target` is what the user called the pipeline, for commands to paste.

    `batch_id`: the batch that a replay names.
    """

    target: str
    spec: PipelineSpec
    key: BatchKey
    batch_id: int | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run, as the user said it."""

    refetch: bool = False
    start: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> list[str]:
        """The options as they are written on the command line."""
        words = ["--refetch"] if self.refetch else []
        words += [word for task in self.start for word in ("--from", task)]
        return words + [word for name, value in self.params.items() for word in ("--param", f"{name}={value}")]


@click.command(cls=Command, asks=True)
@click.argument("pipeline")
@click.argument("when", required=False, metavar="[WHEN]")
@click.option("--refetch", is_flag=True, help="Ask the sources again; the archive keeps both versions.")
@click.option("--from", "start", multiple=True, metavar="TASK",
              help="Run only this task or table and what follows from it; the rest comes from main.")  # fmt: skip
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="Override a parameter of the pipeline.")
@pass_invocation
def run(
    invocation: Invocation,
    pipeline: str,
    when: str | None,
    refetch: bool,
    start: tuple[str, ...],
    params: tuple[str, ...],
) -> int:
    """Run a pipeline: all of it is published, or nothing.

    With --server its schedulers run it, and this command follows it until it has ended.

    PIPELINE is a name, or a file: path/to/file.py, or path/to/file.py:name where the file has several.

    WHEN is a date (2013-01-15), a time (2013-01-15T03:00) or a range with both ends included
    (2013-01-15..2013-01-20), which is run in order and stops at the first failure. Without it, the latest complete
    interval is run. For a pipeline without a schedule it is a run key: the same key is the same batch.

    Running an interval again replaces its rows. What was archived is not extracted again, unless --refetch says so.
    """
    from tidemill.plan.params import read_params
    from tidemill.plan.when import when_of
    from tidemill.wiring.runner import keys_of

    if invocation.remote is not None:
        from tidemill.cli.run_there import run_there

        return run_there(invocation, pipeline, when, params, start, refetch=refetch)
    made = _declared(invocation, pipeline)
    if not hasattr(made, "spec"):
        from tidemill.cli.run_dag import run_dag

        return run_dag(invocation, made.definition(), when, params, start)
    spec = made.spec()
    overrides = read_params(made.definition().params, params, where=spec.place) if params else {}
    keys = keys_of(spec, when, invocation.services)
    if when is None and keys[0].interval is not None:
        latest = when_of(keys[0], spec)
        invocation.out.note(f"running {spec.name} for {latest}, the latest complete interval (no date was given)")
    options = RunOptions(refetch, start, overrides)
    work = [Work(pipeline, spec, key) for key in keys]
    return _execute(invocation, work, options)


@click.command(cls=Command)
@click.argument("batches", nargs=-1, required=True, type=click.IntRange(min=1), metavar="BATCH...")
@click.option("--from", "start", multiple=True, metavar="TASK",
              help="Run only this task or table and what follows from it; the rest comes from main.")  # fmt: skip
@pass_invocation
def replay(invocation: Invocation, batches: tuple[int, ...], start: tuple[str, ...]) -> int:
    """Run batches again from their archived input.

    BATCH is a batch's id, as `tidemill data batches` lists them. The code is that of today. The sources are not asked;
    the rows that the batch published before are replaced.
    """
    from tidemill.wiring.project import load_pipelines

    pipelines = load_pipelines(invocation.known_settings())
    work = [_archived_work(invocation, batch_id, pipelines) for batch_id in batches]
    return _execute(invocation, work, RunOptions(start=start))


# What to run ----------------------------------------------------------------------------------------------------------


def _declared(invocation: Invocation, target: str) -> Any:
    """The pipeline or DAG that the user means by a name or a file."""
    from tidemill.wiring.project import declared_in, find_declared
    from tidemill.wiring.settings import load_settings

    found = _FILE.fullmatch(target)
    if found is None:
        return find_declared(invocation.known_settings(), target)
    from tidemill.model.errors import UnknownName, UserError

    file = Path(found["file"])
    if not file.is_file():
        raise UserError(f'There is no file "{file}".', hint="a pipeline's name, or the path of its file")
    if invocation.project is None:
        invocation.use(load_settings(file.resolve().parent))
    pipelines = declared_in(invocation.settings, file.resolve())
    if found["pipeline"] is not None:
        if found["pipeline"] not in pipelines:
            raise UnknownName.of("pipeline", found["pipeline"], pipelines, where=str(file))
        return pipelines[found["pipeline"]]
    if len(pipelines) != 1:
        names = ", ".join(f"{file}:{name}" for name in pipelines)
        raise UserError(f'"{file}" makes {len(pipelines) or "no"} pipelines.', hint=names or 'tm.Pipeline("name")')
    return next(iter(pipelines.values()))


def _archived_work(invocation: Invocation, batch_id: int, pipelines: Mapping[str, Any]) -> Work:
    """A batch by its id, if all that it read is in the archive."""
    from tidemill.model.batch import topic_of
    from tidemill.model.errors import Refused, UnknownName
    from tidemill.plan.when import when_of

    with invocation.services.metadata.read() as tx:
        batch = tx.batches.get(batch_id)
        if batch is None:
            raise UnknownName.of("batch", str(batch_id), (str(b.id) for b in tx.batches.recent(limit=50)))
        if (topic := topic_of(batch.pipeline)) is not None:
            raise Refused(
                f'Batch {batch_id} is raw messages of topic "{topic}": streams read them.',
                hint="tidemill stream replay STREAM --from TIME --until TIME",
            )
        if batch.pipeline not in pipelines:
            raise UnknownName.of("pipeline", batch.pipeline, pipelines, where=f"batch {batch_id}")
        spec = pipelines[batch.pipeline].spec()
        missing = [name for name in spec.sources if tx.archive.get(batch_id, name) is None]
    missing = [name for name in missing if invocation.services.archive.sealed(batch, name) is None]
    if missing:
        raise Refused(
            f'Batch {batch_id} ({batch.key}) has nothing archived from "{missing[0]}".',
            where=spec.sources[missing[0]].place,
            hint=f"tidemill run {batch.pipeline} {when_of(batch.key, spec)}",
        )
    return Work(batch.pipeline, spec, batch.key, batch_id)


# Running --------------------------------------------------------------------------------------------------------------


def _execute(invocation: Invocation, work: Sequence[Work], options: RunOptions) -> int:
    """Run every batch in order, telling as it goes; stops at the first that fails."""
    from tidemill.wiring.runner import run_pipeline

    telling = _Telling(invocation, many=len(work) > 1)
    observer = _observer(invocation, telling)
    try:
        for position, item in enumerate(work):
            run_pipeline(
                invocation.services, item.spec, [item.key],
                refetch=options.refetch, start=options.start, params=options.params, observer=observer,
            )  # fmt: skip
            if not telling.reports[-1].ok:
                telling.deliver(work[:position])
                return telling.failed(item, work[position:], options)
    except KeyboardInterrupt:
        observer.stop()
        return telling.interrupted(work[len(telling.reports) :], options)
    except BaseException:
        observer.stop()
        raise
    telling.deliver(work)
    return telling.done(work[-1])


def _observer(invocation: Invocation, telling: _Telling) -> Collector:
    from tidemill.cli.progress import Collector, LiveProgress, PlainProgress

    if invocation.out.quiet:
        return Collector(telling.ended)
    if is_terminal(sys.stderr):
        return LiveProgress(telling.ended)
    return PlainProgress(telling.ended, invocation.out.note)


class _Telling:
    """Says how runs ended: each as it ends, then what to do next."""

    def __init__(self, invocation: Invocation, *, many: bool) -> None:
        self.invocation = invocation
        self.many = many
        self.reports: list[RunReport] = []
        self.delivered: list[Delivered] = []

    def deliver(self, done: Sequence[Work]) -> None:
        """What was published goes where it is to go; what does not get there is tried again, and fails no run."""
        from tidemill.cli.deliver import after_run, after_runs, tell, tell_left

        for item in {item.spec.name: item for item in done}.values():
            self.delivered += after_run(self.invocation, item.spec)
        if done:
            self.delivered += after_runs(self.invocation)
        if not self.invocation.json:
            tell(self.invocation, self.delivered)
            tell_left(self.invocation, self.delivered)

    def ended(self, report: RunReport) -> None:
        """One run has ended."""
        from tidemill.cli.report import range_fact, run_facts

        self.reports.append(report)
        if self.invocation.json:
            return
        if self.many and report.ok:
            self.invocation.out.facts([range_fact(report)])
        else:
            self.invocation.out.facts(run_facts(report))

    def done(self, last: Work) -> int:
        """All runs were published."""
        from tidemill.flow.facts.tables import is_inner

        tables = [str(t.name) for t in self.reports[-1].tables if t.name.table in last.spec.transforms]
        tables = tables or [str(t.name) for t in self.reports[-1].tables if not is_inner(t.name)]
        command = f"tidemill data show {tables[-1]}" if tables else "tidemill data batches"
        if self.invocation.json:
            self._object(None, command)
        else:
            self.invocation.out.next(command)
        return 0

    def failed(self, item: Work, rest: Sequence[Work], options: RunOptions) -> int:
        """The last run failed: the error, what is left, why, and how to go on."""
        from tidemill.cli.report import failure_facts, left_by

        report = self.reports[-1]
        assert report.error is not None
        left = left_by(self.invocation.services, report)
        why = f"tidemill data batches {report.batch.id}"
        resume = self._resume(rest, options, fetch=_is_file_at_fault(report, item.spec))
        failure = explain(report.error, self.invocation, place=_place(report, item.spec))
        if self.invocation.debug:
            print_traceback(report.error)
        if self.invocation.json:
            self._object({**failure.as_json(), "left": list(left.tables), "published": list(left.published)},
                         resume, why=why)  # fmt: skip
        sys.stdout.flush()
        show(failure)
        self.invocation.out.facts(failure_facts(left, why, resume), error=True)
        return failure.exit_code if failure.exit_code != 2 else 1

    def interrupted(self, rest: Sequence[Work], options: RunOptions) -> int:
        """Stopped by a person, in the middle of the first batch of `rest`."""
        resume = self._resume(rest, options)
        if self.invocation.json:
            self._object({"kind": "Interrupted", "what": "interrupted", "exit_code": INTERRUPTED}, resume)
        print("interrupted: nothing of this run was published", file=sys.stderr)
        self.invocation.out.facts([("resume:", resume)], error=True)
        return INTERRUPTED

    def _resume(self, rest: Sequence[Work], options: RunOptions, *, fetch: bool = False) -> str:
        """The command that runs what is left of the work; with `fetch`, asking the sources again."""
        from tidemill.plan.when import when_of

        if fetch and len(rest) == 1:
            options = replace(options, refetch=True)
            rest = [replace(rest[0], batch_id=None)]
        if replayed := [str(item.batch_id) for item in rest if item.batch_id is not None]:
            return shlex.join(["tidemill", "replay", *replayed, *options.words()])
        first, last = rest[0], rest[-1]
        when = when_of(first.key, first.spec)
        if len(rest) > 1:
            when = f"{when}..{when_of(last.key, last.spec)}"
        return shlex.join(["tidemill", "run", first.target, when, *options.words()])

    def _object(self, error: Mapping[str, Any] | None, command: str, *, why: str | None = None) -> None:
        from tidemill.cli.deliver import report_object
        from tidemill.cli.report import run_object

        delivered = [report_object(one) for one in self.delivered]
        self.invocation.out.object(
            {"ok": error is None, "runs": [run_object(r) for r in self.reports], "error": error, "why": why,
             "next": command, **({"deliveries": delivered} if delivered else {})}
        )  # fmt: skip


def _is_file_at_fault(report: RunReport, spec: PipelineSpec) -> bool:
    """True where an archived file cannot be read: only the sender's next one, fetched again, can mend the run."""
    from tidemill.model.connector import Connector
    from tidemill.model.errors import DecodeError
    from tidemill.model.pipeline import FilesOrigin

    failed = next((t.task for t in report.tasks if t.error is report.error), None)
    source = spec.sources.get(failed.name) if failed is not None else None
    if source is None or not isinstance(report.error, DecodeError):
        return False
    return source.origin.keeps_files if isinstance(source.origin, Connector) else isinstance(source.origin, FilesOrigin)


def _place(report: RunReport, spec: PipelineSpec) -> str | None:
    """Where the task that failed is declared."""
    failed = next((t.task for t in report.tasks if t.error is report.error), None)
    if failed is None:
        return None
    if failed.name in spec.sources:
        return spec.sources[failed.name].place or None
    return spec.transforms[failed.name].place or None if failed.name in spec.transforms else None
