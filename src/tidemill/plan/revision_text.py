"""Changes of tables as the Python of an Alembic revision: what `upgrade` and `downgrade` do, for people to review.

What Alembic has an operation for is written as that; the rest is SQL. Names in SQL are quoted.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from tidemill.model import types as t
from tidemill.model.migration import (
    Change,
    CopiedTable,
    GoneColumn,
    NewColumn,
    NewLayout,
    NewTable,
    NewType,
    SqlColumn,
    SqlTable,
    SqlView,
    Written,
)
from tidemill.model.table import BATCH_ID, split_name
from tidemill.plan.landing import quoted_name
from tidemill.plan.migration import converts, lengthens
from tidemill.plan.redshift_layout import altered, created, is_interleaved, lies_by_choice, sort_columns
from tidemill.plan.sql import quote

REDSHIFT, POSTGRES, DUCKDB = "redshift", "postgresql", "duckdb"

_EXACT = {
    "boolean": "sa.Boolean()", "smallint": "sa.SmallInteger()", "integer": "sa.Integer()", "bigint": "sa.BigInteger()",
    "real": "sa.REAL()", "float": "sa.REAL()", "double precision": "sa.Double()", "double": "sa.Double()",
    "date": "sa.Date()", "time": "sa.Time()", "time without time zone": "sa.Time()", "timestamp": "sa.DateTime()",
    "timestamp without time zone": "sa.DateTime()", "timestamp with time zone": "sa.DateTime(timezone=True)",
    "timestamptz": "sa.DateTime(timezone=True)", "text": "sa.Text()", "varchar": "sa.Text()", "uuid": "sa.Uuid()",
    "bytea": "sa.LargeBinary()", "blob": "sa.LargeBinary()",
}  # fmt: skip
_DECIMAL = re.compile(r"(?:numeric|decimal)\((\d+),\s*(\d+)\)")
_TEXT = re.compile(r"(?:character varying|varchar)\((\d+)\)")
#: What SQLAlchemy takes for the name of a value in SQL.
_VALUE = re.compile(r"(?<![:\w\\]):(?=\w)")
_NATIVE = '''class Native(sa.types.UserDefinedType):
    """A type by the name that the database has for it."""

    cache_ok = True

    def __init__(self, name):
        self.name = name

    def get_col_spec(self, **_):
        return self.name
'''
#: The longest name of an index, in bytes.
_NAME = 63


def written(found: Sequence[Change], views: Sequence[SqlView], dialect: str) -> Written:
    """The text of a revision.

    Args:
        found: what it does, in this order; `downgrade` does the opposite, from the last to the first.
        views: that may read the tables; those that keep columns from changing are dropped and made again.
        dialect: `postgresql`, `duckdb` or `redshift`.
    """
    # A text becomes longer outside of transactions only, so that is done first, and again if the rest fails.
    alone = [change for change in found if dialect == REDSHIFT and lengthens(change)]
    layouts = [change for change in found if isinstance(change, NewLayout)]
    others = [change for change in found if change not in alone and change not in layouts]
    gone = {(change.table, change.column.name) for change in others if isinstance(change, GoneColumn)}
    moved = {change.old.name if isinstance(change, CopiedTable) else change.table for change in found
             if isinstance(change, NewType | GoneColumn | CopiedTable)}  # fmt: skip
    hindering = [view for view in views if view.tables & moved] if dialect != DUCKDB else []
    up = [
        *_lengthened(alone, back=False),
        *_altered([line for change in layouts for line in altered(change.old, change.new)]),
        *(line for change in others for line in _done(change, dialect)),
    ]
    down = [
        *_lengthened(alone, back=True),
        *(line for change in layouts for line in _laid_back(change, gone)),
        *(line for change in reversed(others) for line in _undone(change, dialect)),
    ]
    text = "\n".join(up + down)
    return Written(_around(up, hindering), _around(down, hindering), _NATIVE if "Native(" in text else "")


def _around(lines: Sequence[str], views: Sequence[SqlView]) -> str:
    """Lines with the views dropped before them, and made after them."""
    before, after = [], []
    for view in reversed(views):
        kind = "MATERIALIZED VIEW" if view.materialized else "VIEW"
        before.append(_execute(f"DROP {kind} IF EXISTS {view.name}"))
    for view in views:
        kind = "MATERIALIZED VIEW" if view.materialized else "VIEW"
        after.append(_execute(f"CREATE {kind} {view.name} AS {view.query.strip().rstrip(';')}"))
    body = [*before, *lines, *after]
    if body and all(line.startswith("#") for line in body):
        body.append("pass")
    return "\n".join(body)


def _lengthened(changes: Iterable[Change], *, back: bool) -> list[str]:
    made = []
    for change in changes:
        assert isinstance(change, NewType)
        old, new = (change.new, change.old) if back else (change.old, change.new)
        call = _call("alter_column", change.table, repr(old.name), existing_type=kind_of(old), type_=kind_of(new))
        made.append(f"    {call}")
    if not made:
        return []
    told = "# Redshift changes lengths outside of transactions only."
    return [told, "with op.get_context().autocommit_block():", *made]


def _altered(statements: Sequence[str]) -> list[str]:
    if not statements:
        return []
    told = "# How a table lies is altered by statements of their own, which can be done again if the rest fails."
    return [told, "with op.get_context().autocommit_block():", *(f"    {_execute(one)}" for one in statements)]


def _laid_back(change: NewLayout, gone: Iterable[tuple[str, str]]) -> list[str]:
    """What lets a table lie as it did, as far as something can."""
    old = change.old
    lost = {name for table, name in gone if table == old.name}
    if is_interleaved(old) and sort_columns(old) != sort_columns(change.new):
        return [f"# {old.name} had an interleaved sort key, to which nothing can be altered: it lies as it does."]
    made = altered(change.new, old)
    stays = [one for one in made if any(quote(name) in one for name in lost)]
    told = f"# {old.name} lay by a column that was dropped: what names it is left out."
    return [*([told] if stays else []), *_altered([one for one in made if one not in stays])]


def _done(change: Change, dialect: str) -> list[str]:
    match change:
        case NewTable():
            return _made_table(change, dialect)
        case NewColumn(table, column):
            return [_added(table, column)]
        case GoneColumn(table, column):
            return [_call("drop_column", table, repr(column.name))]
        case NewType(table, old, new):
            return _retyped(table, old, new, dialect)
        case CopiedTable(old_table, new_table, _):
            return _copied(old_table, new_table)
        case NewLayout():
            return []


def _undone(change: Change, dialect: str) -> list[str]:
    match change:
        case NewTable(table, _, adopted):
            return [f"# {table.name} was there before: it stays."] if adopted else [_call("drop_table", table.name)]
        case NewColumn(table, column):
            return [_call("drop_column", table, repr(column.name))]
        case GoneColumn(table, column):
            return [_call("add_column", table, _column(column, nullable=True))]
        case NewType(table, old, new):
            return _retyped(table, new, old, dialect)
        case CopiedTable(old_table, new_table, _):
            return _copied(new_table, old_table)
        case NewLayout():
            return []


def _made_table(change: NewTable, dialect: str) -> list[str]:
    table = change.table
    schema, name = split_name(table.name)
    made = [] if schema is None else [_execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")]
    if dialect == REDSHIFT and lies_by_choice(table):
        return [*made, _execute(created(table, table.name, lenient=change.first))]
    body = [f"    {name!r},", *(f"    {_column(column)}," for column in table.columns)]
    body += [] if schema is None else [f"    schema={schema!r},"]
    made += ["op.create_table(", *body, *(["    if_not_exists=True,"] if change.first else []), ")"]
    if dialect == POSTGRES and not change.adopted:
        made += _indexed(table, first=change.first)
    return made


def _indexed(table: SqlTable, *, first: bool) -> list[str]:
    """By what a mirror's rows are found: keys, or batches, which lie together, so that an index is tiny."""
    schema, name = split_name(table.name)
    names, how = list(table.key), {}
    if not names:
        if not any(column.name == BATCH_ID for column in table.columns):
            return []
        names, how = [BATCH_ID], {"postgresql_using": repr("brin")}
    index = "_".join([name, *names, "idx"])
    if len(index.encode()) > _NAME:
        index = f"tidemill_{sha256(index.encode()).hexdigest()[:16]}_idx"
    options = {**({} if schema is None else {"schema": repr(schema)}), **how}
    if first:
        options["if_not_exists"] = "True"
    told = "".join(f", {key}={value}" for key, value in options.items())
    return [f"op.create_index({index!r}, {name!r}, {names!r}{told})"]


def _retyped(table: str, old: SqlColumn, new: SqlColumn, dialect: str) -> list[str]:
    value = cast(old, new, dialect)
    if value is not None and dialect != REDSHIFT:
        types = {"existing_type": kind_of(old), "type_": kind_of(new), "postgresql_using": repr(value)}
        return [_call("alter_column", table, repr(old.name), **types)]
    target, other = quoted_name(table), SqlColumn(f"_tidemill_{old.name}", new.type, encode=new.encode)
    if value is None:
        told = f"# No {old.type} can become {new.type}: values come again with the next full delivery."
    else:
        told = "# Redshift changes no type: another column takes this one's place."
    # The new one is there before the old one goes: a table has at least one.
    return [
        told,
        _added(table, other),
        *([] if value is None else [_execute(f"UPDATE {target} SET {quote(other.name)} = {value}")]),
        _call("drop_column", table, repr(old.name)),
        _execute(f"ALTER TABLE {target} RENAME COLUMN {quote(other.name)} TO {quote(old.name)}"),
    ]


def _copied(old: SqlTable, new: SqlTable) -> list[str]:
    schema, name = split_name(old.name)
    other = f"_tidemill_{name}" if schema is None else f"{schema}._tidemill_{name}"
    before = {column.name: column for column in old.columns}
    kept = [column for column in new.columns if column.name in before]
    values = [cast(before[column.name], column, REDSHIFT) or f"CAST({quote(column.name)} AS {column.type})"
              if before[column.name].type != column.type else quote(column.name) for column in kept]  # fmt: skip
    listed = ", ".join(quote(column.name) for column in kept)
    return [
        "# Redshift changes no type, and no column can take the place of a key: the table is copied. What the new one",
        "# shall have besides (grants, encodings that are not declared) is to be said here.",
        _execute(created(new, other)),
        _execute(
            f"INSERT INTO {quoted_name(other)} ({listed}) SELECT {', '.join(values)} FROM {quoted_name(old.name)}"
        ),
        _execute(f"DROP TABLE {quoted_name(old.name)}"),
        _execute(f"ALTER TABLE {quoted_name(other)} RENAME TO {quote(name)}"),
    ]


def cast(old: SqlColumn, new: SqlColumn, dialect: str) -> str | None:
    """SQL of a column's value as another type; None: no value can become one."""
    name = quote(old.name)
    if not converts(old, new):
        return None
    if dialect == REDSHIFT and old.kind != new.kind and t.BOOLEAN in (old.kind, new.kind):
        # It casts no text to a boolean, nor back.
        return f"CASE {name} WHEN true THEN 'true' WHEN false THEN 'false' END" if old.kind == t.BOOLEAN else None
    if dialect == REDSHIFT and old.type.lower() == "super":
        return f"json_serialize({name})"
    return f"CAST({name} AS {new.type})"


def kind_of(column: SqlColumn) -> str:
    """A column's type as SQLAlchemy's Python writes it."""
    kind = column.type.lower()
    if kind in _EXACT:
        return _EXACT[kind]
    if found := _DECIMAL.fullmatch(kind):
        return f"sa.Numeric({found[1]}, {found[2]})"
    if found := _TEXT.fullmatch(kind):
        return f"sa.String({found[1]})"
    return f"Native({column.type!r})"


def _column(column: SqlColumn, *, nullable: bool | None = None) -> str:
    free = column.nullable if nullable is None else nullable
    return f"sa.Column({column.name!r}, {kind_of(column)}{'' if free else ', nullable=False'})"


def _added(table: str, column: SqlColumn) -> str:
    if not column.encode:
        return _call("add_column", table, _column(column))
    kind = f"{quote(column.name)} {column.type} ENCODE {column.encode}"
    return _execute(f"ALTER TABLE {quoted_name(table)} ADD COLUMN {kind}")


def _call(operation: str, table: str, *given: str, **named: str) -> str:
    schema, name = split_name(table)
    told = [repr(name), *given, *(f"{key}={value}" for key, value in named.items())]
    if schema is not None:
        told.append(f"schema={schema!r}")
    return f"op.{operation}({', '.join(told)})"


def _execute(statement: str) -> str:
    return f"op.execute({_escaped(statement)!r})"


def _escaped(statement: str) -> str:
    """A statement in which SQLAlchemy finds no name of a value."""
    return _VALUE.sub(r"\\:", statement)
