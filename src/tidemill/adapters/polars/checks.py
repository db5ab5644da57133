"""The port `auditor` by Polars: one query for all checks of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import pyarrow as pa
from polars.exceptions import PolarsError

from tidemill.adapters.polars.scan import Scanner
from tidemill.model.errors import UserError
from tidemill.model.expectation import Expectation, Measured
from tidemill.model.table import Scan
from tidemill.plan.check import Tables, check_columns, failing, measured, query


class PolarsAuditor:
    """Measures checks over scans.

    Args:
        scanner: makes the lazy frames; None: of local files.
    """

    def __init__(self, scanner: Scanner | None = None) -> None:
        self._scanner = scanner or Scanner()

    def measure(
        self, checks: Sequence[Expectation], batch: Scan, whole: Scan, others: Mapping[str, Scan], moment: datetime
    ) -> list[Measured]:
        """See the port."""
        tables = self._tables(batch, whole, others)
        check_columns(checks, tables, str(whole.name))
        try:
            result = query(checks, tables).collect(engine="streaming")
        except PolarsError as error:
            raise _unmeasurable(checks, tables, whole) or error from None
        return measured(checks, result, moment)

    @contextmanager
    def failing(
        self, check: Expectation, batch: Scan, whole: Scan, others: Mapping[str, Scan], limit: int
    ) -> Iterator[pa.RecordBatchReader]:
        """See the port."""
        rows = failing(check, self._tables(batch, whole, others))
        found = pa.table({}) if rows is None else rows.head(limit).collect(engine="streaming").to_arrow()
        yield found.to_reader()

    def _tables(self, batch: Scan, whole: Scan, others: Mapping[str, Scan]) -> Tables:
        lazy = self._scanner.lazy
        return Tables(lazy(batch), lazy(whole), {name: lazy(scan) for name, scan in others.items()})


def _unmeasurable(checks: Sequence[Expectation], tables: Tables, whole: Scan) -> UserError | None:
    """The check that Polars cannot compute, found by measuring one at a time; None: none fails alone."""
    for check in checks:
        try:
            query([check], tables).collect(engine="streaming")
        except PolarsError as error:
            what = str(error).split("\n", 1)[0]
            return UserError(
                f'Check "{check.name}" of "{whole.name}" cannot be computed: {what}.',
                hint="columns: " + ", ".join(str(c) for c in whole.schema if c.name in check.columns),
            )
    return None
