"""Port `engine`: runs SQL over scans of tables and gives Arrow record batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from tidemill.model.table import Scan, Schema


@dataclass(frozen=True, slots=True)
class WithFiles:
    """A scan whose rows also tell which data file they lie in: column `column` holds its `DataFile.path`."""

    scan: Scan
    column: str = "_file"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in memory, each with the values of the schema's columns in order: few, such as those of system tables."""

    schema: Schema
    rows: Sequence[tuple[Any, ...]]


class SqlEngine(Protocol):
    """Runs SQL (DuckDB dialect) over scans.

    Promises:
      - A statement sees its `inputs`, `views` and `functions`, and nothing else: no other file, no network, no
        other engine state; queries do not see one another and may run in several threads.
      - It is one statement that only reads. Its names are looked up without regard to case.
      - A scan gives the columns of its schema by field id, whatever a file calls them; one that a file lacks is
        null; a narrower type of an older file is widened; no files give no rows of the right types.
      - Rows of a scan come file by file, and of each as they lie in it, as long as the statement does not change that.
      - Columns of the result have types that a table can have: the sum of integers is a long (an error where it
        does not fit), small integers are ints, enums and JSON are strings. The session's time zone is UTC.
      - The result streams: memory does not grow with it. Leaving the context ends the query, read or not.
    """

    def query(
        self,
        sql: str,
        inputs: Mapping[str, Scan | WithFiles | Rows | Any],
        *,
        namespace: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        views: Mapping[str, str] | None = None,
        where: Callable[[int, int], str] | None = None,
        memory: int | None = None,
    ) -> AbstractContextManager[Any]:
        """Run one SELECT; gives a pyarrow.RecordBatchReader.

        Args:
            sql: the statement.
            inputs: by name, `pipeline.table` or a bare name: a scan, rows in memory, or Arrow data (table, reader, or
                whatever has `__arrow_c_stream__`). A reader can be read once, so the statement may name it once.
            namespace: the pipeline in which bare names are looked up first.
            parameters: values for `$name`; those that the statement does not name are ignored.
            functions: Python functions by the name that SQL calls them by. Annotations give the types.
            views: SELECT statements by name; they may read inputs and one another. Their bare names are looked up
                in the namespace of the view.
            where: names a place in `sql` for messages, from its line and column, both from 1.
            memory: bytes, for each processor, that the statement should hold at most; what it has beyond waits on the
                disk. An engine with a limit of its own keeps to that. None: what the engine takes.

        Raises:
            UserError: the statement is wrong, or fails on the data; `where` of the error is its place.
            UnknownName: no such table, column, function or parameter.
            NeedsMemory: the statement cannot do with its memory; the reader raises the same.
            Unreachable: the disk on which rows wait is full; the reader raises the same.
            UserError: a function raised; the cause is its exception, with the traceback. The reader raises the same.
        """
        ...
