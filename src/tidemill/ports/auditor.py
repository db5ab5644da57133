"""Port `auditor`: measures checks over scans, all of a table's checks in one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from tidemill.model.expectation import Expectation, Measured
from tidemill.model.table import Scan


class Auditor(Protocol):
    """Measures checks.

    Promises: all checks are measured in one query that reads the columns they name and no others; a check on a column
    that the table does not have is an UnknownName, one that does not fit its columns' types a DefinitionError, before
    any row is read; failing rows come in the table's order.
    """

    def measure(
        self, checks: Sequence[Expectation], batch: Scan, whole: Scan, others: Mapping[str, Scan], moment: datetime
    ) -> list[Measured]:
        """Measure checks of one table.

        Args:
            checks: what is expected.
            batch: the batch's rows.
            whole: all rows.
            others: tables that checks refer to, by the name that the check uses.
            moment: ages of values are counted back from it.
        """
        ...

    def failing(
        self, check: Expectation, batch: Scan, whole: Scan, others: Mapping[str, Scan], limit: int
    ) -> AbstractContextManager[Any]:
        """The first `limit` rows that fail a check, as a pyarrow.RecordBatchReader."""
        ...
