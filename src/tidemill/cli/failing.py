"""`tidemill data show TABLE --failing`: the rows that failed checks, as the run that checked them kept them."""

from __future__ import annotations

from tidemill.cli.grid import Styled
from tidemill.cli.invocation import Invocation
from tidemill.cli.rows import print_rows


def show_failing(invocation: Invocation, table: str, ref: str, limit: int) -> None:
    """Print the failing rows of each failed check of a table.

    On a run's branch they are those of that run, elsewhere those of the newest run in which a check failed.
    """
    out = invocation.out
    found, kept = invocation.installation.lake.failing(table, ref, limit)
    checks = found["failed_checks"]
    if invocation.json:
        told = [{**one, "rows": rows.objects() if rows else []} for one, rows in zip(checks, kept, strict=True)]
        out.object({**found, "failed_checks": told})
        return
    if not checks:
        out.line(f"no check of {found['table']} failed")
        return
    for one, rows in zip(checks, kept, strict=True):
        severity = Styled(one["severity"], "bad" if one["severity"] == "error" else "warn")
        told_of = f"{out.styled(severity, severity.style)}, batch {one['batch_id']}: {one['observed'] or ''}"
        out.line(f"{one['name']}  {told_of}")
        if rows is not None:
            print_rows(out, rows, total=one["failed"])
        out.line()
    out.next(f"tidemill data batches {checks[0]['batch_id']}")
