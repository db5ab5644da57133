"""Which tables a statement reads. Import it where a statement is at hand: sqlglot takes 50 ms to load."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TypeAlias

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError, TokenError

from tidemill.model.errors import UserError
from tidemill.model.table import check_name

#: Statements of ours and of the users are in DuckDB's dialect.
DIALECT = "duckdb"

#: The file of a statement, or what makes a place in the user's file of a line and a column, counted from 1.
Where: TypeAlias = str | Callable[[int, int], str]

_KEYWORDS = (
    "SELECT", "DISTINCT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "QUALIFY", "LIMIT", "OFFSET", "JOIN", "LEFT",
    "INNER", "CROSS", "USING", "UNION", "EXCEPT", "INTERSECT", "WITH", "VALUES", "PARTITION", "BETWEEN",
)  # fmt: skip


def tables_in(sql: str, *, where: Where | None = None) -> tuple[str, ...]:
    """The tables that a statement reads, as written (`pipeline.table` or `table`), in order, each once.

    Common table expressions count as tables only where the name is not in their scope.

    Args:
        sql: the statement.
        where: the file that it is from, or what makes a place in the user's file of a line and a column.

    Raises:
        UserError: the text is not one statement that only reads, or it reads a file by its name.
    """
    found: dict[str, None] = {}
    for table in parse_query(sql, where).find_all(exp.Table, bfs=False):
        if not isinstance(table.this, exp.Identifier):
            continue  # a table function such as range(10)
        if table.catalog:
            raise UserError(f'"{table.sql(DIALECT)}" has too many parts for a table.', where=_of(where), hint=_HINT)
        if not table.db and _is_cte(table):
            continue
        parts = [part for part in (table.db, table.name) if part]
        for part in parts:
            _check_part(part, _of(where))
        found[".".join(parts)] = None
    return tuple(found)


_HINT = 'tables are called "pipeline.table"; files come in through a source'


def _check_part(part: str, where: str | None) -> None:
    try:
        check_name(part, "table")
    except UserError:
        raise UserError(f'"{part}" is not the name of a table.', where=where, hint=_HINT) from None


def _of(where: Where | None) -> str | None:
    """The statement's own place."""
    return where(1, 1) if callable(where) else where


def parse_query(sql: str, where: Where | None = None) -> exp.Expr:
    """The tree of one statement that only reads. Takes and raises what `tables_in` does."""
    try:
        statements = [s for s in sqlglot.parse(sql, read=DIALECT) if s is not None and not isinstance(s, exp.Semicolon)]
    except (SqlglotError, RecursionError) as error:
        raise _unreadable(error, where) from None
    if len(statements) != 1:
        raise UserError(f"One SQL statement is wanted, and here are {len(statements)}.", where=_of(where))
    statement = statements[0]
    if not isinstance(statement, exp.Query | exp.Pivot | exp.Describe | exp.Summarize | exp.Values):
        raise UserError(
            f"A statement that only reads is wanted, and this is {statement.key.upper()}.",
            where=_of(where),
            hint="SELECT ..., FROM ..., WITH ... SELECT ... or VALUES ...",
        )
    return statement


def _unreadable(error: Exception, where: Where | None) -> UserError:
    """The error for SQL that cannot be parsed: near which word, and what that word or the one before may stand for."""
    details = getattr(error, "errors", None)
    if isinstance(error, RecursionError):
        return UserError("This SQL cannot be read: it is nested too deeply.", where=_of(where))
    if not details or isinstance(error, TokenError):
        return UserError("This SQL cannot be read.", where=_of(where), hint="is a quote or a comment left open?")
    found = details[0]
    word, before = str(found.get("highlight") or ""), str(found.get("start_context") or "").split()
    line, column = int(found.get("line") or 1), max(1, int(found.get("col") or 1) - len(word) + 1)
    what = f'SQL syntax error at or near "{word}".' if word else "SQL syntax error."
    if "missing" in str(found.get("description")):
        what = f'SQL syntax error: something is missing after "{word}".'
    place = where(line, column) if callable(where) else f"line {line}, column {column}"
    at = place if callable(where) or where is None else f"{where}, {place}"
    return UserError(what, where=at, hint=_misspelt(*before[-1:], word))


def _misspelt(*words: str) -> str | None:
    """A keyword that one of the words nearly is."""
    for word in words:
        upper = word.upper()
        near = [] if upper in _KEYWORDS else get_close_matches(upper, _KEYWORDS, n=1, cutoff=0.7)
        if near:
            return f'did you mean "{near[0]}"?'
    return None


def _is_cte(table: exp.Table) -> bool:
    """True where the bare name of `table` means a common table expression that is visible at its place.

    A WITH's expression sees those before it, and itself only under RECURSIVE; the statement sees all of them.
    """
    name = table.name.lower()
    below: exp.Expr = table
    above = table.parent
    while above is not None:
        with_ = above if isinstance(above, exp.With) else above.args.get("with_")
        if isinstance(with_, exp.With) and below is not with_:
            for cte in with_.expressions:
                if cte is below and not with_.recursive:
                    break
                if cte.alias.lower() == name:
                    return True
                if cte is below:
                    break
        below, above = above, above.parent
    return False
