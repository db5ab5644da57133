"""Tables: what is on a ref, columns, versions, rows; and the results of their checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow.facts.batches import check_facts
from tidemill.flow.facts.rows import columns_of, head
from tidemill.flow.facts.tables import failed_checks, failed_facts, is_inner, snapshot_facts, table_facts
from tidemill.flow.query import Reading, inputs_of, query, reading
from tidemill.flow.services import Services
from tidemill.model.branch import MAIN
from tidemill.model.errors import UserError
from tidemill.model.table import BATCH_ID, TableName
from tidemill.plan.narrowing import Condition, narrowed, read_condition
from tidemill.plan.sql import quote
from tidemill.web.models import CheckItem
from tidemill.web.paging import cursor_of, cut, read_cursor
from tidemill.web.problems import bad_request
from tidemill.web.table import WHOLE, Asked, Cursor, Limit, Query
from tidemill.wiring.failing import kept_rows


class TableItem(Struct, kw_only=True):
    """A table or a view in a list; of views little more than the name is known."""

    table: str
    kind: str
    rows: int | None = None
    write: str | None = None
    key: list[str] = []
    partition: list[str] = []
    last_batch: int | None = None
    changed_at: datetime | None = None
    doc: str = ""


class TablePage(Struct):
    """Tables by name."""

    branch: str
    tables: list[TableItem]
    next: str | None


class ColumnItem(Struct):
    """A column."""

    name: str
    type: str


class Table(TableItem, kw_only=True):
    """One table with its columns."""

    branch: str
    schema: list[ColumnItem]


class Version(Struct):
    """A snapshot of a table. Its id is text: it has more digits than numbers of JavaScript."""

    snapshot_id: str
    committed_at: datetime
    operation: str
    batch_id: int | None
    kind: str | None
    rows: int | None
    added_rows: int | None
    removed_rows: int | None
    parent_id: str | None
    batches: list[int]


class Versions(Struct):
    """The snapshots of a table, newest first."""

    branch: str
    table: str
    versions: list[Version]
    total: int
    next: str | None


class Rows(Struct):
    """Rows of a table; values that JSON cannot hold (decimals, bytes) are text."""

    branch: str
    table: str
    columns: list[ColumnItem]
    rows: list[list[Any]]
    next: str | None


class CheckPage(Struct):
    """Results of checks, newest first."""

    checks: list[CheckItem]
    next: str | None


class RefQuery(Query, frozen=True):
    """Of which ref."""

    branch: Annotated[str, Meta(description="a branch or tag")] = MAIN
    at: Annotated[str, Meta(description="as it was at a time, or in a snapshot")] | None = None


class TablesQuery(RefQuery, frozen=True):
    """Which tables."""

    limit: Limit = 50
    cursor: Cursor = None
    pipeline: Annotated[list[str], Meta(description="only of these")] = []
    inputs: Annotated[bool, Meta(description="also the input tables behind upsert and history tables")] = False


class FailingQuery(RefQuery, frozen=True):
    """How many rows."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class RowsQuery(FailingQuery, frozen=True):
    """Which rows, and in which order."""

    batch: Annotated[int, Meta(ge=1, le=2**53, description="only those that this batch wrote")] | None = None
    filter: Annotated[
        list[Annotated[str, Meta(max_length=2000)]],
        Meta(description="column:comparison:value; eq ne lt le gt ge contains begins null notnull", extra=WHOLE),
    ] = []
    sort: Annotated[str, Meta(max_length=300, description="a column; -column: the greatest first")] | None = None
    cursor: Cursor = None


class VersionsQuery(RefQuery, frozen=True):
    """How many versions."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    cursor: Cursor = None


class FailedCheck(Struct):
    """A check that failed `of` so many rows, and rows that failed it; None: it is not about rows, or they are gone."""

    name: str
    severity: str
    run_id: int
    batch_id: int
    failed: int | None
    of: int | None
    observed: str | None
    file: str | None
    columns: list[ColumnItem]
    rows: list[list[Any]] | None


class Failing(Struct):
    """Rows of a table that failed checks: of a run's branch in that run, elsewhere in the newest run with such."""

    branch: str
    table: str
    checks: list[FailedCheck]


class ChecksQuery(Query, frozen=True):
    """Which results."""

    limit: Limit = 50
    cursor: Cursor = None
    table: Annotated[str, Meta(description="pipeline.table")] | None = None
    name: Annotated[str, Meta(description="of the check: its history")] | None = None
    run: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    passed: bool | None = None


def by_table(asked: Asked) -> list[str]:
    """The pipeline whose table the path names."""
    return [table_of(asked).namespace]


def table_of(asked: Asked) -> TableName:
    """The table that the path names, in full. Raises Unwelcome."""
    return read_name(asked.path["table"])


def list_tables(asked: Asked) -> dict[str, Any]:
    """Tables on a ref."""
    wanted: TablesQuery = asked.query
    after = read_cursor(wanted.cursor, str)
    with _reading(asked) as (services, seen):
        names = [
            name
            for name in sorted({*seen.pointers, *seen.views}, key=str)
            if (wanted.inputs or not is_inner(name))
            and asked.sees(name.namespace)
            and (not wanted.pipeline or name.namespace in wanted.pipeline)
            and (after is None or str(name) > after)
        ]
        page, further = cut(names, wanted.limit, str)
        listed = [_facts(services, seen, name) for name in page]
    return {"branch": wanted.branch, "tables": listed, "next": further}


def show_table(asked: Asked) -> dict[str, Any]:
    """One table with its columns."""
    with _reading(asked) as (services, seen):
        name = seen.resolve(str(read_name(asked.path["table"])))
        about = _facts(services, seen, name)
        columns = _types(services, seen, name)
    return {**about, "branch": asked.query.branch, "schema": _columns(columns)}


def show_versions(asked: Asked) -> dict[str, Any]:
    """The snapshots of a table."""
    with _reading(asked) as (services, seen):
        name = seen.resolve(str(read_name(asked.path["table"])))
        if name not in seen.pointers:
            raise UserError(f'"{name}" is a view: it has no snapshots.')
        found = services.catalog.history(name, seen.pointers[name])[::-1]
    skip = read_cursor(asked.query.cursor, int) or 0
    upto = skip + asked.query.limit
    shown = [snapshot_facts(one) for one in found[skip:upto]]
    for one in shown:
        one["snapshot_id"] = str(one["snapshot_id"])
        one["parent_id"] = None if one["parent_id"] is None else str(one["parent_id"])
    further = cursor_of(upto) if upto < len(found) else None
    return {
        "branch": asked.query.branch, "table": str(name), "versions": shown, "total": len(found), "next": further,
    }  # fmt: skip


def show_rows(asked: Asked) -> dict[str, Any]:
    """Rows of a table, by conditions, sorted. Pages are of one version only where `at` names it."""
    wanted: RowsQuery = asked.query
    skip = read_cursor(wanted.cursor, int) or 0
    with ExitStack() as held:
        # The lake's lock is held while the query is made, and not while it runs.
        with asked.backend.lake() as services:
            seen = held.enter_context(reading(services, wanted.branch, wanted.at))
            name = seen.resolve(str(read_name(asked.path["table"])))
            columns = _types(services, seen, name)
            conditions = [read_condition(text, columns) for text in wanted.filter]
            if wanted.batch is not None:
                conditions.append(Condition(BATCH_ID, "eq", str(wanted.batch)))
            sql, values = narrowed(name, columns, conditions, wanted.sort, limit=wanted.limit + 1, offset=skip)
            inputs, views = inputs_of(services, sql, seen)
        engine = asked.backend.bounded_sql
        found = head(held.enter_context(engine.query(sql, inputs, views=views, parameters=values)), None)
    rows = [list(one.values()) for one in found.objects()]
    return {
        "branch": wanted.branch, "table": str(name), "columns": _columns(found.columns), "rows": rows[: wanted.limit],
        "next": cursor_of(skip + wanted.limit) if len(rows) > wanted.limit else None,
    }  # fmt: skip


def show_failing(asked: Asked) -> dict[str, Any]:
    """Rows that failed checks of a table."""
    name, branch, made = read_name(asked.path["table"]), asked.query.branch, []
    with asked.backend.lake() as services:
        with services.metadata.read() as tx:
            failed = failed_checks(tx, name, branch)
        for check in failed:
            kept = kept_rows(services, check, asked.query.limit)
            made.append({
                **failed_facts(check),
                "columns": [] if kept is None else _columns(kept.columns),
                "rows": None if kept is None else [list(row.values()) for row in kept.objects()],
            })  # fmt: skip
    return {"branch": branch, "table": str(name), "checks": made}


def list_checks(asked: Asked) -> dict[str, Any]:
    """Results of checks, newest first; of one check of one table: its history."""
    wanted: ChecksQuery = asked.query
    table = read_name(wanted.table) if wanted.table is not None else None
    after = read_cursor(wanted.cursor, int) or 0
    found: list[Any] = []
    at = after
    with asked.backend.metadata.read() as tx:
        while len(found) <= wanted.limit:
            some = tx.checks.recent(run_id=wanted.run, table=table, skip=at, limit=_AT_ONCE)
            for place, one in enumerate(some):
                if (
                    asked.sees(one.table.namespace)
                    and wanted.name in (None, one.name)
                    and wanted.passed in (None, one.passed)
                ):
                    found.append((at + place, one))
            at += len(some)
            if len(some) < _AT_ONCE:
                break
    page, further = cut(found, wanted.limit, lambda one: int(one[0]) + 1)
    return {"checks": [check_facts(one) for _, one in page], "next": further}


#: Results that are looked through at once.
_AT_ONCE = 500


@contextmanager
def _reading(asked: Asked) -> Iterator[tuple[Services, Reading]]:
    with asked.backend.lake() as services, reading(services, asked.query.branch, asked.query.at) as seen:
        yield services, seen


def _facts(services: Services, seen: Reading, name: TableName) -> dict[str, Any]:
    if name in seen.pointers:
        return table_facts(services, seen, name)
    return {"table": str(name), "kind": "view"}


def read_name(text: str) -> TableName:
    """A table's whole name. Raises Unwelcome."""
    namespace, dot, table = text.partition(".")
    if not dot or not namespace or not table:
        raise bad_request(f'"{text}" is no table.', hint="pipeline.table")
    return TableName(namespace, table)


def _types(services: Services, seen: Reading, name: TableName) -> dict[str, str]:
    """Columns and their types: a table's own, or, of a view, those that Arrow has for them."""
    if name in seen.pointers:
        return {c.name: str(c.type) for c in services.catalog.load(name, seen.pointers[name]).schema}
    sql = f"SELECT * FROM {quote(name.namespace)}.{quote(name.table)} LIMIT 0"  # noqa: S608 - quoted
    with query(services, sql, seen) as reader:
        return columns_of(reader)


def _columns(types: dict[str, str]) -> list[ColumnItem]:
    return [ColumnItem(name, kind) for name, kind in types.items()]
