"""Port `engine`: runs SQL over scans of tables and gives Arrow record batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tidemill.model.table import Scan


class SqlEngine(Protocol):
    """Runs SQL (DuckDB dialect) over scans.

    Promises: names in `inputs` are usable as tables, `{"pipeline.table": scan}` as `pipeline.table`, an Arrow table
    as an in-memory one; the statement cannot open other files; the result is drained or closed before the
    engine is used again; `functions` are the user's Python functions, callable by name.
    """

    def query(
        self,
        sql: str,
        inputs: Mapping[str, Scan | Any],
        *,
        parameters: Mapping[str, Any] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        views: Mapping[str, str] | None = None,
    ) -> AbstractContextManager[Any]:
        """Run one SELECT; gives a pyarrow.RecordBatchReader."""
        ...
