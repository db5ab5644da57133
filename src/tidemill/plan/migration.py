"""What the tables of a destination lack: declared columns against those that exist, as typed changes.

contract, columns of the lake's table -> asked_columns -> Declared -+
+-> changes, to be written as a revision
tables and views that the destination has --------------------------+
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeAlias

from tidemill.model import types as t
from tidemill.model.migration import (
    Change,
    CopiedTable,
    Declared,
    Existing,
    GoneColumn,
    NewColumn,
    NewLayout,
    NewTable,
    NewType,
    SqlColumn,
    SqlTable,
)
from tidemill.model.policy import Policy, PolicyKind
from tidemill.model.table import SYSTEM_COLUMNS, Column, Schema
from tidemill.plan.delivery import delivered_columns
from tidemill.plan.evolve import widens
from tidemill.plan.landing import takes
from tidemill.plan.redshift_layout import differences, laid, layout_of, with_encodings_of

#: What a database calls a type, whose values have so many bytes at most.
TypeName: TypeAlias = Callable[[t.Type, int], str]

#: The length of a text that was never measured.
UNMEASURED = 256
_SIZED = re.compile(r"(character varying|varchar|varbyte|binary varying)(?:\((\d+)\))?")
#: Types that hold other values, as databases call them.
_NESTED = re.compile(r"(?:jsonb|super|struct\(.*|map\(.*|.*\[\d*\])")
#: Names of one type.
_ALIASES = {
    "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
    "time without time zone": "time",
}  # fmt: skip
_SCALARS = tuple(t.Primitive(name) for name in t.PRIMITIVES)
_DECIMAL = re.compile(r"(?:numeric|decimal)\((\d+),\s*(\d+)\)")
_NUMBERS = ("int", "long", "float", "double")
_MOMENTS = ("date", "timestamp", "timestamptz")


def asked_columns(
    declared: Schema, published: Schema | None, policies: Mapping[str, Policy]
) -> tuple[Schema | None, tuple[str, ...]]:
    """The columns that a destination is to have of a table, and what cannot be as it is declared.

    A delivery sends what the lake's table has, so that counts, unless the lake can become what is declared: wider
    types, further columns.

    Args:
        declared: columns of the table's contract.
        published: columns of the table on `main`; None: it was never published.
        policies: what happens to values before they are written, by column.
    """
    declared = Schema(tuple(_as_written(c, policies.get(c.name)) for c in declared if not _dropped(policies, c)))
    if published is None:
        return (declared.with_columns(SYSTEM_COLUMNS) if len(declared) else None), ()
    made, notes = [], []
    for column in delivered_columns(published):
        known = declared.get(column.name)
        if known is not None and known.type != column.type and widens(column.type, known.type):
            column = replace(column, type=known.type)
        elif known is not None and not widens(known.type, column.type):
            notes.append(
                f'"{column.name}" is declared as {known.type} and published as {column.type}: the lake\'s table cannot'
                " become that, and what it has is delivered"
            )
        made.append(column)
    names = {column.name.lower() for column in published if column.type != t.UNKNOWN}
    further = [column for column in declared if column.name.lower() not in names]
    return Schema((*made, *further)), tuple(notes)


def _dropped(policies: Mapping[str, Policy], column: Column) -> bool:
    return column.name in policies and policies[column.name].kind is PolicyKind.DROP


def _as_written(column: Column, policy: Policy | None) -> Column:
    """What is masked, hashed or encrypted is text."""
    return column if policy is None else replace(column, type=t.STRING)


def asked_table(declared: Declared, type_name: TypeName, *, required_keys: bool) -> SqlTable:
    """The table as a database is to have it.

    Args:
        declared: the table; its columns are known.
        type_name: of the database.
        required_keys: whether a key is NOT NULL there.

    Raises:
        UnknownName: its layout names a column that there is not.
    """
    assert declared.columns is not None
    key = {name.lower() for name in declared.key}
    columns = tuple(
        SqlColumn(
            column.name,
            type_name(column.type, declared.lengths.get(column.name, UNMEASURED if column.type == t.STRING else 0)),
            not (required_keys and column.name.lower() in key),
            column.type,
        )
        for column in declared.columns
    )
    return laid(SqlTable(declared.into, columns, declared.key), declared.layout)


def changes(
    asked: Iterable[SqlTable], existing: Existing, type_name: TypeName, *, copies: bool = False, first: bool = False
) -> list[Change]:
    """What is to be done until each of the tables can take what is delivered to it.

    Args:
        asked: tables as they are to be.
        existing: what there is.
        type_name: of the database.
        copies: a column of a key, or one that is NOT NULL, cannot be replaced by another one: its table is copied.
            Likewise where a table is to lie by a column that comes with the same revision.
        first: no revision was written before, so tables that are there are in the first one, too.
    """
    made: list[Change] = []
    for table in asked:
        have = existing.tables.get(table.name)
        if have is None:
            made.append(NewTable(table, first))
            continue
        layout = layout_of(table)
        have = with_encodings_of(have, layout.encode)
        if first:
            made.append(NewTable(with_encodings_of(have, ()), first, adopted=True))
        found = _columns(table, have, type_name)
        rigid = [c for c in found if not isinstance(c, NewColumn) and is_rigid(_old(c)) and not lengthens(c)]
        fresh = {_new(c).name.lower() for c in found if not isinstance(c, GoneColumn) and not lengthens(c)}
        keys = (*layout.sortkey, *((layout.distkey,) if layout.distkey else ()))
        if copies and (any(isinstance(c, NewType) for c in rigid) or any(name.lower() in fresh for name in keys)):
            copied = _copied(have, found)
            lying = laid(copied.new, layout)
            told = differences(copied.new, lying)
            otherwise = (NewLayout(copied.new, lying, tuple(told)),) if told else ()
            made.append(replace(copied, new=lying, changes=(*copied.changes, *otherwise)))
            made += (change for change in found if isinstance(change, GoneColumn))
            continue
        made += found
        # A column that comes, comes with its encoding.
        known = {name: encoding for name, encoding in layout.encode.items() if name.lower() not in fresh}
        lying = laid(have, replace(layout, encode=known))
        if told := differences(have, lying):
            made.append(NewLayout(have, lying, tuple(told)))
    return made


def _columns(table: SqlTable, have: SqlTable, type_name: TypeName) -> list[NewColumn | NewType | GoneColumn]:
    known = {column.name.lower(): column for column in have.columns}
    made: list[NewColumn | NewType | GoneColumn] = []
    for column in table.columns:
        old = known.pop(column.name.lower(), None)
        if old is None:
            # What a table has rows of already takes nulls: there is nothing else for them.
            made.append(NewColumn(table.name, replace(column, nullable=True, distkey=False, sortkey=0)))
        elif not holds(old.type, column, type_name):
            new = replace(column, name=old.name, nullable=old.nullable, distkey=old.distkey, sortkey=old.sortkey)
            made.append(NewType(table.name, replace(old, kind=kind_of(old.type, type_name)), new))
    return [*made, *(GoneColumn(table.name, column) for column in known.values())]


def holds(found: str, column: SqlColumn, type_name: TypeName) -> bool:
    """Whether a column of a type holds all values of another one."""
    if plain(found) == plain(column.type):
        return True
    old, new = _SIZED.fullmatch(found.lower()), _SIZED.fullmatch(column.type.lower())
    if old and new and _sized(old) == _sized(new):
        return old[2] is None or new[2] is None or int(old[2]) >= int(new[2])
    kind = kind_of(found, type_name)
    if kind is None:
        # A type that we would never have made is somebody's choice: the database judges the values.
        return _NESTED.fullmatch(found.lower()) is None
    return column.kind is not None and takes(kind, column.kind)


def plain(kind: str) -> str:
    """A type's text for comparing: DuckDB quotes names of fields only where it must."""
    text = re.sub(r"\s+", " ", kind.replace('"', "")).replace(", ", ",").lower()
    return _ALIASES.get(text, text)


def kind_of(text: str, type_name: TypeName) -> t.Type | None:
    """The type in the lake that a database calls so; None: none without parts."""
    sized = _SIZED.fullmatch(text.lower())
    if sized:
        return _sized(sized)
    found = _DECIMAL.fullmatch(text.lower())
    if found:
        return t.Decimal(int(found[1]), int(found[2]))
    return next((kind for kind in _SCALARS if plain(type_name(kind, 0)) == plain(text)), None)


def _sized(found: re.Match[str]) -> t.Type:
    return t.STRING if found[1] in ("character varying", "varchar") else t.BINARY


def _new(change: NewColumn | NewType) -> SqlColumn:
    return change.new if isinstance(change, NewType) else change.column


def _old(change: NewType | GoneColumn) -> SqlColumn:
    return change.old if isinstance(change, NewType) else change.column


def is_rigid(column: SqlColumn) -> bool:
    """Whether no other column can take its place: the table lies by it, or rows without it are refused."""
    return column.distkey or bool(column.sortkey) or not column.nullable


def lengthens(change: Change) -> bool:
    """Whether only the length of a text changes."""
    if not isinstance(change, NewType):
        return False
    found = [_SIZED.fullmatch(kind.lower()) for kind in (change.old.type, change.new.type)]
    return all(one is not None and one[2] is not None and _sized(one) == t.STRING for one in found)


def _copied(have: SqlTable, found: list[NewColumn | NewType | GoneColumn]) -> CopiedTable:
    """A copy with all changes; columns that only the table there has stay."""
    done = tuple(change for change in found if not isinstance(change, GoneColumn))
    new = {change.old.name: change.new for change in done if isinstance(change, NewType)}
    added = [change.column for change in done if isinstance(change, NewColumn)]
    columns = (*(new.get(column.name, column) for column in have.columns), *added)
    return CopiedTable(have, replace(have, columns=tuple(columns)), done)


def converts(old: SqlColumn, new: SqlColumn) -> bool:
    """Whether values of one type can be cast to another; where not, they come again with the next full delivery."""
    nested = [_NESTED.fullmatch(column.type.lower()) is not None for column in (old, new)]
    if any(nested):
        return nested[0] and (new.kind == t.STRING or _outer(old.type) == _outer(new.type) != "")
    if old.kind is None or new.kind is None:
        return new.kind == t.STRING
    names = (_family(old.kind), _family(new.kind))
    if "binary" in names:
        return False
    return "string" in names or names[0] == names[1] != "other" or old.kind == new.kind


def _family(kind: t.Type) -> str:
    if isinstance(kind, t.Decimal) or str(kind) in _NUMBERS:
        return "number"
    if str(kind) in _MOMENTS:
        return "moment"
    return str(kind) if kind in (t.STRING, t.BINARY) else "other"


def _outer(kind: str) -> str:
    """What a nested type is at its outside, where its database casts one to another."""
    text = kind.lower()
    return "list" if text.endswith("]") else next((name for name in ("struct", "map") if text.startswith(name)), "")
