"""How tables lie on a Redshift cluster, for revisions: what is declared against what there is, and what alters it.

Page "ALTER TABLE" of Amazon's Database Developer Guide: ALTER DISTKEY, ALTER DISTSTYLE, ALTER SORTKEY, ALTER COLUMN ...
ENCODE. What is not declared has no right value: it stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tidemill.model.errors import UnknownName
from tidemill.model.migration import SqlTable
from tidemill.model.redshift import Layout
from tidemill.plan.landing import quoted_name
from tidemill.plan.sql import quote, quote_all


def laid(table: SqlTable, layout: Layout) -> SqlTable:
    """A table that lies as a layout says; what that does not say stays as it is.

    Raises:
        UnknownName: it names a column that there is not.
    """
    names = {column.name.lower() for column in table.columns}
    for name in layout.names:
        if name.lower() not in names:
            raise UnknownName.of(f"column of {table.name}", name, [column.name for column in table.columns])
    encodings = {name.lower(): encoding.lower() for name, encoding in layout.encode.items()}
    order = {name.lower(): place for place, name in enumerate(layout.sortkey, 1)}
    key, style = (layout.distkey or "").lower(), (layout.diststyle or "").lower()
    columns = tuple(
        replace(
            column,
            distkey=column.name.lower() == key if key else column.distkey and not style,
            sortkey=order.get(column.name.lower(), 0) if order else column.sortkey,
            encode=encodings.get(column.name.lower(), column.encode),
        )
        for column in table.columns
    )
    return replace(table, columns=columns, style="key" if key else style or table.style)


def layout_of(table: SqlTable) -> Layout:
    """What a table that is asked for says of how it lies."""
    key = next((column.name for column in table.columns if column.distkey), None)
    return Layout(
        key, None if key else table.style, sort_columns(table),
        {column.name: column.encode for column in table.columns if column.encode},
    )  # fmt: skip


def sort_columns(table: SqlTable) -> tuple[str, ...]:
    """The columns by which rows are ordered; those of an interleaved key have places below zero, too."""
    found = sorted((column for column in table.columns if column.sortkey), key=lambda column: abs(column.sortkey))
    return tuple(column.name for column in found)


def is_interleaved(table: SqlTable) -> bool:
    """Whether rows are ordered by a key that nothing can be altered to."""
    return any(column.sortkey < 0 for column in table.columns)


def dealt(table: SqlTable) -> str:
    """How rows are dealt out, as ALTER says it; where Redshift chooses, so it may choose a key."""
    key = next((column.name for column in table.columns if column.distkey), None)
    if key is not None and table.style != "auto":
        return f"DISTKEY {quote(key)}"
    return f"DISTSTYLE {table.style.upper()}" if table.style else ""


def differences(old: SqlTable, new: SqlTable) -> list[str]:
    """What is different, for people."""
    made = []
    if dealt(old) != dealt(new):
        made.append(f"{dealt(old)} -> {dealt(new)}")
    if _sorted(old) != _sorted(new):
        made.append(f"{_sorted(old)} -> {_sorted(new)}")
    before = {column.name: column for column in old.columns}
    for column in new.columns:
        was = before[column.name].encode
        if column.encode and column.encode != was:
            made.append(f"{column.name} ENCODE {was or 'unknown'} -> {column.encode}")
    return made


def altered(old: SqlTable, new: SqlTable) -> list[str]:
    """The statements that make a table lie as another one does.

    The sort key comes first: nothing else is altered while it is interleaved, and it may change encodings.
    """
    start, made = f"ALTER TABLE {quoted_name(new.name)} ALTER", []
    if _sorted(old) != _sorted(new):
        made.append(f"{start} {_sorted(new)}")
    if dealt(old) != dealt(new) and dealt(new):
        made.append(f"{start} {dealt(new)}")
    before = {column.name: column.encode for column in old.columns}
    for column in new.columns:
        if column.encode and column.encode != before[column.name]:
            made.append(f"{start} COLUMN {quote(column.name)} ENCODE {column.encode}")
    return made


def created(table: SqlTable, name: str, *, lenient: bool = False) -> str:
    """The statement that makes a table as it lies, under a name."""
    body = ", ".join(
        f"{quote(column.name)} {column.type}{f' ENCODE {column.encode}' if column.encode else ''}"
        f"{'' if column.nullable else ' NOT NULL'}"
        for column in table.columns
    )
    key = next((quote(column.name) for column in table.columns if column.distkey), None)
    dist = ""
    if key is not None and table.style != "auto":
        dist = f" DISTSTYLE KEY DISTKEY ({key})"
    elif table.style:
        dist = f" DISTSTYLE {table.style.upper()}"
    order = quote_all(sort_columns(table))
    return (
        f"CREATE TABLE {'IF NOT EXISTS ' if lenient else ''}{quoted_name(name)} ({body}){dist}"
        f"{f' COMPOUND SORTKEY ({order})' if order else ''}"
    )


def lies_by_choice(table: SqlTable) -> bool:
    """Whether anybody has said how the table lies; else all of it is Redshift's choice."""
    return table.style not in (None, "auto") or any(column.sortkey or column.encode for column in table.columns)


def with_encodings_of(table: SqlTable, names: Iterable[str]) -> SqlTable:
    """A table of whose encodings those of some columns count; Redshift may have chosen the others."""
    kept = {name.lower() for name in names}
    columns = (c if c.name.lower() in kept else replace(c, encode=None) for c in table.columns)
    return replace(table, columns=tuple(columns))


def _sorted(table: SqlTable) -> str:
    names = quote_all(sort_columns(table))
    kind = "INTERLEAVED" if is_interleaved(table) else "COMPOUND"
    return f"{kind} SORTKEY ({names})" if names else "SORTKEY NONE"
