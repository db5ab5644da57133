"""CREATE TABLE as PostgreSQL's statements: keys that nothing enforces, lengths in bytes, notes of what it has not.

Pages "CREATE TABLE", "CREATE TABLE AS", "Compression encodings".
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from tidemill.testing.redshift.faults import unknown, wrong
from tidemill.testing.redshift.rewriting import rewritten
from tidemill.testing.redshift.tokens import Parser, literal, quoted
from tidemill.testing.redshift.types import Type, take_type

ENCODINGS = frozenset(
    ("raw", "az64", "bytedict", "delta", "delta32k", "lzo", "mostly8", "mostly16", "mostly32", "runlength", "text255",
     "text32k", "zstd")
)  # fmt: skip
#: Types by which no table can lie.
UNKEYED = ("super", "varbyte")
#: Words that end a DEFAULT.
_AFTER_DEFAULT = (
    "identity", "generated", "encode", "distkey", "sortkey", "not", "null", "unique", "primary", "references",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a CREATE TABLE or an ADD COLUMN."""

    name: str
    type: Type
    encode: str | None = None
    distkey: bool = False
    sortkey: int = 0
    required: bool = False
    default: str | None = None
    identity: tuple[int, int] | None = None
    always: bool = True
    keyed: bool = False

    @property
    def definition(self) -> str:
        """For PostgreSQL."""
        made = [quoted(self.name), self.type.postgres]
        if self.identity is not None:
            how = "ALWAYS" if self.always else "BY DEFAULT"
            start, step = self.identity
            made.append(
                f"GENERATED {how} AS IDENTITY (START WITH {start} INCREMENT BY {step} MINVALUE {min(start, 1)})"
            )
        elif self.default is not None:
            made.append(f"DEFAULT {self.default}")
        if self.required:
            made.append("NOT NULL")
        return " ".join(made)

    def noted(self, table: str) -> str:
        """The statement that notes what PostgreSQL does not know."""
        known: dict[str, Any] = {"type": str(self.type)}
        if self.encode:
            known["encode"] = self.encode
        if self.distkey:
            known["distkey"] = True
        if self.sortkey:
            known["sortkey"] = self.sortkey
        if self.keyed:
            known["keyed"] = True
        return f"COMMENT ON COLUMN {table}.{quoted(self.name)} IS {literal(json.dumps(known))}"


@dataclass
class _Table:
    columns: list[Column] = field(default_factory=list)
    like: list[str] = field(default_factory=list)
    keys: list[tuple[str, ...]] = field(default_factory=list)
    primary: tuple[str, ...] = ()
    style: str | None = None
    distkey: str | None = None
    sortkeys: tuple[str, ...] = ()


def relation(name: tuple[str, ...]) -> str:
    """A table's name for PostgreSQL."""
    if len(name) > 2:
        raise unknown("names of tables in other databases")
    return ".".join(map(quoted, name))


def create_table(sql: str) -> list[str]:
    """The statements of a CREATE TABLE, CREATE TEMP TABLE or CREATE TABLE AS. Raises Fault."""
    parser = Parser(sql)
    parser.need("create")
    parser.took("local")
    temporary = parser.took("temp") or parser.took("temporary")
    parser.need("table")
    lenient = parser.took("if", "not", "exists")
    name = parser.qualified()
    temporary = temporary or name[-1].startswith("#")
    target = relation(name)
    begin = f"CREATE {'TEMPORARY ' if temporary else ''}TABLE {'IF NOT EXISTS ' if lenient else ''}{target}"
    following = parser.peek()
    table = _Table()
    listed: tuple[str, ...] = ()
    if following is not None and following.is_sign("("):
        second = parser.peek(2)
        if second is not None and (second.is_sign(",") or second.is_sign(")")):
            listed = parser.names()
        else:
            _elements(parser, table)
    _attributes(parser, table)
    if parser.took("as"):
        return [*_as_select(parser, begin, target, listed), *_notes(table, target)]
    if listed or not (table.columns or table.like) or not parser.ended:
        raise parser.unexpected()
    _place_keys(table)
    body = ", ".join([*(f"LIKE {one}" for one in table.like), *(column.definition for column in table.columns)])
    made = [f"{begin} ({body})"]
    if lenient:
        # What exists keeps its notes.
        return [f"{begin} ({body})", *_notes_if_new(table, target)]
    return [*made, *_notes(table, target), f"SELECT redshift_system.guard({literal(target)}::regclass)"]


def _as_select(parser: Parser, begin: str, target: str, listed: tuple[str, ...]) -> list[str]:
    token = parser.peek()
    if token is None:
        raise parser.unexpected()
    columns = f" ({', '.join(map(quoted, listed))})" if listed else ""
    query = rewritten(parser.sql[token.start :])
    return [f"{begin}{columns} AS {query}", f"SELECT redshift_system.guard({literal(target)}::regclass)"]


def _notes(table: _Table, target: str) -> list[str]:
    made = [column.noted(target) for column in table.columns]
    known: dict[str, Any] = {}
    if table.style or table.distkey:
        known["diststyle"] = f"KEY({table.distkey})" if table.distkey else table.style
    if table.keys or table.primary:
        known["keys"] = [list(key) for key in (*table.keys, *((table.primary,) if table.primary else ()))]
    return [*made, f"COMMENT ON TABLE {target} IS {literal(json.dumps(known))}"] if known else made


def _notes_if_new(table: _Table, target: str) -> list[str]:
    """A table that was there before has a comment on each of its columns already, and these are its own."""
    inner = "; ".join([*_notes(table, target), f"PERFORM redshift_system.guard({literal(target)}::regclass)"])
    first = literal(f"{target}")
    check = f"NOT EXISTS (SELECT 1 FROM pg_description WHERE objoid = {first}::regclass AND objsubid > 0)"
    return [f"DO $redshift$ BEGIN IF {check} THEN {inner}; END IF; END $redshift$"]


def _elements(parser: Parser, table: _Table) -> None:
    parser.need_sign("(")
    while True:
        if parser.took("like"):
            parent = relation(parser.qualified())
            defaults = parser.took("including", "defaults")
            if not defaults:
                parser.took("excluding", "defaults")
            table.like.append(f"{parent} INCLUDING COMMENTS" + (" INCLUDING DEFAULTS" if defaults else ""))
        elif not _constraint(parser, table):
            table.columns.append(take_column(parser, table))
        if not parser.took_sign(","):
            break
    parser.need_sign(")")


def _constraint(parser: Parser, table: _Table) -> bool:
    """A constraint of the table, if one comes next: it informs, and nothing enforces it."""
    if parser.took("constraint"):
        parser.name()
    if parser.took("unique"):
        table.keys.append(parser.names())
    elif parser.took("primary", "key"):
        table.primary = parser.names()
    elif parser.took("foreign", "key"):
        parser.names()
        parser.need("references")
        parser.qualified()
        following = parser.peek()
        if following is not None and following.is_sign("("):
            parser.names()
    elif parser.took("check") or parser.took("exclude"):
        raise wrong("CHECK and EXCLUDE constraints are not supported")
    else:
        return False
    return True


def take_column(parser: Parser, table: _Table | None = None) -> Column:
    """Read the definition of a column."""
    column = Column(parser.name(), take_type(parser))
    while True:
        if parser.took("default"):
            column = replace(column, default=_default(parser))
        elif parser.took("identity"):
            column = replace(column, identity=_identity(parser), required=True)
        elif parser.took("generated", "by", "default", "as", "identity"):
            column = replace(column, identity=_identity(parser), required=True, always=False)
        elif parser.took("encode"):
            column = replace(column, encode=take_encoding(parser, column.type))
        elif parser.took("distkey"):
            column = replace(column, distkey=True)
        elif parser.took("sortkey"):
            column = replace(column, sortkey=1)
        elif parser.took("not", "null"):
            column = replace(column, required=True)
        elif parser.took("null"):
            column = replace(column, required=False)
        elif parser.took("unique"):
            column = replace(column, keyed=True)
        elif parser.took("primary", "key"):
            column = replace(column, keyed=True, required=True)
        elif parser.took("references"):
            parser.qualified()
            following = parser.peek()
            if following is not None and following.is_sign("("):
                parser.names()
        elif (found := parser.peek()) is not None and found.is_word("check", "collate"):
            raise wrong(f'syntax error at or near "{found.value}"')
        else:
            break
    if (column.distkey or column.sortkey) and column.type.name in UNKEYED:
        raise wrong(f"{column.type.name.upper()} column {column.name} cannot be used as distribution key or sort key")
    if table is None and (column.distkey or column.sortkey or column.identity or column.keyed):
        raise wrong("ADD COLUMN takes DEFAULT, ENCODE, NOT NULL and NULL")
    return column


def _default(parser: Parser) -> str:
    first = parser.peek()
    depth, end = 0, 0
    while (token := parser.peek()) is not None:
        at_end = token.is_sign(",") or token.is_sign(")") or token.is_sign(";")
        if not depth and end and (at_end or token.is_word(*_AFTER_DEFAULT)):
            break
        depth += token.is_sign("(") - token.is_sign(")")
        end = parser.next().end
    if first is None or not end:
        raise parser.unexpected()
    return rewritten(parser.sql[first.start : end])


def _identity(parser: Parser) -> tuple[int, int]:
    parser.need_sign("(")
    seed = parser.number()
    parser.need_sign(",")
    step = parser.number()
    parser.need_sign(")")
    return seed, step


def take_encoding(parser: Parser, kind: Type) -> str:
    """Read an encoding of a column of some type. Raises Fault: there is none, or it is not for that."""
    name = parser.name()
    if name not in ENCODINGS:
        raise wrong(f'invalid encoding "{name}"')
    numbers = ("smallint", "integer", "bigint", "numeric")
    times = ("date", "timestamp without time zone", "timestamp with time zone")
    allowed = {
        "az64": (*numbers, *times, "time without time zone", "time with time zone"),
        "text255": ("character varying",),
        "text32k": ("character varying",),
    }.get(name)
    if allowed is not None and kind.name not in allowed:
        raise wrong(f'invalid encoding type "{name}" for a column of type {kind}')
    return name


def _attributes(parser: Parser, table: _Table) -> None:
    while True:
        if parser.took("backup"):
            if not (parser.took("yes") or parser.took("no")):
                raise parser.unexpected()
        elif parser.took("diststyle"):
            table.style = parser.name().upper()
            if table.style not in ("AUTO", "EVEN", "KEY", "ALL"):
                raise wrong(f'invalid distribution style "{table.style}"')
        elif parser.took("distkey"):
            (table.distkey,) = parser.names() or ("",)
        elif parser.took("encode", "auto") or parser.took("sortkey", "auto"):
            pass
        elif parser.took("interleaved", "sortkey") or parser.took("compound", "sortkey") or parser.took("sortkey"):
            table.sortkeys = parser.names()
        else:
            break


def _place_keys(table: _Table) -> None:
    by_name = {column.name: column for column in table.columns}
    for name in (*table.sortkeys, *table.primary, *((table.distkey,) if table.distkey else ())):
        if name not in by_name and not table.like:
            raise wrong(f'column "{name}" named in key does not exist')
    made = []
    for column in table.columns:
        if column.name in table.sortkeys:
            column = replace(column, sortkey=table.sortkeys.index(column.name) + 1)
        if column.name == table.distkey:
            column = replace(column, distkey=True)
        if column.name in table.primary:
            column = replace(column, required=True, keyed=True)
        if any(column.name in key for key in table.keys):
            column = replace(column, keyed=True)
        if (column.distkey or column.sortkey) and column.type.name in UNKEYED:
            raise wrong(f"{column.type.name.upper()} column {column.name} cannot be a distribution key or sort key")
        made.append(column)
    table.columns = made
    keys = [column.name for column in made if column.distkey]
    if len(keys) > 1:
        raise wrong("only one column of a table can be its distribution key")
    if table.style in ("EVEN", "ALL") and keys:
        raise wrong(f"DISTSTYLE {table.style} cannot be used with a DISTKEY")
    if table.style == "KEY" and not keys:
        raise wrong("DISTSTYLE KEY needs a DISTKEY")
    table.distkey = keys[0] if keys else None
