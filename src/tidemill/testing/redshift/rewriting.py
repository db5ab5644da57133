"""SELECT, INSERT, UPDATE and DELETE for PostgreSQL: what Redshift names otherwise, and what it would refuse."""

from __future__ import annotations

from tidemill.testing.redshift.catalog import FUNCTIONS, RELATIONS, SCHEMA
from tidemill.testing.redshift.faults import wrong
from tidemill.testing.redshift.tokens import Token, literal, quoted, tokens

#: PostgreSQL's grammar that Redshift has not.
_REFUSED = (
    ("on", "conflict"), ("distinct", "on"), ("for", "update"), ("for", "share"), ("for", "no", "key"),
    ("for", "key", "share"), ("returning",), ("lateral",), ("on", "commit"), ("tablesample",),
)  # fmt: skip
#: PostgreSQL's types and functions that Redshift has not.
_MISSING_TYPES = frozenset(
    ("jsonb", "json", "bytea", "uuid", "money", "inet", "cidr", "macaddr", "xml", "hstore", "serial", "bigserial",
     "regclass", "tsvector", "int4range", "citext", "bit")
)  # fmt: skip
_MISSING_FUNCTIONS = frozenset(
    ("to_regclass", "hashtext", "string_agg", "array_agg", "unnest", "gen_random_uuid", "pg_advisory_lock",
     "pg_advisory_xact_lock", "pg_try_advisory_lock", "jsonb_build_object", "json_agg", "jsonb_agg", "row_to_json",
     "to_jsonb", "to_json", "make_date", "pg_sleep", "format", "encode", "decode", "dblink",
     "set_config", "current_setting", "query_to_xml", "pg_ls_dir", "pg_read_file", "starts_with", "num_nulls")
)  # fmt: skip
_TYPES = {"super": "jsonb", "varbyte": "bytea", "varbinary": "bytea"}


def rewritten(sql: str) -> str:
    """A statement as PostgreSQL takes it.

    Raises:
        Fault: Redshift has no such grammar, type or function.
    """
    found = tokens(sql)
    made: list[str] = []
    at = 0
    for place, token in enumerate(found):
        _refuse(found, place)
        new = _new(found, place)
        if new is not None:
            made += [sql[at : token.start], new]
            at = token.end
    return "".join([*made, sql[at:]])


def _refuse(found: list[Token], place: int) -> None:
    for words in _REFUSED:
        following = found[place : place + len(words)]
        if len(following) == len(words) and all(one.is_word(word) for one, word in zip(following, words, strict=True)):
            raise wrong(f'syntax error at or near "{" ".join(words)}"')


def _new(found: list[Token], place: int) -> str | None:
    token = found[place]
    before = found[place - 1] if place else None
    after = found[place + 1] if place + 1 < len(found) else None
    if token.kind == "text":
        return literal(token.value)
    if token.kind == "name":
        return quoted(token.value)
    if token.kind != "word":
        return None
    called = after is not None and after.is_sign("(")
    qualified = before is not None and before.is_sign(".")
    if token.value == "pg_catalog" and after is not None and after.is_sign("."):
        named = found[place + 2] if place + 2 < len(found) else None
        return SCHEMA if named is not None and named.value in RELATIONS else None
    if called and not qualified:
        if token.value in _MISSING_FUNCTIONS:
            raise wrong(f"function {token.value} does not exist")
        return f"{SCHEMA}.{token.value}" if token.value in FUNCTIONS else None
    is_type = before is not None and (before.is_sign("::") or before.is_word("as"))
    if is_type and token.value in _MISSING_TYPES and (before is None or before.is_sign("::")):
        raise wrong(f'type "{token.value}" does not exist')
    if is_type and token.value in _TYPES:
        return _TYPES[token.value]
    if token.value == "sysdate":
        return f"{SCHEMA}.getdate()"
    if token.value in RELATIONS and not qualified and not (after is not None and after.is_sign(".")):
        return f"{SCHEMA}.{token.value}"
    return None
