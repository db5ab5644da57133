"""Quarantine: rows that did not fit, in `<table>__quarantine`, replaced by batch like any other rows."""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.flow.attempt import Attempt
from tidemill.flow.stage import Stage, own_files
from tidemill.model.branch import ChangeKind
from tidemill.model.errors import ContractError
from tidemill.model.table import Schema, TableSpec, WriteMode
from tidemill.ports.decoder import Rejected

#: Columns of a quarantine table, beside the system columns.
COLUMNS = Schema.of({"file": "string", "line": "long", "raw": "string", "error": "string"})


def too_many(attempt: Attempt, table: TableSpec, rows: int, rejected: int, where: str) -> ContractError | None:
    """The error where more rows went to quarantine than the table's contract allows.

    Args:
        attempt: whose branch shows them.
        table: the table that they were for.
        rows: how many rows fitted.
        rejected: how many did not.
        where: where the table is declared.
    """
    limit = table.contract.max_rejected
    total = rows + rejected
    if limit is None or rejected <= (limit * total if isinstance(limit, float) else limit):
        return None
    return ContractError(
        f'{rejected} of {total} rows ({rejected / total:.2%}) for "{table.name}" do not fit its contract; '
        f"max_rejected is {limit}.",
        where=where,
        hint=f"tidemill data show {table.name.quarantine} --branch {attempt.branch}",
    )


class Quarantine:
    """Collects the rejected rows of one table in one attempt. Use as a context; `commit` gives the pointer."""

    def __init__(self, attempt: Attempt, table: TableSpec) -> None:
        spec = TableSpec(
            table.name.quarantine, WriteMode.APPEND, publish=table.publish, doc=f"rows that {table.name} rejected"
        )
        self._stage = Stage(attempt, spec)
        self._existed = spec.name in attempt.fork

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(self, *exit_: object) -> None:
        self._stage.__exit__(*exit_)

    @property
    def rows(self) -> int:
        """How many rows were rejected."""
        return self._stage.rows

    def add(self, rejected: Iterable[Rejected]) -> None:
        """Add rejected rows."""
        rows: list[dict[str, object]] = [
            {"file": r.file, "line": r.line, "raw": r.raw, "error": r.error} for r in rejected
        ]
        if rows:
            self._stage.write_rows(rows, COLUMNS)

    def commit(self) -> str | None:
        """The pointer of the quarantine table's next version; None where there is no such table and no row."""
        if not self._existed and not self.rows:
            return None
        own, _ = own_files(self._stage)
        return self._stage.commit(ChangeKind.BATCH, own)
