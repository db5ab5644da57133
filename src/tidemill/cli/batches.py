"""`tidemill data batches`: the list of batches, and everything about one of them.

They are read from the metadata store alone, so nothing heavy is loaded.
"""

from __future__ import annotations

import json
from typing import Any

from tidemill.cli.failure import short
from tidemill.cli.grid import Column, Styled
from tidemill.cli.invocation import Invocation
from tidemill.cli.text import after, count, duration, moment, size
from tidemill.model.batch import Batch, BatchState, Manifest, topic_of
from tidemill.model.branch import MAIN, RefState
from tidemill.model.errors import UnknownName
from tidemill.model.run import RUN_ENDS, Run, RunState, TaskRun
from tidemill.model.table import INPUT_SUFFIX
from tidemill.ports.metadata import CheckRecord, Tx

#: Tasks that bring rows into the lake; what the others write is made from these.
_LOADS = "load."
_STYLES = {"published": "good", "failed": "bad", "reverted": "warn", "absorbed": "warn", "cancelled": "warn"}


def state_of(batch: Batch, last: Run | None) -> str:
    """Where a batch stands: on `main` or not, and how its newest attempt ended where that says more."""
    if last is None or last.state is RunState.SUCCESS:
        return batch.state.value
    return last.state.value if batch.state is BatchState.OPEN else f"{batch.state}, re-run {last.state}"


def list_batches(invocation: Invocation, pipeline: str | None, limit: int | None) -> None:
    """The newest batches, one a line."""
    with invocation.metadata.read() as tx:
        found = tx.batches.recent(pipeline, limit=limit)
        if pipeline is not None and not found:
            known = {b.pipeline for b in tx.batches.recent()}
            raise UnknownName.of("pipeline with batches", pipeline, known)
        listed = [_object(tx, batch) for batch in found]
    out = invocation.out
    if invocation.json:
        out.object({"batches": listed})
        return
    if not listed:
        out.note("no batch yet; try: tidemill run PIPELINE")
        return
    columns = [
        Column("batch", right=True), Column("pipeline"), Column("interval"), Column("state"),
        Column("tries", right=True, yields=2), Column("rows", right=True), Column("extracted"),
        Column("archived", right=True, yields=3), Column("loaded", right=True, yields=3),
        Column("published", right=True, yields=1),
    ]  # fmt: skip
    rows = [
        [
            str(b["batch_id"]), b["pipeline"], b["when"], _state(b["state"]), str(b["attempts"]), count(b["rows"]),
            moment(b["extracted_at"]), after(b["archived_at"], b["extracted_at"]),
            after(b["loaded_at"], b["extracted_at"]), after(b["published_at"], b["extracted_at"]),
        ]
        for b in listed
    ]  # fmt: skip
    out.grid(columns, rows)
    if limit is not None and len(listed) == limit:
        out.note(f"the newest {limit}; older ones: --limit 0")
    out.next(f"tidemill data batches {listed[0]['batch_id']}")


def _state(state: str) -> str:
    style = _STYLES.get(state.rpartition(" ")[2])
    return Styled(state, style) if style else state


def _object(tx: Tx, batch: Batch) -> dict[str, Any]:
    last = tx.runs.last(batch.id)
    rows = [t.rows for t in tx.runs.tasks(last.id) if t.task.startswith(_LOADS) and t.rows is not None] if last else []
    if not rows:  # the newest attempt started below the loads: what is archived tells
        newest = {m.source: m for m in reversed(tx.archive.recent(batch_id=batch.id))}
        rows = [m.contents.rows for m in newest.values() if m.contents is not None]
        if topic_of(batch.pipeline) is not None:  # messages are counted as they are archived, and never loaded
            rows = [m.rows for m in newest.values() if m.rows is not None]
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


# One batch ------------------------------------------------------------------------------------------------------------


def show_batch(invocation: Invocation, batch_id: int) -> None:
    """Everything about one batch: times, archived files, attempts, tasks, checks, and the tables that it moved."""
    with invocation.metadata.read() as tx:
        batch = tx.batches.get(batch_id)
        if batch is None:
            raise UnknownName.of("batch", str(batch_id), (str(b.id) for b in tx.batches.recent(limit=50)))
        about = _object(tx, batch)
        manifests = tx.archive.recent(batch_id=batch_id)
        runs = tx.runs.recent(batch_id=batch_id)
        tasks = tx.runs.tasks(runs[0].id) if runs else []
        checks = tx.checks.recent(run_id=runs[0].id) if runs else []
        changed = {t for c in tx.refs.commits(MAIN, batch_id=batch_id) for t in c.changes}
        moved = sorted(str(t) for t in changed if not t.table.endswith(INPUT_SUFFIX))
        branch = runs[0].branch if runs else None
        ref = tx.refs.get(branch) if branch else None
        on_branch = branch if ref is not None and ref.state in (RefState.OPEN, RefState.FAILED) else None
    if invocation.json:
        invocation.out.object(
            {
                **about,
                "archive": [_manifest_object(m) for m in manifests],
                "runs": [_fields(r) for r in runs],
                "tasks": [_fields(t) for t in tasks],
                "checks": [{**_fields(c), "table": str(c.table)} for c in checks],
                "tables": moved,
                "branch": on_branch,
            }
        )
        return
    _print_facts(invocation, about, manifests, moved, on_branch, runs)
    _print_archive(invocation, manifests)
    _print_tasks(invocation, tasks, runs[0].error if runs else None)
    _print_checks(invocation, checks)
    invocation.out.next(_next(about, on_branch))


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _manifest_object(manifest: Manifest) -> dict[str, Any]:
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


def _print_facts(
    invocation: Invocation,
    about: dict[str, Any],
    manifests: list[Manifest],
    moved: list[str],
    branch: str | None,
    runs: list[Run],
) -> None:
    out = invocation.out
    facts = [
        ("batch", str(about["batch_id"])),
        ("pipeline", f"{about['pipeline']} {about['when']}"),
        ("state", about["state"] + (f", {count(about['attempts'], 'attempts')}" if about["attempts"] else "")),
        ("code", about["code_version"] or "-"),
    ]
    for step in ("extracted", "archived", "loaded", "published"):
        if about[f"{step}_at"] is not None:
            facts.append((step, moment(about[f"{step}_at"])))
    facts += [
        ("bookmark", f"{m.source}: {json.dumps(m.bookmark_before)} -> {json.dumps(m.bookmark_after)}")
        for m in manifests
        if m.bookmark_before is not None or m.bookmark_after is not None
    ]
    facts += [("table", name) for name in moved]
    if branch is not None:
        facts.append(("branch", branch))
    out.facts(facts)
    failed = runs[0] if runs and runs[0].state in RUN_ENDS and runs[0].error else None
    if failed is not None:
        out.line()
        head, *more = short(failed.error or "").splitlines()
        out.line(f"{out.styled('error:', 'bad')} {head}")
        for line in more:
            out.line(line if line.startswith("  ") else f"  {line}")


def _print_archive(invocation: Invocation, manifests: list[Manifest]) -> None:
    if not manifests:
        return
    out = invocation.out
    out.line()
    columns = [Column("archived file"), Column("bytes", right=True), Column("rows", right=True),
               Column("version", right=True, yields=1), Column("sha256", yields=2)]  # fmt: skip
    rows = [
        [part.path, size(part.bytes), count(part.rows), str(manifest.version), part.sha256]
        for manifest in manifests
        for part in manifest.parts
    ]
    if out.width is not None:  # a path is pasted, a hash is compared: on a terminal its beginning does
        rows = [[*row[:-1], row[-1][:12]] for row in rows]
    out.grid(columns, rows)


def _print_tasks(invocation: Invocation, tasks: list[TaskRun], told: str | None) -> None:
    """The tasks of the newest attempt; an error that was told as the run's is not told again."""
    if not tasks:
        return
    invocation.out.line()
    errors = ["" if t.error == told else (t.error or "").split("\n", 1)[0] for t in tasks]
    columns = [Column("task"), Column("state"), Column("rows", right=True), Column("bytes", right=True, yields=1),
               Column("took", right=True), *([Column("error", wraps=True)] if any(errors) else [])]  # fmt: skip
    rows = [
        [t.task, _task_state(t), count(t.rows), size(t.bytes), _took(t), *([error] if any(errors) else [])]
        for t, error in zip(tasks, errors, strict=True)
    ]
    invocation.out.grid(columns, rows)


def _task_state(task: TaskRun) -> str:
    return Styled(task.state.value, "bad") if task.state.value == "failed" else task.state.value


def _took(task: TaskRun) -> str:
    if task.started_at is None or task.ended_at is None:
        return "-"
    return duration((task.ended_at - task.started_at).total_seconds())


def _print_checks(invocation: Invocation, checks: list[CheckRecord]) -> None:
    if not checks:
        return
    invocation.out.line()
    columns = [Column("check", wraps=True), Column("table", yields=2), Column("result"), Column("severity", yields=1),
               Column("failed", right=True), Column("of rows", right=True), Column("observed"),
               Column("expected", yields=3), Column("failing rows", yields=4)]  # fmt: skip
    rows = [
        [c.name, str(c.table), "passed" if c.passed else Styled("failed", "bad" if c.severity == "error" else "warn"),
         c.severity, count(c.failed), count(c.rows), c.error or c.observed or "",
         c.expected if c.expected and c.expected != c.name else "", c.failures or ""]
        for c in sorted(checks, key=lambda c: (c.passed, str(c.table), c.name))
    ]  # fmt: skip
    invocation.out.grid(columns, rows)


def _next(about: dict[str, Any], branch: str | None) -> str:
    if topic_of(about["pipeline"]) is not None:
        return "tidemill stream topics"
    if about["state"] == BatchState.PUBLISHED:
        return f"tidemill branch revert {about['batch_id']}"
    return f"tidemill branch diff {branch}" if branch else f"tidemill replay {about['batch_id']}"
