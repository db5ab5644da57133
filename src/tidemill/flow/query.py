"""Reading the lake: all pointers of a query in one SELECT, under a lease (rule 10)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidemill.flow.services import Services
from tidemill.model.branch import MAIN, RefState
from tidemill.model.errors import DataError, Refused, UnknownName, UserError
from tidemill.model.table import INPUT_SUFFIX, Scan, TableName
from tidemill.plan.table_names import meant_table
from tidemill.ports.engine import Rows
from tidemill.ports.metadata import View

#: The namespace of Tidemill's own tables in SQL, and what they are.
SYSTEM = "tidemill"
SYSTEM_TABLES = ("batches", "runs", "tasks", "checks", "files", "stream_checks")
#: How long a reader's files are kept for it if its process dies.
_READER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader sees: the pointers and views of one ref at one moment."""

    ref: str
    pointers: Mapping[TableName, str]
    views: Mapping[TableName, View]
    #: Read every table as of this snapshot of its own; only for queries of one table.
    snapshot_id: int | None = None

    def names(self) -> list[str]:
        """Every table and view that a user may mean, by name; input tables are Tidemill's own."""
        return sorted(str(n) for n in {*self.pointers, *self.views} if not n.table.endswith(INPUT_SUFFIX))

    def resolve(self, text: str) -> TableName:
        """The table that a user means by `pipeline.table`, or by a bare name that only one pipeline has.

        Raises:
            UnknownName: no such table on the ref, or a bare name that several pipelines have.
        """
        return meant_table(text, {*self.pointers, *self.views}, self.ref)


@contextmanager
def reading(services: Services, ref: str = MAIN, at: str | datetime | None = None) -> Iterator[Reading]:
    """Open a ref for reading, at its head or as of a moment, and keep its files until the end.

    Args:
        services: the project.
        ref: a branch or tag.
        at: None; a time, for the whole ref as it was then; or a snapshot id of one table.

    Raises:
        UnknownName: no such ref.
        UserError: `at` is neither a time nor a snapshot.
    """
    moment, snapshot_id = _parse_at(at)
    with services.metadata.write() as tx:
        record = tx.refs.get(ref)
        if record is None or record.state not in (RefState.OPEN, RefState.FAILED, RefState.ABSORBED):
            if record is not None:
                raise Refused(
                    f'Branch "{ref}" was {record.state}: its tables are gone.', hint=f"they are on {MAIN}, or dropped"
                )
            open_refs = tx.refs.all(states=[RefState.OPEN, RefState.FAILED])
            raise UnknownName.of("branch", ref, (r.name for r in open_refs))
        pointers = tx.refs.pointers(ref) if moment is None else tx.refs.pointers_at(ref, moment)
        views = tx.refs.views(ref)
        lease = tx.leases.acquire(services.holder, pointers.items(), services.clock.now() + _READER)
    try:
        yield Reading(ref, pointers, views, snapshot_id)
    finally:
        with services.metadata.write() as tx:
            tx.leases.release(lease)


def _parse_at(at: str | datetime | None) -> tuple[datetime | None, int | None]:
    if at is None or isinstance(at, datetime):
        return at, None
    if at.isdigit():
        return None, int(at)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise UserError(
            f'"{at}" is neither a time nor a snapshot.', hint='"2013-01-15T12:00:00+00:00", or an id from data history'
        ) from None
    return (moment if moment.tzinfo else moment.astimezone()), None


def scan_of(services: Services, seen: Reading, name: TableName) -> Scan:
    """The files of a table as the reader sees it.

    Raises:
        DataError: the version is gone.
    """
    try:
        return services.catalog.scan(name, seen.pointers[name], snapshot_id=seen.snapshot_id)
    except FileNotFoundError as error:
        raise DataError(
            f'A file of this version of "{name}" is gone: {error.filename or error}.',
            hint="what `data vacuum --keep` let go cannot be read; anything newer must be restored from a backup",
        ) from error


@contextmanager
def query(services: Services, sql: str, seen: Reading, *, parameters: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """Run one SELECT over tables, views and Tidemill's own tables; gives a record batch reader.

    Args:
        services: the project.
        sql: the statement.
        seen: what it reads.
        parameters: values for `$name` in it.

    Raises:
        UnknownName: a table that the ref does not have.
        UserError: the SQL cannot be read, or does more than read.
    """
    inputs, views = inputs_of(services, sql, seen)
    with services.sql.query(sql, inputs, views=views, parameters=parameters) as result:
        yield result


def inputs_of(services: Services, sql: str, seen: Reading) -> tuple[dict[str, Any], dict[str, str]]:
    """What a statement reads, by name: scans of tables and rows of Tidemill's own; and the SQL of views.

    Raises as `query`.
    """
    from tidemill.plan.sql_tables import tables_in

    inputs: dict[str, Any] = {}
    views: dict[str, str] = {}
    todo = list(tables_in(sql))
    while todo:
        text = todo.pop()
        if text in inputs or text in views:
            continue
        namespace, _, table = text.rpartition(".")
        if namespace == SYSTEM:
            if table not in SYSTEM_TABLES:
                raise UnknownName.of("table", text, [f"{SYSTEM}.{t}" for t in SYSTEM_TABLES])
            inputs[text] = Rows(*services.metadata.rows(table))
            continue
        name = seen.resolve(text)
        if name in seen.views:
            views[text] = seen.views[name].sql
            todo.extend(tables_in(views[text]))
        else:
            inputs[text] = scan_of(services, seen, name)
    if seen.snapshot_id is not None and len(inputs) > 1:
        raise UserError("A snapshot is of one table, and this query reads several.", hint="--at <time>")
    return inputs, views
