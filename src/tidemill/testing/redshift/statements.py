"""What a statement is: one that PostgreSQL runs once it is rewritten, or one that the emulator runs itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tidemill.testing.redshift.faults import unknown, wrong
from tidemill.testing.redshift.rewriting import rewritten
from tidemill.testing.redshift.tokens import Parser, tokens


class Kind(Enum):
    """Who runs a statement."""

    #: PostgreSQL, rewritten.
    FORWARDED = "forwarded"
    #: The emulator, each by a function of its own.
    COPY = "COPY"
    UNLOAD = "UNLOAD"
    CREATE_TABLE = "CREATE TABLE"
    ALTER_TABLE = "ALTER TABLE"
    EXTERNAL_SCHEMA = "CREATE SCHEMA"
    TRUNCATE = "TRUNCATE TABLE"
    #: Nothing is to be done.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement: who runs it, as what, and the tag of its answer."""

    kind: Kind
    sql: str
    tag: str = ""


_FORWARDED = frozenset(
    ("select", "with", "insert", "update", "delete", "begin", "start", "commit", "end", "rollback", "abort", "lock",
     "explain", "analyze", "close", "fetch")
)  # fmt: skip
#: Settings that mean the same in PostgreSQL.
_SETTINGS = frozenset(("search_path", "statement_timeout", "timezone", "datestyle", "client_encoding"))
_IGNORED = frozenset(("query_group", "enable_result_cache_for_session", "application_name", "wlm_query_slot_count"))


def statement_of(sql: str) -> Statement:
    """Judge a statement. Raises Fault: Redshift has not, or the emulator does not do it."""
    parser = Parser(sql, tokens(sql))
    first = parser.peek()
    if first is None:
        return Statement(Kind.NOTHING, sql)
    word = first.value if first.kind == "word" else ""
    if word == "copy":
        return Statement(Kind.COPY, sql, "COPY")
    if word == "unload":
        return Statement(Kind.UNLOAD, sql, "UNLOAD")
    if word == "vacuum":
        _check_vacuum(parser)
        return Statement(Kind.NOTHING, sql, "VACUUM")
    if word == "truncate":
        parser.need("truncate")
        parser.took("table")
        parser.qualified()
        _must_end(parser)
        return Statement(Kind.TRUNCATE, rewritten(sql), "TRUNCATE TABLE")
    if word == "create":
        return _create(sql, parser)
    if word == "alter":
        parser.next()
        if not parser.took("table"):
            raise unknown("ALTER of anything but tables")
        return Statement(Kind.ALTER_TABLE, sql, "ALTER TABLE")
    if word == "drop":
        return _drop(sql, parser)
    if word in ("set", "reset", "show"):
        return _setting(sql, parser)
    if word in _FORWARDED:
        return Statement(Kind.FORWARDED, rewritten(sql))
    if word in ("merge", "grant", "revoke", "call", "prepare", "execute", "deallocate", "declare", "comment", "cancel"):
        raise unknown(word.upper())
    raise wrong(f'syntax error at or near "{first.value}"')


def _must_end(parser: Parser) -> None:
    if not parser.ended:
        raise parser.unexpected()


def _check_vacuum(parser: Parser) -> None:
    """Page "VACUUM"."""
    parser.need("vacuum")
    for words in (("full",), ("sort", "only"), ("delete", "only"), ("reindex",), ("recluster",)):
        if parser.took(*words):
            break
    following = parser.peek()
    if following is not None and not following.is_sign(";") and not following.is_word("boost"):
        parser.qualified()
        if parser.took("to"):
            parser.number()
            parser.need("percent")
    parser.took("boost")
    _must_end(parser)


def _create(sql: str, parser: Parser) -> Statement:
    parser.next()
    if parser.took("external", "schema"):
        return Statement(Kind.EXTERNAL_SCHEMA, sql, "CREATE SCHEMA")
    if parser.took("schema"):
        return Statement(Kind.FORWARDED, rewritten(sql))
    if parser.took("or", "replace", "view") or parser.took("view"):
        return Statement(Kind.FORWARDED, rewritten(sql))
    parser.took("local")
    parser.took("temp")
    parser.took("temporary")
    if parser.took("table"):
        return Statement(Kind.CREATE_TABLE, sql, "CREATE TABLE")
    token = parser.peek()
    raise unknown(f"CREATE {token.value.upper() if token else ''}")


def _drop(sql: str, parser: Parser) -> Statement:
    parser.next()
    if parser.took("table") or parser.took("schema") or parser.took("view"):
        return Statement(Kind.FORWARDED, rewritten(sql))
    token = parser.peek()
    raise unknown(f"DROP {token.value.upper() if token else ''}")


def _setting(sql: str, parser: Parser) -> Statement:
    verb = parser.next().value
    parser.took("session")
    if parser.took("local"):
        raise wrong('syntax error at or near "local"')
    name = parser.name()
    if name in _IGNORED and verb != "show":
        return Statement(Kind.NOTHING, sql, verb.upper())
    if name not in _SETTINGS:
        raise unknown(f"{verb.upper()} {name}")
    return Statement(Kind.FORWARDED, rewritten(sql))
