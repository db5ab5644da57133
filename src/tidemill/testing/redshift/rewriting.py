"""SELECT, INSERT, UPDATE and DELETE for PostgreSQL: what Redshift names otherwise."""

from __future__ import annotations

from tidemill.testing.redshift.catalog import FUNCTIONS, RELATIONS, SCHEMA
from tidemill.testing.redshift.dialect import judge
from tidemill.testing.redshift.tokens import Token, literal, quoted, tokens

_TYPES = {"super": "jsonb", "varbyte": "bytea", "varbinary": "bytea"}


def rewritten(sql: str) -> str:
    """A statement as PostgreSQL takes it.

    Raises:
        Fault: Redshift has no such grammar, type or function.
    """
    found = tokens(sql)
    judge(found)
    made: list[str] = []
    at = 0
    for place, token in enumerate(found):
        new = _new(found, place)
        if new is not None:
            made += [sql[at : token.start], new]
            at = token.end
    return "".join([*made, sql[at:]])


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
        return f"{SCHEMA}.{token.value}" if token.value in FUNCTIONS else None
    is_type = before is not None and (before.is_sign("::") or before.is_word("as"))
    if is_type and token.value in _TYPES:
        return _TYPES[token.value]
    if token.value == "sysdate":
        return f"{SCHEMA}.getdate()"
    if token.value in RELATIONS and not qualified and not (after is not None and after.is_sign(".")):
        return f"{SCHEMA}.{token.value}"
    return None
