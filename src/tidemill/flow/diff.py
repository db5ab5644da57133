"""What a branch changed, seen from where it was forked: tables, columns, and rows before and after.

    pointers at the fork, pointers now -> tables that differ -> columns by field id -> rows of the files that differ

A file that both versions have holds the same rows in both, so only files of one side are read: the cost is that of
the change, not that of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tidemill.flow.services import Services
from tidemill.flow.stage import spec_from
from tidemill.model.branch import MAIN, Ref, RefKind, RefState
from tidemill.model.errors import Refused, UnknownName, UserError
from tidemill.model.table import INPUT_SUFFIX, SYSTEM_COLUMNS, Column, Scan, Schema, TableName, WriteMode
from tidemill.plan.sql import quote, quote_all
from tidemill.ports.engine import SqlEngine
from tidemill.ports.metadata import View

#: How long the files of both sides are kept for a reader whose process dies.
_READER = timedelta(hours=1)
_SYSTEM = tuple(c.name for c in SYSTEM_COLUMNS)
#: Column of history tables that tells versions of one key apart.
_VALID_FROM = "valid_from"


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column that was added (`before` is None), dropped (`after` is None), renamed or given another type."""

    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row that was added, removed or changed.

    `kind`: "added", "removed" or "changed". `key`: the key's columns, empty without a key. `before` and `after`: the
    other columns; of a changed row those that differ.
    """

    kind: str
    key: Mapping[str, Any]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class TableDiff:
    """One table. Counts are of all rows; `rows` holds the first of each kind."""

    name: TableName
    #: "created", "dropped" or "changed".
    change: str
    #: What rows were matched by; empty: whole rows.
    key: tuple[str, ...]
    columns: tuple[ColumnChange, ...]
    added: int
    removed: int
    changed: int
    rows: tuple[RowChange, ...]
    #: True where main has changed the table since the fork.
    moved: bool = False
    #: Columns that are compared, and what they hold, by the name of its type.
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ViewDiff:
    """A view whose SQL is not that of main."""

    name: TableName
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class BranchDiff:
    """Everything that a ref has and what it is compared with has not, or otherwise."""

    ref: Ref
    #: What it is compared with, in words.
    against: str
    tables: tuple[TableDiff, ...]
    views: tuple[ViewDiff, ...]


@dataclass(frozen=True, slots=True)
class _Sides:
    ref: Ref
    against: str
    before: Mapping[TableName, str]
    after: Mapping[TableName, str]
    main: Mapping[TableName, str]
    views: tuple[ViewDiff, ...]


def diff_branch(services: Services, name: str, table: str | None = None, *, limit: int = 5) -> BranchDiff:
    """Compare a branch with `main` as it was when the branch was made; a tag with `main` as it is now.

    Args:
        services: the project.
        name: the branch or tag.
        table: only this table: `pipeline.table`, or a bare name that only one pipeline has.
        limit: rows of each kind to give for a table.

    Raises:
        UnknownName: no such branch or table.
        Refused: the branch was merged or dropped: its tables are gone.
        UserError: `main` has nothing to be compared with.
    """
    with _both(services, name) as sides:
        names = {*sides.before, *sides.after}
        if table is not None:
            chosen = [_resolve(table, names, name)]
        else:
            chosen = sorted(
                n for n in names
                if sides.before.get(n) != sides.after.get(n) and not n.table.endswith(INPUT_SUFFIX)
            )  # fmt: skip
        tables = tuple(_diff_table(services, sides, n, limit) for n in chosen)
    return BranchDiff(sides.ref, sides.against, tables, sides.views if table is None else ())


@contextmanager
def _both(services: Services, name: str) -> Iterator[_Sides]:
    """Both sides' pointers in one transaction, and a lease on their files until the end (rules 8 and 10)."""
    with services.metadata.write() as tx:
        ref = tx.refs.get(name)
        if ref is None:
            known = tx.refs.all(states=[RefState.OPEN, RefState.FAILED, RefState.ABSORBED])
            raise UnknownName.of("branch", name, (r.name for r in known))
        if ref.kind is RefKind.MAIN:
            raise UserError(f'"{MAIN}" is what branches are compared with.', hint="tidemill branch diff <branch>")
        if ref.state in (RefState.MERGED, RefState.DROPPED):
            raise Refused(f'Branch "{name}" was {ref.state}: its tables are gone.', hint="tidemill branch ls --all")
        main, after = tx.refs.pointers(MAIN), tx.refs.pointers(name)
        fixed = ref.kind is RefKind.TAG
        before = main if fixed else tx.refs.bases(name)
        views = _views(tx.refs.views(MAIN), tx.refs.views(name))
        kept = {*before.items(), *after.items()}
        lease = tx.leases.acquire(f"reader {services.holder}", sorted(kept), services.clock.now() + _READER)
    against = f"{MAIN} as it is now" if fixed else f"{ref.parent or MAIN} as it was when {name} was made"
    try:
        yield _Sides(ref, against, before, after, main, views)
    finally:
        with services.metadata.write() as tx:
            tx.leases.release(lease)


def _views(before: Mapping[TableName, View], after: Mapping[TableName, View]) -> tuple[ViewDiff, ...]:
    pairs = {n: (before.get(n), after.get(n)) for n in {*before, *after}}
    return tuple(
        ViewDiff(n, a.sql if a else None, b.sql if b else None) for n, (a, b) in sorted(pairs.items()) if a != b
    )


def _resolve(text: str, names: set[TableName], ref: str) -> TableName:
    found = sorted(n for n in names if text in (str(n), n.table))
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f'"{text}" is a table of several pipelines.', hint=", ".join(map(str, found)))
    raise UnknownName.of("table", text, map(str, names), where=f'branch "{ref}"')


# One table ------------------------------------------------------------------------------------------------------------


def _diff_table(services: Services, sides: _Sides, name: TableName, limit: int) -> TableDiff:
    before, after = sides.before.get(name), sides.after.get(name)
    old = services.catalog.scan(name, before) if before is not None else None
    new = services.catalog.scan(name, after) if after is not None else None
    present = new or old
    assert present is not None
    schema, old_names, columns = _match(old, new)
    pointer = after or before
    assert pointer is not None
    key = _key(name, services.catalog.load(name, pointer).properties, schema)
    shared = set(old.files) & set(new.files) if old is not None and new is not None else set()
    nothing = replace(present, files=())
    sources = {
        side: replace(scan or nothing, files=tuple(f for f in (scan or nothing).files if f not in shared))
        for side, scan in (("old", old), ("new", new))
    }
    change = "created" if old is None else "dropped" if new is None else "changed"
    counts = {"added": 0, "removed": 0, "changed": 0}
    rows: tuple[RowChange, ...] = ()
    if sources["old"].files or sources["new"].files:
        if key and not _is_unique(services.sql, sources, key, old_names):
            key = ()
        counts, rows = compare_rows(services.sql, sources, old_names, key, limit)
    moved = sides.ref.kind is not RefKind.TAG and sides.main.get(name) != before
    types = {column.name: str(column.type) for column in schema}
    return TableDiff(
        name, change, key, columns, counts["added"], counts["removed"], counts["changed"], rows, moved, types
    )  # fmt: skip


def _match(old: Scan | None, new: Scan | None) -> tuple[Schema, dict[str, str | None], tuple[ColumnChange, ...]]:
    """Columns that both sides are compared by, their names on the old side, and what changed among them.

    A column is the same where its field id is: renamed ones are compared, dropped ones are not, added ones were null.
    """
    if old is None or new is None:
        present = (new or old or Scan(TableName("", ""), Schema(), ())).schema.without(_SYSTEM)
        return present, {c.name: c.name for c in present}, ()
    ours, theirs = new.schema.without(_SYSTEM), old.schema.without(_SYSTEM)
    by_id: dict[int | None, Column] = {c.field_id: c for c in theirs}
    old_names: dict[str, str | None] = {}
    changes: list[ColumnChange] = []
    for column in ours:
        earlier = by_id.pop(column.field_id, None)
        old_names[column.name] = earlier.name if earlier else None
        if earlier is None or (earlier.name, earlier.type) != (column.name, column.type):
            changes.append(ColumnChange(str(earlier) if earlier else None, str(column)))
    changes += [ColumnChange(str(gone), None) for gone in by_id.values()]
    return ours, old_names, tuple(changes)


def _key(name: TableName, properties: Mapping[str, str], schema: Schema) -> tuple[str, ...]:
    """What tells the rows of a table apart, as far as it was declared."""
    spec = spec_from(name, properties)
    key = spec.key
    if key and spec.write is WriteMode.HISTORY and _VALID_FROM in schema:
        key = (*key, _VALID_FROM)
    return key if all(column in schema for column in key) else ()


# Rows -----------------------------------------------------------------------------------------------------------------


def _is_unique(
    engine: SqlEngine, sides: Mapping[str, Any], key: Sequence[str], old_names: Mapping[str, str | None]
) -> bool:
    """True where no key occurs twice on a side; a key that one side does not have cannot match."""
    old_key = [old_names[k] for k in key]
    if any(k is None for k in old_key):
        return False
    for side, names in (("old", [k for k in old_key if k is not None]), ("new", list(key))):
        listed = quote_all(names)
        sql = f"SELECT 1 FROM {side} GROUP BY {listed} HAVING count(*) > 1 LIMIT 1"  # noqa: S608 - quoted names
        with engine.query(sql, {side: sides[side]}) as reader:
            if reader.read_all().num_rows:
                return False
    return True


def compare_rows(
    engine: SqlEngine, sides: Mapping[str, Any], columns: Mapping[str, str | None], key: Sequence[str], limit: int
) -> tuple[dict[str, int], tuple[RowChange, ...]]:
    """Compare the rows of two tables.

    Args:
        engine: what runs the comparison.
        sides: "old" and "new", as a scan or as anything else that the engine takes.
        columns: the columns to compare: name on the new side -> name on the old one, None where it had none.
        key: what rows are matched by, unique on both sides; empty: whole rows, counted.
        limit: rows of each kind to give.

    Returns:
        Counts of all rows by kind ("added", "removed", "changed"), and the first rows of each kind in the key's order.
    """
    names = [*key, *(name for name in columns if name not in key)]
    old = ", ".join(f"{_old_value(columns[n], n)} AS c{i}" for i, n in enumerate(names))
    new = ", ".join(f"{quote(n)} AS c{i}" for i, n in enumerate(names))
    found = _keyed(len(key), len(names)) if key else _whole(len(names))
    order = ", ".join(f"a{i}, b{i}" for i in range(len(key) or len(names)))
    sql = (
        f"WITH o AS (SELECT {old}, TRUE AS here FROM old), n AS (SELECT {new}, TRUE AS here FROM new), found AS ({found}) "  # noqa: E501, S608
        f"SELECT *, count(*) OVER (PARTITION BY kind) AS total FROM found "
        f"QUALIFY row_number() OVER (PARTITION BY kind ORDER BY {order}) <= {max(limit, 1)} ORDER BY kind, {order}"
    )
    with engine.query(sql, sides) as reader:
        rows = reader.read_all().to_pylist()
    counts = {"added": 0, "removed": 0, "changed": 0, **{row["kind"]: row["total"] for row in rows}}
    return counts, tuple(_row_change(row, names, len(key)) for row in rows) if limit else ()


def _old_value(old: str | None, new: str) -> str:
    """A column on the old side; one that was added since is a null of its type."""
    return quote(old) if old is not None else f"(SELECT {quote(new)} FROM new WHERE FALSE)"  # noqa: S608 - quoted


def _keyed(keys: int, columns: int) -> str:
    """Rows matched by key: one side's alone, or both where a column differs. Null is a value like any other."""
    on = " AND ".join(f"o.c{i} IS NOT DISTINCT FROM n.c{i}" for i in range(keys))
    differs = " OR ".join(f"o.c{i} IS DISTINCT FROM n.c{i}" for i in range(keys, columns)) or "FALSE"
    kind = "CASE WHEN o.here IS NULL THEN 'added' WHEN n.here IS NULL THEN 'removed' ELSE 'changed' END"
    both = ", ".join(f"o.c{i} AS a{i}, n.c{i} AS b{i}" for i in range(columns))
    return (
        f"SELECT {kind} AS kind, {both} FROM o FULL JOIN n ON {on} "  # noqa: S608 - names are ours
        f"WHERE o.here IS NULL OR n.here IS NULL OR {differs}"
    )


def _whole(columns: int) -> str:
    """Whole rows that one side has more often than the other."""
    listed = ", ".join(f"c{i}" for i in range(columns))
    added = ", ".join(f"NULL AS a{i}, c{i} AS b{i}" for i in range(columns))
    removed = ", ".join(f"c{i} AS a{i}, NULL AS b{i}" for i in range(columns))
    return (
        f"SELECT 'added' AS kind, {added} FROM (SELECT {listed} FROM n EXCEPT ALL SELECT {listed} FROM o) "  # noqa: S608
        f"UNION ALL "
        f"SELECT 'removed' AS kind, {removed} FROM (SELECT {listed} FROM o EXCEPT ALL SELECT {listed} FROM n)"
    )


def _row_change(row: Mapping[str, Any], names: Sequence[str], keys: int) -> RowChange:
    kind = row["kind"]
    before = {name: row[f"a{i}"] for i, name in enumerate(names)}
    after = {name: row[f"b{i}"] for i, name in enumerate(names)}
    key = {name: (before if kind == "removed" else after)[name] for name in names[:keys]}
    rest = names[keys:]
    if kind == "changed":
        rest = [name for name in rest if _differs(before[name], after[name])]
    return RowChange(
        kind,
        key,
        None if kind == "added" else {name: before[name] for name in rest},
        None if kind == "removed" else {name: after[name] for name in rest},
    )


def _differs(before: Any, after: Any) -> bool:
    """As SQL's IS DISTINCT FROM: NaN is itself."""
    both_nan = isinstance(before, float) and isinstance(after, float) and before != before and after != after
    return bool(before != after) and not both_nan
