"""How a run ended, in facts that can be pasted: for people one a line, for programs as one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidemill.cli.text import count, duration, size
from tidemill.flow.facts.tables import is_inner
from tidemill.flow.observe import RunReport, TableReport, TaskReport
from tidemill.flow.services import Services
from tidemill.model.branch import MAIN
from tidemill.model.pipeline import TaskKind
from tidemill.model.place import told
from tidemill.model.run import TaskState
from tidemill.model.table import QUARANTINE_SUFFIX

Fact = tuple[str, ...]

_VERBS = {
    TaskKind.EXTRACT: "extracted",
    TaskKind.LOAD: "loaded",
    TaskKind.BUILD: "built",
    TaskKind.CHECK: "checked",
}


@dataclass(frozen=True, slots=True)
class Left:
    """What a failed run left: its branch with the tables written there, and the tables that went ahead to `main`."""

    branch: str | None
    tables: tuple[str, ...]
    published: tuple[str, ...]


def left_by(services: Services, report: RunReport) -> Left:
    """Look up what a failed run left."""
    run = report.run
    with services.metadata.read() as tx:
        commits = tx.refs.commits(MAIN, batch_id=run.batch_id)
        published = {str(name) for c in commits if c.run_id == run.id for name in c.changes}
        if run.branch is None:
            return Left(None, (), tuple(sorted(published)))
        here, before = tx.refs.pointers(run.branch), tx.refs.bases(run.branch)
    written = [name for name, pointer in here.items() if before.get(name) != pointer and not is_inner(name)]
    return Left(run.branch, tuple(sorted(map(str, written))), tuple(sorted(published)))


# For people -----------------------------------------------------------------------------------------------------------


def run_facts(report: RunReport) -> list[Fact]:
    """All facts of one run."""
    verb = "ran" if report.ok else "failed"
    attempt = f"attempt {report.run.attempt}"
    facts: list[Fact] = [(verb, str(report.batch.key), f"batch {report.batch.id}", attempt, duration(report.seconds))]
    for task in report.tasks:
        facts.append(_task_fact(report, task))
    tables = [t for t in report.tables if not is_inner(t.name)]
    for table in tables:
        facts.append(_table_fact(table))
    return facts


def _task_fact(report: RunReport, task: TaskReport) -> Fact:
    name = f"{report.batch.pipeline}.{task.task.name}"
    if task.state is TaskState.UPSTREAM_FAILED:
        return ("skipped", name, task.task.kind.value, "what it needs failed")
    if task.state is not TaskState.SUCCESS:
        failed = next((c for c in task.checks if not c.passed and c.severity == "error"), None)
        return ("failed", name, task.task.kind.value, failed.name if failed else type(task.error).__name__)
    details: list[str] = []
    if task.task.kind is TaskKind.CHECK:
        passed, warned = sum(c.passed for c in task.checks), [c.name for c in task.checks if not c.passed]
        details = [f"{passed} of {len(task.checks)} passed", *([f"warned: {', '.join(warned)}"] if warned else [])]
    elif task.task.kind is TaskKind.EXTRACT:
        details = [size(task.bytes), "already archived" if task.reused else ""]
    else:
        details = [count(task.rows, "rows") if task.rows is not None else "view"]
        details += [f"{count(task.rejected)} rejected"] if task.rejected else []
    return (_VERBS[task.task.kind], name, *details)


def _table_fact(table: TableReport) -> Fact:
    if table.total is None:
        return ("published", str(table.name), "view")
    related = "quarantine" if table.name.table.endswith(QUARANTINE_SUFFIX) else "child"
    return ("published", str(table.name), count(table.total, "rows"), str(table.write or related))


def range_fact(report: RunReport) -> Fact:
    """One published run of many, as one line."""
    tables = sum(1 for t in report.tables if not is_inner(t.name))
    loaded = sum(t.rows or 0 for t in report.tasks if t.task.kind is TaskKind.LOAD)
    return (
        "published", str(report.batch.key), f"batch {report.batch.id}", f"{count(loaded, 'rows')} loaded",
        count(tables, "tables"), duration(report.seconds),
    )  # fmt: skip


def failure_facts(left: Left, why: str, resume: str) -> list[Fact]:
    """What is left after a failure, and the two commands that go on from there."""
    facts: list[Fact] = []
    if left.published:
        facts.append(("published", ", ".join(left.published), "(before the failure)"))
    if left.branch is not None:
        tables = ", ".join(left.tables) or "no table changed"
        facts.append(("kept", f"branch {left.branch}", tables))
    if not left.published:
        facts.append(("untouched", MAIN))
    return [*facts, ("why:", why), ("resume:", resume)]


# For programs ---------------------------------------------------------------------------------------------------------


def run_object(report: RunReport) -> dict[str, Any]:
    """One run."""
    interval = report.batch.key.interval
    return {
        "batch_id": report.batch.id,
        "run_id": report.run.id,
        "pipeline": report.batch.pipeline,
        "interval": [interval.start, interval.end] if interval else None,
        "run_key": report.batch.key.run_key,
        "attempt": report.run.attempt,
        "state": report.state.value,
        "seconds": round(report.seconds, 6),
        "branch": report.branch,
        "tasks": [_task_object(t) for t in report.tasks],
        "tables": [
            {"table": str(t.name), "write": t.write.value if t.write else None, "rows": t.rows, "total": t.total}
            for t in report.tables
        ],
        "checks": [
            {
                "table": str(c.table), "name": c.name, "severity": c.severity, "passed": c.passed, "rows": c.rows,
                "failed": c.failed, "observed": c.observed, "expected": c.expected, "error": c.error,
            }
            for c in report.checks
        ],
    }  # fmt: skip


def _task_object(task: TaskReport) -> dict[str, Any]:
    return {
        "task": task.task.id,
        "state": task.state.value,
        "seconds": round(task.seconds, 6),
        "rows": task.rows,
        "bytes": task.bytes,
        "rejected": task.rejected,
        "reused": task.reused,
        "error": None if task.error is None else told(task.error),
    }
