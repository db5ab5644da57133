"""Which tables a statement reads. Import it where a statement is at hand: sqlglot takes 50 ms to load."""

from __future__ import annotations

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError, TokenError

from tidemill.model.errors import UserError
from tidemill.model.table import check_name

#: Statements of ours and of the users are in DuckDB's dialect.
DIALECT = "duckdb"


def tables_in(sql: str, *, where: str | None = None) -> tuple[str, ...]:
    """The tables that a statement reads, as written (`pipeline.table` or `table`), in order, each once.

    Common table expressions count as tables only where the name is not in their scope.

    Raises:
        UserError: the text is not one statement that only reads, or it reads a file by its name.
    """
    found: dict[str, None] = {}
    for table in _parse(sql, where).find_all(exp.Table, bfs=False):
        if not isinstance(table.this, exp.Identifier):
            continue  # a table function such as range(10)
        if table.catalog:
            raise UserError(f'"{table.sql(DIALECT)}" has too many parts for a table.', where=where, hint=_HINT)
        if not table.db and _is_cte(table):
            continue
        parts = [part for part in (table.db, table.name) if part]
        for part in parts:
            _check_part(part, where)
        found[".".join(parts)] = None
    return tuple(found)


_HINT = 'tables are called "pipeline.table"; files come in through a source'


def _check_part(part: str, where: str | None) -> None:
    try:
        check_name(part, "table")
    except UserError:
        raise UserError(f'"{part}" is not the name of a table.', where=where, hint=_HINT) from None


def _parse(sql: str, where: str | None) -> exp.Expr:
    try:
        statements = [s for s in sqlglot.parse(sql, read=DIALECT) if s is not None and not isinstance(s, exp.Semicolon)]
    except (SqlglotError, RecursionError) as error:
        raise UserError("This SQL cannot be read.", where=_place(error, where), hint=_first_line(error)) from None
    if len(statements) != 1:
        raise UserError(f"One SQL statement is wanted, and here are {len(statements)}.", where=where)
    statement = statements[0]
    if not isinstance(statement, exp.Query | exp.Pivot | exp.Describe | exp.Summarize | exp.Values):
        raise UserError(
            f"A statement that only reads is wanted, and this is {statement.key.upper()}.",
            where=where,
            hint="SELECT ..., FROM ..., WITH ... SELECT ... or VALUES ...",
        )
    return statement


def _place(error: Exception, where: str | None) -> str | None:
    details = getattr(error, "errors", None)
    if not details or isinstance(error, TokenError):
        return where
    place = f"line {details[0].get('line')}, column {details[0].get('col')}"
    return f"{where}, {place}" if where else place


def _first_line(error: Exception) -> str | None:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error).split("\n", 1)[0].split(". Line ", 1)[0]
    return None if "SENTINEL" in text else text


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
