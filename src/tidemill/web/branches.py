"""Branches: the list, what one changed, the checks that gate it; merge one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from tidemill.flow.branches import merge_branch, preview_merge
from tidemill.flow.diff import diff_branch
from tidemill.flow.facts.batches import check_facts
from tidemill.flow.facts.tables import counted_ref, diff_facts, is_inner, moved_tables
from tidemill.model.branch import Ref, RefKind, RefState
from tidemill.model.errors import UnknownName
from tidemill.model.json_values import jsonable
from tidemill.ports.metadata import Tx
from tidemill.web.models import CheckItem, Moved, TableMove
from tidemill.web.paging import cut, read_cursor
from tidemill.web.table import Asked, Cursor, Limit, Query


class BranchItem(Struct):
    """A branch or tag; `changed` counts the tables that are not as they were when a branch was made."""

    name: str
    kind: str
    state: str
    parent: str | None
    created_at: datetime
    expires_at: datetime | None
    run_id: int | None
    tables: int
    changed: int | None


class BranchPage(Struct):
    """Branches and tags by name. `hidden` counts branches of runs, which are listed when asked for."""

    branches: list[BranchItem]
    hidden: int
    next: str | None


class ColumnChange(Struct):
    """A column that was added, dropped or renamed."""

    before: str | None
    after: str | None


class RowChange(Struct):
    """A row that was added, removed or changed."""

    kind: str
    key: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class TableDiff(Struct):
    """What changed in a table: counts are of all rows, `rows` the first of each kind, `types` those of its columns."""

    table: str
    change: str
    key: list[str]
    types: dict[str, str]
    columns: list[ColumnChange]
    added: int
    removed: int
    changed: int
    moved_on_main: bool
    rows: list[RowChange]


class ViewDiff(Struct):
    """A view whose SQL is another."""

    view: str
    before: str | None
    after: str | None


class Diff(Struct):
    """What a branch changed."""

    branch: str
    kind: str
    against: str
    tables: list[TableDiff]
    views: list[ViewDiff]


class Gates(Struct):
    """The checks that a branch's run has made: one of severity `error` that failed keeps it from main."""

    branch: str
    run_id: int | None
    open: bool
    checks: list[CheckItem]


class BranchesQuery(Query, frozen=True):
    """Which branches."""

    limit: Limit = 50
    cursor: Cursor = None
    all: Annotated[bool, Meta(description="also the branches of runs, which failed runs leave behind")] = False


class DiffQuery(Query, frozen=True):
    """Of which table, and how many rows."""

    table: Annotated[str, Meta(description="only this one")] | None = None
    limit: Annotated[int, Meta(ge=0, le=1000, description="rows of each kind of a table")] = 5


def list_branches(asked: Asked) -> dict[str, Any]:
    """Branches and tags."""
    query: BranchesQuery = asked.query
    after = read_cursor(query.cursor, str)
    with asked.backend.metadata.read() as tx:
        refs = tx.refs.all(states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED])
        listed = [ref for ref in refs if query.all or ref.kind is not RefKind.RUN]
        hidden = len(refs) - len(listed)
        listed = sorted((ref for ref in listed if after is None or ref.name > after), key=lambda ref: ref.name)
        page, further = cut(listed, query.limit, lambda ref: ref.name)
        facts = [counted_ref(tx, ref) for ref in page]
    return {"branches": facts, "hidden": hidden, "next": further}


def show_diff(asked: Asked) -> dict[str, Any]:
    """What a branch changed: tables, columns, rows."""
    with asked.backend.lake() as services:
        found = diff_branch(services, asked.path["branch"], asked.query.table, limit=asked.query.limit)
    made: dict[str, Any] = jsonable(diff_facts(found))
    return made


def show_gates(asked: Asked) -> dict[str, Any]:
    """The checks of a branch's run."""
    name = asked.path["branch"]
    with asked.backend.metadata.read() as tx:
        ref = _found(tx, name)
        checks = tx.checks.recent(run_id=ref.run_id) if ref.run_id is not None else []
    closed = any(not one.passed and one.severity == "error" for one in checks)
    return {"branch": name, "run_id": ref.run_id, "open": not closed, "checks": [check_facts(one) for one in checks]}


def merge(asked: Asked) -> Moved:
    """Put what a branch changed onto main, all or nothing."""
    name, dry = asked.path["branch"], asked.query.dry_run
    with asked.backend.lake() as services:
        plan = preview_merge(services, name) if dry else merge_branch(services, name)
    verbs = moved_tables(plan.moves, plan.rebased)
    tables = [TableMove(str(table), verb) for table, verb in verbs.items() if not is_inner(table)]
    done = f"{'would merge' if dry else 'merged'} {name} into main"
    return Moved(done, tables, [str(view) for view in plan.views], dry)


def _found(tx: Tx, name: str) -> Ref:
    ref = tx.refs.get(name)
    if ref is None:
        known = tx.refs.all(states=[RefState.OPEN, RefState.FAILED])
        raise UnknownName.of("branch", name, (one.name for one in known))
    return ref
