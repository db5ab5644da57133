"""`tidemill data show TABLE --failing`: the rows that failed checks, as the run that checked them kept them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from tidemill.cli.grid import Styled
from tidemill.cli.invocation import Invocation
from tidemill.cli.rows import Head, columns_of, print_rows
from tidemill.model.table import Contract, Schema, TableName
from tidemill.ports.decoder import DecodeOptions, Feed, Restart
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
    path = check.failures
    info = services.archive.files.info(path) if path else None
    if path is None or info is None:
        return None

    def open_file() -> BinaryIO:
        return services.archive.files.open(path)

    feed = Feed(path, open_file, info.bytes, "jsonl", "zstd")
    found = Schema()
    while True:
        try:
            return _decoded(services, feed, found, limit)
        except Restart as restart:
            found = restart.found


def _decoded(services: Services, feed: Feed, found: Schema, limit: int) -> Head:
    """The rows of a small feed; a column that only later rows have is null in the others."""
    columns: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    for chunk in services.decoder.decode(
        [feed], tables={}, found=found, contract=Contract(), options=DecodeOptions()
    ):  # fmt: skip
        if chunk.batch is not None and chunk.batch.num_rows:
            columns |= columns_of(chunk.batch)
            rows += chunk.batch.to_pylist()
    return Head(columns, [tuple(row.get(name) for name in columns) for row in rows[:limit]], len(rows))
