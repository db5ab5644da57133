"""What is told of batches: where each stands, and everything about one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidemill.model.batch import Batch, BatchState, Manifest, topic_of
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.errors import UnknownName
from tidemill.model.run import Run, RunState, TaskRun
from tidemill.model.table import INPUT_SUFFIX
from tidemill.ports.metadata import CheckRecord, Tx

#: Tasks that bring rows into the lake; what the others write is made from these.
LOADS = "load."
#: What a run's record has for schedulers alone.
_OWN = ("fence", "holder", "lease_until")
#: Failed branches looked at, newest first: a hundred that wait for repair say no more than fifty.
_LOOKED_AT = 50


def found_batch(tx: Tx, batch_id: int) -> Batch:
    """One batch. Raises UnknownName."""
    batch = tx.batches.get(batch_id)
    if batch is None:
        raise UnknownName.of("batch", str(batch_id), (str(b.id) for b in tx.batches.recent(limit=50)))
    return batch


def state_of(batch: Batch, last: Run | None) -> str:
    """Where a batch stands: on `main` or not, and how its newest attempt ended where that says more."""
    if last is None or last.state is RunState.SUCCESS:
        return batch.state.value
    if batch.state is BatchState.ABSORBED:
        return f"{last.state}, stepped aside" if batch.took_nothing else batch.state.value
    return last.state.value if batch.state is BatchState.OPEN else f"{batch.state}, re-run {last.state}"


def batch_facts(tx: Tx, batch: Batch) -> dict[str, Any]:
    """One batch in a list."""
    return batches_facts(tx, [batch])[0]


def batches_facts(tx: Tx, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Batches in a list, in a few statements however many they are."""
    newest = tx.runs.newest_of(batch.id for batch in batches)
    counted = tx.runs.row_counts(run.id for run in newest.values())
    rows: dict[int, list[int]] = {}
    for batch_id, run in newest.items():
        rows[batch_id] = [n for task, n in counted.get(run.id, {}).items() if task.startswith(LOADS)]
    # Where the newest attempt started below the loads, what is archived tells.
    untold = {batch.id: batch for batch in batches if not rows.get(batch.id)}
    archived: dict[int, dict[str, Manifest]] = {}
    for manifest in reversed(tx.archive.of(untold)):
        archived.setdefault(manifest.batch_id, {})[manifest.source] = manifest
    for batch_id, manifests in archived.items():
        rows[batch_id] = [m.contents.rows for m in manifests.values() if m.contents is not None]
        if topic_of(untold[batch_id].pipeline) is not None:  # counted as they are archived, and never loaded
            rows[batch_id] = [m.rows for m in manifests.values() if m.rows is not None]
    return [_facts(batch, newest.get(batch.id), rows.get(batch.id, [])) for batch in batches]


def _facts(batch: Batch, last: Run | None, rows: Sequence[int]) -> dict[str, Any]:
    interval = batch.key.interval
    return {
        "batch_id": batch.id,
        "pipeline": batch.pipeline,
        "when": str(interval or batch.key.run_key),
        "interval": [interval.start, interval.end] if interval else None,
        "run_key": batch.key.run_key,
        "state": state_of(batch, last),
        "attempts": last.attempt if last else 0,
        "rows": sum(rows) if rows else None,
        "created_at": batch.created_at,
        "extracted_at": batch.extracted_at,
        "archived_at": batch.archived_at,
        "loaded_at": batch.loaded_at,
        "published_at": batch.published_at,
        "code_version": batch.code_version or (last.code_version if last else None),
    }


class BatchDetails:
    """Everything about one batch: times, archived files, attempts, tasks, checks, and the tables that it moved.

    Raises:
        UnknownName: there is no such batch.
    """

    def __init__(self, tx: Tx, batch_id: int) -> None:
        self.batch = found_batch(tx, batch_id)
        self.about = batch_facts(tx, self.batch)
        self.manifests: list[Manifest] = tx.archive.recent(batch_id=batch_id)
        self.runs: list[Run] = tx.runs.recent(batch_id=batch_id)
        self.tasks: list[TaskRun] = tx.runs.tasks(self.runs[0].id) if self.runs else []
        self.checks: list[CheckRecord] = tx.checks.recent(run_id=self.runs[0].id) if self.runs else []
        changed = {t for c in tx.refs.commits(MAIN, batch_id=batch_id) for t in c.changes}
        #: Tables of `main` that it changed.
        self.moved = sorted(str(t) for t in changed if not t.table.endswith(INPUT_SUFFIX))
        branch = self.runs[0].branch if self.runs else None
        ref = tx.refs.get(branch) if branch else None
        #: The branch of its newest attempt, where that can be looked at.
        self.branch = branch if ref is not None and ref.state in (RefState.OPEN, RefState.FAILED) else None

    def facts(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            **self.about,
            "archive": [manifest_facts(m) for m in self.manifests],
            "runs": [{name: value for name, value in _fields(r).items() if name not in _OWN} for r in self.runs],
            "tasks": [_fields(t) for t in self.tasks],
            "checks": [check_facts(c) for c in self.checks],
            "tables": self.moved,
            "branch": self.branch,
        }


def waiting_batches(tx: Tx) -> list[dict[str, Any]]:
    """Batches that wait for a repair, newest failure first; without a branch: it failed before it wrote a table."""
    found: dict[int, str | None] = {}
    newest = next(iter(tx.runs.recent(limit=1)), None)
    if newest is not None and newest.state is RunState.FAILED:
        found[newest.batch_id] = newest.branch
    failed = tx.refs.all(kinds=[RefKind.RUN], states=[RefState.FAILED])
    for ref in reversed(failed[-_LOOKED_AT:]):
        run = tx.runs.get(ref.run_id) if ref.run_id is not None else None
        last = tx.runs.last(run.batch_id) if run is not None else None
        # The branch of an attempt that lost a race and was followed by another one is no failure any more.
        if run is not None and last is not None and last.id == run.id and run.state is RunState.FAILED:
            found.setdefault(run.batch_id, ref.name)
    return [{"batch_id": batch_id, "branch": branch} for batch_id, branch in found.items()]


def check_facts(check: CheckRecord) -> dict[str, Any]:
    """The result of one check."""
    return {**_fields(check), "table": str(check.table)}


def manifest_facts(manifest: Manifest) -> dict[str, Any]:
    """What one extraction put into the archive."""
    return {
        "source": manifest.source,
        "version": manifest.version,
        "extracted_at": manifest.extracted_at,
        "bookmark_before": manifest.bookmark_before,
        "bookmark_after": manifest.bookmark_after,
        "code_version": manifest.code_version,
        "bytes": manifest.bytes,
        "rows": manifest.rows,
        "rejected": manifest.contents.rejected if manifest.contents else None,
        "schema": dict(manifest.schema),
        "options": dict(manifest.contents.options) if manifest.contents else None,
        "parts": [_fields(p) for p in manifest.parts],
    }


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}
