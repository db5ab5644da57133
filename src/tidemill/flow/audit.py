"""Audit: the checks of a table, on the attempt's branch before it is published, and again after a rebase (rule 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from tidemill.flow.attempt import Attempt
from tidemill.model.errors import CheckFailed
from tidemill.model.expectation import Expectation, Of, ReferencesExpectation, Severity
from tidemill.model.pipeline import Scope
from tidemill.model.table import Scan, TableName
from tidemill.plan.verdict import observed, passed
from tidemill.ports.metadata import CheckRecord

#: Failing rows that are kept of each failed check; the record has the count of all.
KEPT_FAILURES = 1_000


class ChecksFailed(CheckFailed):
    """One or more checks of severity "error" failed; `records` are the results of all."""

    def __init__(self, what: str, records: Sequence[CheckRecord], *, hint: str) -> None:
        super().__init__(what, hint=hint)
        self.records = tuple(records)


def audit(attempt: Attempt, table: str) -> list[CheckRecord]:
    """Check one table of the run; keeps the results and the failing rows.

    Raises:
        ChecksFailed: a check of severity "error" failed.
    """
    name = TableName(attempt.pipeline.name, table)
    pointer = attempt.pointer(name)
    records = _measure(attempt, name, attempt.pipeline.checks[table], {} if pointer is None else {name: pointer})
    _keep(attempt, records)
    _raise_failed(attempt, name, records)
    return records


def recheck(attempt: Attempt, pointers: Mapping[TableName, str]) -> None:
    """Check tables again that were rebased onto a head which had moved: only checks of the whole table can change.

    Raises:
        ChecksFailed: the table as it would be published fails a check.
    """
    for name in pointers:
        checks = [c for c in attempt.pipeline.checks.get(name.table, ()) if c.of is Of.WHOLE]
        if checks and name.namespace == attempt.pipeline.name:
            records = _measure(attempt, name, checks, pointers)
            _keep(attempt, records)
            _raise_failed(attempt, name, records)


def _scan(attempt: Attempt, name: TableName, scope: Scope, pointers: Mapping[TableName, str]) -> Scan:
    """A scan of a table at the given pointers; others as the attempt sees them."""
    if name not in pointers:
        return attempt.scan(name, scope)
    batch_id = attempt.batch.id if scope is Scope.BATCH else None
    return attempt.services.catalog.scan(name, pointers[name], batch_id=batch_id)


def _measure(
    attempt: Attempt, name: TableName, checks: Sequence[Expectation], pointers: Mapping[TableName, str]
) -> list[CheckRecord]:
    services = attempt.services
    batch = _scan(attempt, name, Scope.BATCH, pointers)
    whole = _scan(attempt, name, Scope.WHOLE, pointers)
    others = {
        c.table: _scan(attempt, TableName.parse(c.table, name.namespace), Scope.WHOLE, pointers)
        for c in checks
        if isinstance(c, ReferencesExpectation)
    }
    found = services.auditor.measure(checks, batch, whole, others, _moment(attempt))
    records = []
    for check, figures in zip(checks, found, strict=True):
        ok = passed(check, figures)
        kept = None if ok or not figures.failed else _keep_failing(attempt, name, check, batch, whole, others)
        records.append(
            CheckRecord(
                run_id=attempt.run.id,
                batch_id=attempt.batch.id,
                table=name,
                name=check.name,
                severity=check.severity.value,
                passed=ok,
                at=services.clock.now(),
                rows=figures.rows,
                failed=figures.failed,
                observed=observed(check, figures),
                expected=" ".join(t for t in (check.expected, check.threshold) if t),
                failures=kept,
            )
        )
    return records


def _moment(attempt: Attempt) -> datetime:
    return attempt.interval.end if attempt.interval else attempt.services.clock.now()


def _keep_failing(
    attempt: Attempt, name: TableName, check: Expectation, batch: Scan, whole: Scan, others: Mapping[str, Scan]
) -> str:
    """Keep the failing rows as a file beside the archive of the batch; returns its path there."""
    services = attempt.services
    number = attempt.pipeline.checks[name.table].index(check)
    folder = f"{attempt.pipeline.name}/{name.table}__failures/batch={attempt.batch.id}"
    stamp = services.clock.now().strftime("%Y%m%dT%H%M%S%f")
    path = f"{folder}/a{attempt.run.attempt}-{number:02d}-{stamp}.jsonl.zst"
    with services.auditor.failing(check, batch, whole, others, KEPT_FAILURES) as reader:
        rows = [row for part in reader for row in part.to_pylist()]
    with services.archive.files.create(path) as out:
        services.records.encode(out, rows, "jsonl", "zstd")
    return path


def _keep(attempt: Attempt, records: Sequence[CheckRecord]) -> None:
    with attempt.services.metadata.write() as tx:
        tx.runs.check(attempt.run.id, attempt.run.fence)
        tx.checks.add(records)


def _raise_failed(attempt: Attempt, name: TableName, records: Sequence[CheckRecord]) -> None:
    failed = [r for r in records if not r.passed and r.severity == Severity.ERROR]
    if not failed:
        return
    what = "; ".join(f"{r.name}: {r.observed}" for r in failed)
    noun = "A check" if len(failed) == 1 else f"{len(failed)} checks"
    raise ChecksFailed(
        f'{noun} of "{name}" failed: {what}.',
        records,
        hint=f"tidemill data show {name} --branch {attempt.branch} --failing",
    )
