"""How rows land in a database outside: what its table lacks, and the SQL by which staged rows enter it.

The statements are those that DuckDB and PostgreSQL have in common; what a type is called is each one's own.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from tidemill.model.errors import ContractError, DefinitionError, Refused
from tidemill.model.table import BATCH_ID, Schema, WriteMode, split_name
from tidemill.model.types import DOUBLE, FLOAT, INT, LONG, PRIMITIVES, Decimal, Primitive, Type
from tidemill.plan.sql import quote, quote_all

#: What a type is called.
TypeName: TypeAlias = Callable[[Type], str]

#: The table that says how far each source has come.
POSITIONS = "_tidemill_positions"
#: Where rows wait before they enter their table, and the column that numbers them there.
STAGE, NUMBER = "_tidemill_stage", "_tidemill_n"

CREATE_POSITIONS = (
    f"CREATE TABLE IF NOT EXISTS {POSITIONS} (source varchar PRIMARY KEY, position varchar, moved_at timestamptz)"
)

#: What to do about a NUL (U+0000), which no text of PostgreSQL or Redshift can have.
WITHOUT_NUL = r'take it out in a table, and deliver that: tm.col("...").str.replace_all("\0", "", literal=True)'

_SCALARS = tuple(Primitive(name) for name in PRIMITIVES)
_DECIMAL = re.compile(r"(?:decimal|numeric)\((\d+),\s*(\d+)\)", re.IGNORECASE)
#: Without a loss, and without a rewrite that changes what values look like.
_WIDER = {(INT, LONG), (FLOAT, DOUBLE), (INT, DOUBLE)}


def quoted_name(table: str) -> str:
    """The table's name in SQL."""
    schema, name = split_name(table)
    return quote(name) if schema is None else f"{quote(schema)}.{quote(name)}"


def creating(table: str, columns: Schema, type_name: TypeName) -> list[str]:
    """The statements that make a table, and its schema."""
    schema, _ = split_name(table)
    made = [] if schema is None else [f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}"]
    body = ", ".join(f"{quote(column.name)} {type_name(column.type)}" for column in columns)
    return [*made, f"CREATE TABLE {quoted_name(table)} ({body})"]


def fitting(table: str, have: Mapping[str, Type | None], columns: Schema, type_name: TypeName) -> list[str]:
    """The statements after which a table can take rows.

    Args:
        table: which.
        have: its columns; None: a type that we would not have made, and the database shall judge.
        columns: of the rows.
        type_name: of the database.

    Raises:
        ContractError: a column is of a type that the rows' values do not fit.
    """
    known = {name.lower(): (name, kind) for name, kind in have.items()}
    made = []
    for column in columns:
        if column.name.lower() not in known:
            kind = type_name(column.type)
            made.append(f"ALTER TABLE {quoted_name(table)} ADD COLUMN {quote(column.name)} {kind}")
            continue
        name, old = known[column.name.lower()]
        if old is None or type_name(old) == type_name(column.type) or takes(old, column.type):
            continue
        if not takes(column.type, old):
            raise ContractError(
                f'Column "{name}" of {table} is {type_name(old)}, and the rows bring {column.type}.',
                hint=f"cast it before it goes there, or change the column: ALTER TABLE {table} ...",
            )
        kind = type_name(column.type)
        made.append(f"ALTER TABLE {quoted_name(table)} ALTER COLUMN {quote(name)} TYPE {kind}")
    return made


def without_batches(table: str, batches: Iterable[int], column: str = BATCH_ID) -> str:
    """The statement that removes the rows of batches."""
    return f"DELETE FROM {quoted_name(table)} WHERE {quote(column)} IN ({', '.join(str(int(b)) for b in batches)})"


def without_keys(table: str, key: Sequence[str]) -> str:
    """The statement that removes the rows whose keys are staged."""
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    return f"DELETE FROM {quoted_name(table)} AS t USING {STAGE} AS s WHERE {same}"


def any_row(table: str) -> str:
    """A query that has a row if the table has one."""
    return f"SELECT 1 FROM {quoted_name(table)} LIMIT 1"


def not_ours(table: str, where: str) -> Refused:
    """The error of a table that holds rows before anything was delivered to it."""
    return Refused(
        f'"{table}" in {where} has rows that are not of this delivery: they would be lost, or stay among its own.',
        hint=f'empty or drop it there, or deliver into another table: table="{table}_delivered"',
    )


def no_options(table: str, options: Mapping[str, object], kind: str) -> None:
    """Raise DefinitionError where a table has options: a database has none."""
    if options:
        raise DefinitionError(
            f'"{table}" is delivered with {next(iter(options))}=, which a table in {kind} does not have.',
            hint="format, compression and partition are for files; key is for files and topics",
        )


def takes(wide: Type, narrow: Type) -> bool:
    """Whether a column of type `wide` holds every value of type `narrow`."""
    if isinstance(wide, Decimal) and isinstance(narrow, Decimal):
        digits = wide.precision - wide.scale
        return wide.scale >= narrow.scale and digits >= narrow.precision - narrow.scale
    return (narrow, wide) in _WIDER


def entering(table: str, names: Sequence[str], write: WriteMode, key: Sequence[str], order: str | None) -> list[str]:
    """The statements by which staged rows enter a table; the last of them gives how many rows did.

    Raises:
        DefinitionError: there is no such way for a database outside.
    """
    target, columns = quoted_name(table), quote_all(names)
    if write is WriteMode.UPSERT:
        return _upsert(target, names, key, order)
    if write not in (WriteMode.APPEND, WriteMode.REPLACE):
        raise DefinitionError(
            f"{table} is written by {write}, which a destination does not know.", hint="append, upsert or replace"
        )
    emptied = [f"DELETE FROM {target}"] if write is WriteMode.REPLACE else []
    return [*emptied, f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {STAGE} ORDER BY {NUMBER}"]


def _upsert(target: str, names: Sequence[str], key: Sequence[str], order: str | None) -> list[str]:
    columns, keys = quote_all(names), quote_all(key)
    same = " AND ".join(f"t.{quote(name)} = s.{quote(name)}" for name in key)
    rank = "" if order is None else f"{quote(order)} DESC NULLS LAST, "
    newest = f"SELECT DISTINCT ON ({keys}) * FROM {STAGE} ORDER BY {keys}, {rank}{NUMBER} DESC"
    older = "" if order is None else _not_newer(order)
    return [
        f"CREATE TEMPORARY TABLE {STAGE}_newest AS {newest}",
        f"DELETE FROM {target} AS t USING {STAGE}_newest AS s WHERE {same}{older}",
        f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {STAGE}_newest AS s"
        f" WHERE NOT EXISTS (SELECT 1 FROM {target} AS t WHERE {same}) ORDER BY {NUMBER}",
    ]


def _not_newer(order: str) -> str:
    """The row that is there goes, unless it is newer: without a rank it is older than any."""
    ours, theirs = f"t.{quote(order)}", f"s.{quote(order)}"
    return f" AND ({ours} IS NULL OR {theirs} >= {ours})"


def without_key(key: Sequence[str]) -> str:
    """A query for the number of staged rows that have no key."""
    return f"SELECT count(*) FROM {STAGE} WHERE " + " OR ".join(f"{quote(name)} IS NULL" for name in key)


def spelt(have: Iterable[str], names: Iterable[str]) -> list[str]:
    """Names as the table spells them: case does not tell columns apart, but in quotes it would."""
    known = {name.lower(): name for name in have}
    return [known.get(name.lower(), name) for name in names]


def type_of(text: str, type_name: TypeName) -> Type | None:
    """The type that a database calls by this name; None: not one that we would have made."""
    found = _DECIMAL.fullmatch(text)
    if found:
        return Decimal(int(found[1]), int(found[2]))
    return next((kind for kind in _SCALARS if type_name(kind).lower() == text.lower()), None)
