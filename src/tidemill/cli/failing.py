"""`tidemill data show TABLE --failing`: the rows that failed checks, as the run that checked them kept them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.cli.grid import Styled
from tidemill.cli.invocation import Invocation
from tidemill.cli.rows import Head, print_rows
from tidemill.model.table import TableName
from tidemill.ports.metadata import CheckRecord, Tx

if TYPE_CHECKING:
    from tidemill.flow.services import Services

#: Records looked through for the newest run in which a check of the table failed.
_LOOKED_AT = 500


def show_failing(invocation: Invocation, name: TableName, ref: str, limit: int) -> None:
    """Print the failing rows of each failed check of a table.

    On a run's branch they are those of that run, elsewhere those of the newest run in which a check failed.
    """
    services, out = invocation.services, invocation.out
    with services.metadata.read() as tx:
        failed = _failed(tx, name, ref)
    if invocation.json:
        checks = [{**_about(c), "rows": kept.objects() if (kept := _kept(services, c, limit)) else []} for c in failed]
        out.object({"branch": ref, "table": str(name), "failed_checks": checks})
        return
    if not failed:
        out.line(f"no check of {name} failed")
        return
    for check in failed:
        severity = Styled(check.severity, "bad" if check.severity == "error" else "warn")
        out.line(
            f"{check.name}  {out.styled(severity, severity.style)}, batch {check.batch_id}: {check.observed or ''}"
        )
        kept = _kept(services, check, limit)
        if kept is not None:
            print_rows(out, kept, total=check.failed)
        out.line()
    out.next(f"tidemill data batches {failed[0].batch_id}")


def _failed(tx: Tx, name: TableName, ref: str) -> list[CheckRecord]:
    record = tx.refs.get(ref)
    if record is not None and record.run_id is not None:
        found = tx.checks.recent(run_id=record.run_id, table=name)
    else:
        found = tx.checks.recent(table=name, limit=_LOOKED_AT)
    failed = [c for c in found if not c.passed]
    return [c for c in failed if c.run_id == failed[0].run_id]


def _about(check: CheckRecord) -> Mapping[str, Any]:
    return {
        "name": check.name, "severity": check.severity, "batch_id": check.batch_id, "run_id": check.run_id,
        "failed": check.failed, "of": check.rows, "observed": check.observed, "file": check.failures,
    }  # fmt: skip


def _kept(services: Services, check: CheckRecord, limit: int) -> Head | None:
    """The rows that were kept of a check; None for checks that are not about rows."""
    from tidemill.adapters.records.lines import read_lines

    if check.failures is None or services.archive.files.info(check.failures) is None:
        return None
    with services.archive.files.open(check.failures) as stream:
        rows = list(read_lines(stream))
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: "double" if all(_is_number(row.get(name)) for row in rows) else "string" for name in names}
    return Head(columns, [tuple(row.get(name) for name in names) for row in rows[:limit]], len(rows))


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
