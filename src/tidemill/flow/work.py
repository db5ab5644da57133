"""The work of a data-first run: what each of its tasks does, and how it is published. Whoever drives the run calls it:
one process after another task (`run.py`), or several worker processes at once (`shared.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from tidemill.flow.attempt import Attempt
from tidemill.flow.audit import audit, recheck
from tidemill.flow.extract import archived, extract
from tidemill.flow.load import load
from tidemill.flow.observe import Observer, TableReport, TaskReport
from tidemill.flow.publish import PublishPlan, publish_run
from tidemill.flow.transform import build
from tidemill.model.batch import Manifest
from tidemill.model.document import as_written, is_document
from tidemill.model.errors import Refused, TidemillError
from tidemill.model.pipeline import PipelineSpec, SourceKind, Task, TaskKind
from tidemill.model.place import told
from tidemill.model.run import TaskState
from tidemill.model.table import PublishMode, TableName
from tidemill.ports.source import Told

_log = logging.getLogger("tidemill")


class Work:
    """The tasks of one attempt.

    Args:
        attempt: through which everything is read and written.
        observer: is told of rows and bytes as they come.
        refetch: ask the sources again, whatever is archived.
    """

    def __init__(self, attempt: Attempt, observer: Observer, *, refetch: bool = False) -> None:
        self.attempt = attempt
        self.observer = observer
        self.refetch = refetch
        self.manifests: dict[str, Manifest] = {}
        self.published: dict[TableName, str | None] = {}
        self.rows: dict[TableName, int] = {}

    def execute(self, task: Task) -> TaskReport:
        """Do the work of one task. What it should try is told in the words of the pipeline's file."""
        try:
            return self._execute(task)
        except TidemillError as error:
            if is_document(self.attempt.pipeline.place):
                error.hint = as_written(error.hint)
            raise

    def _execute(self, task: Task) -> TaskReport:
        attempt, pipeline = self.attempt, self.attempt.pipeline

        def progress(rows: int = 0, bytes: int = 0) -> None:
            self.observer.progress(task, rows, bytes)

        if task.kind is TaskKind.EXTRACT:
            source = pipeline.sources[task.name]
            before = archived(attempt, source.name)
            manifest = extract(attempt, source, refetch=self.refetch, progress=progress)
            self.manifests[task.name] = manifest
            reused = before is not None and before.version == manifest.version
            return TaskReport(task, TaskState.SUCCESS, 0.0, rows=manifest.rows, bytes=manifest.bytes, reused=reused)
        if task.kind is TaskKind.LOAD:
            source = pipeline.sources[task.name]
            loaded = load(attempt, source, self.manifest(task.name), progress)
            self.rows[source.table.name] = loaded.rows
            return TaskReport(task, TaskState.SUCCESS, 0.0, rows=loaded.rows, rejected=loaded.rejected)
        if task.kind is TaskKind.BUILD:
            transform = pipeline.transforms[task.name]
            built = build(attempt, transform, progress)
            if built.rows is not None:
                self.rows[transform.table.name] = built.rows
            return TaskReport(task, TaskState.SUCCESS, 0.0, rows=built.rows, rejected=built.rejected)
        records = audit(attempt, task.name)
        return TaskReport(task, TaskState.SUCCESS, 0.0, rows=max((r.rows or 0 for r in records), default=0),
                          checks=tuple(records))  # fmt: skip

    def manifest(self, source: str) -> Manifest:
        """What the run loads from a source: extracted by it, or archived before where it starts at the load."""
        manifest = self.manifests.get(source) or archived(self.attempt, source)
        if manifest is None:
            raise Refused(
                f'Batch {self.attempt.batch.id} has no archived input from "{source}".',
                hint=f"start at the extraction: --from extract.{source}",
            )
        self.manifests[source] = manifest
        return manifest

    def publish_table(self, task: Task, well: Callable[[str], bool]) -> None:
        """Publish mode "table": a table goes as soon as its own checks have passed (rule 12).

        Args:
            task: that has ended well just now.
            well: whether another task has, by its id.
        """
        pipeline = self.attempt.pipeline
        owner = pipeline.loaded_by(task.name) or task.name
        spec = pipeline.table(owner)
        gates = [f"{TaskKind.CHECK}.{n}" for n in pipeline.checks if (pipeline.loaded_by(n) or n) == owner]
        done = task.kind is TaskKind.CHECK if gates else task.kind in (TaskKind.LOAD, TaskKind.BUILD)
        done = done and all(gate == task.id or well(gate) for gate in gates)
        if not done or spec is None or spec.publish is not PublishMode.TABLE:
            return
        sources = [owner] if owner in pipeline.sources else []
        plan = publish_run(
            self.attempt,
            {s: self.manifest(s) for s in sources},
            recheck=self._recheck,
            final=False,
            only=[n for n in self.attempt.written if _belongs(n, spec.name, pipeline)],
            sources=sources,
        )
        self._note(plan)
        self._tell(sources)

    def publish(self) -> PublishPlan:
        """Publish all that is not yet, and end the run with it.

        Raises:
            PublishConflict: the tables must be computed again on a fresh fork.
            CheckFailed: what was rebased does not hold any more.
        """
        plan = publish_run(self.attempt, self.manifests, recheck=self._recheck)
        self._note(plan)
        self._tell(self.manifests)
        return plan

    def _tell(self, sources: Iterable[str]) -> None:
        """Let bookmark sources put away what is published."""
        for name in sources:
            spec = self.attempt.pipeline.sources[name]
            if spec.kind is not SourceKind.BOOKMARK:
                continue
            try:
                source = self.attempt.services.source(spec)
                if isinstance(source, Told):
                    source.published(self.manifests[name].bookmark_after)
            except Exception as error:
                _log.warning("%s: published, and not put away yet: %s", name, told(error))

    def _recheck(self, pointers: Mapping[TableName, str]) -> None:
        recheck(self.attempt, pointers)

    def _note(self, plan: PublishPlan) -> None:
        self.published.update({name: after for name, (_, after) in plan.moves.items()})
        self.published.update(dict.fromkeys(plan.views))

    def tables(self) -> Iterable[TableReport]:
        """What was published so far."""
        for name, pointer in sorted(self.published.items()):
            spec = self.attempt.pipeline.table(name.table)
            total = self.attempt.services.catalog.load(name, pointer).rows if pointer else None
            yield TableReport(name, spec.write if spec and pointer else None, self.rows.get(name), total)


def _belongs(name: TableName, table: TableName, pipeline: PipelineSpec) -> bool:
    """True for the table itself and what is published with it: children, quarantine, input."""
    if name in (table, table.quarantine, table.input):
        return True
    return name.namespace == table.namespace and pipeline.loaded_by(name.table) == table.table
