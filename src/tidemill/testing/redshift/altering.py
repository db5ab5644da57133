"""ALTER TABLE as PostgreSQL's statements. Page "ALTER TABLE": of types, only the length of a VARCHAR changes, and
never within a transaction. An encoding is not altered to itself; DISTSTYLE AUTO and SORTKEY AUTO keep what there is.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.testing.redshift.faults import Fault, unknown, wrong
from tidemill.testing.redshift.tables import UNKEYED, relation, take_column, take_encoding
from tidemill.testing.redshift.tokens import Parser, literal, quoted
from tidemill.testing.redshift.types import Type, take_type

_RIGID = ("bytedict", "runlength", "text255", "text32k")


@dataclass(frozen=True, slots=True)
class Known:
    """What the emulator knows of a column that exists."""

    type: Type
    notes: Mapping[str, Any]
    has_default: bool = False


#: Finds the columns of a table by its name for PostgreSQL.
Columns = Callable[[str], Mapping[str, Known]]


def alter_table(sql: str, columns: Columns, *, in_transaction: bool) -> list[str]:
    """The statements of an ALTER TABLE.

    Args:
        sql: the statement.
        columns: gives those of a table.
        in_transaction: whether a transaction was begun.

    Raises:
        Fault: Redshift would refuse it, or the emulator does not do it.
    """
    parser = Parser(sql)
    parser.need("alter", "table")
    table = relation(parser.qualified())
    if parser.took("add"):
        made = _add(parser, table)
    elif parser.took("drop"):
        made = _drop(parser, table, columns)
    elif parser.took("rename", "to"):
        made = [f"ALTER TABLE {table} RENAME TO {quoted(parser.name())}"]
    elif parser.took("rename"):
        parser.took("column")
        old = parser.name()
        parser.need("to")
        made = [f"ALTER TABLE {table} RENAME COLUMN {quoted(old)} TO {quoted(parser.name())}"]
    elif parser.took("alter", "column"):
        made = _alter_column(parser, table, columns, in_transaction)
    elif parser.took("alter", "distkey") or parser.took("alter", "diststyle", "key", "distkey"):
        key = parser.name()
        made = [*_move_key(table, columns(table), "distkey", [key]), _styled(table, f"KEY({key})")]
    elif parser.took("alter", "compound", "sortkey") or parser.took("alter", "sortkey"):
        if parser.took("auto"):
            made = []
        else:
            wanted = [] if parser.took("none") else list(parser.names())
            made = _move_key(table, columns(table), "sortkey", wanted)
    elif parser.took("alter", "diststyle"):
        style = parser.name()
        if style not in ("auto", "all", "even"):
            raise parser.unexpected()
        made = [*_move_key(table, columns(table), "distkey", []), _styled(table, style.upper())]
    elif parser.took("alter", "encode", "auto"):
        made = []
    else:
        token = parser.peek()
        raise unknown(f"ALTER TABLE ... {token.value.upper() if token else ''}")
    if not parser.ended:
        raise parser.unexpected()
    return made


def _add(parser: Parser, table: str) -> list[str]:
    if (token := parser.peek()) is not None and token.is_word("constraint", "unique", "primary", "foreign"):
        raise unknown("ALTER TABLE ... ADD CONSTRAINT")
    parser.took("column")
    if parser.took("if"):
        raise wrong('syntax error at or near "if"')
    column = take_column(parser)
    if column.required and column.default is None:
        raise wrong("ALTER TABLE ADD COLUMN defined as NOT NULL must have a non-null default expression")
    return [
        f"ALTER TABLE {table} ADD COLUMN {column.definition}",
        column.noted(table),
        f"SELECT redshift_system.guard({literal(table)}::regclass)",
    ]


def _drop(parser: Parser, table: str, columns: Columns) -> list[str]:
    if parser.took("constraint"):
        raise unknown("ALTER TABLE ... DROP CONSTRAINT")
    parser.took("column")
    name = parser.name()
    known = columns(table).get(name)
    if known is not None and (known.notes.get("distkey") or known.notes.get("sortkey")):
        raise Fault(f"cannot drop column {name}: it is the distribution key or part of the sort key", "0A000")
    cascade = " CASCADE" if parser.took("cascade") else ""
    parser.took("restrict")
    return [f"ALTER TABLE {table} DROP COLUMN {quoted(name)}{cascade}"]


def _alter_column(parser: Parser, table: str, columns: Columns, in_transaction: bool) -> list[str]:
    name = parser.name()
    known = columns(table).get(name)
    if known is None:
        raise Fault(f'column "{name}" of relation {table} does not exist', "42703")
    if parser.took("encode"):
        encoding = take_encoding(parser, known.type)
        if known.notes.get("encode") == encoding:
            raise Fault(f"column {name} has the encoding {encoding} already", "0A000")
        return [_note(table, name, {**known.notes, "encode": encoding})]
    parser.need("type")
    wanted = take_type(parser)
    if in_transaction:
        raise Fault("ALTER TABLE ALTER COLUMN cannot run inside a transaction block", "25001")
    if wanted.name != "character varying" or known.type.name != "character varying":
        raise Fault(f'target data type "{wanted}" is not supported: only a VARCHAR\'s length can be altered', "0A000")
    if known.notes.get("encode") in _RIGID:
        raise Fault(f"cannot alter column {name} with encoding {known.notes['encode']}", "0A000")
    if known.has_default:
        raise Fault(f"cannot alter column {name}, which has a default value", "0A000")
    if known.notes.get("keyed"):
        raise Fault(f"cannot alter column {name}, which is in a UNIQUE or PRIMARY KEY constraint", "0A000")
    column = quoted(name)
    fits = (
        f"DO $redshift$ BEGIN IF EXISTS (SELECT 1 FROM {table} WHERE octet_length({column}) > {wanted.size})"
        " THEN RAISE EXCEPTION 'cannot alter column: data is longer than the new length'; END IF; END $redshift$"
    )
    return [
        fits,
        f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {wanted.postgres}",
        _note(table, name, {**known.notes, "type": str(wanted)}),
        f"SELECT redshift_system.guard({literal(table)}::regclass)",
    ]


def _move_key(table: str, columns: Mapping[str, Known], which: str, wanted: list[str]) -> list[str]:
    for name in wanted:
        if name not in columns:
            raise Fault(f'column "{name}" of relation {table} does not exist', "42703")
        if columns[name].type.name in UNKEYED:
            raise wrong(f"{columns[name].type.name.upper()} column {name} cannot be a distribution key or sort key")
    made = []
    for name, known in columns.items():
        notes = {key: value for key, value in known.notes.items() if key != which}
        if name in wanted:
            notes[which] = True if which == "distkey" else wanted.index(name) + 1
        if notes != known.notes:
            made.append(_note(table, name, notes))
    return made


def _styled(table: str, style: str) -> str:
    return f"SELECT redshift_system.lay({literal(table)}::regclass, {literal(style)})"


def _note(table: str, name: str, notes: Mapping[str, Any]) -> str:
    return f"COMMENT ON COLUMN {table}.{quoted(name)} IS {literal(json.dumps(dict(notes)))}"
