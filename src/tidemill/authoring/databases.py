"""`tidemill.sources.sql` and `sql_tables`: databases as sources. Values only; no database is asked here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from tidemill.authoring.place import here
from tidemill.model.databases import DatabaseSource, Lag
from tidemill.model.duration import read_duration
from tidemill.model.errors import DefinitionError, UnknownName

#: A name of a connection becomes that of a variable of the environment.
_CONNECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATTERN = frozenset("*?[")


def sql(
    connection: str,
    table: str | None = None,
    *,
    query: str | None = None,
    name: str | None = None,
    columns: Iterable[str] = (),
    where: str | None = None,
    cursor: str | None = None,
    lag: str | timedelta | int | None = None,
    max_rows: int | None = None,
    key: str | None = None,
    chunk_rows: int = 250_000,
    parallel: int = 1,
) -> DatabaseSource:
    """A table or a query of a database: PostgreSQL, MySQL, MariaDB, SQLite, DuckDB, others through SQLAlchemy.

    Without a cursor each interval gets all rows that the table, or the query for that interval, has when it is asked.
    With one, each batch gets the rows whose cursor is above that of the batch before, less the lag, and up to the
    largest that there is when it is asked. Rows within the lag come again: a table with `write="upsert"` on the key
    takes them in twice without a trace.

    Args:
        connection: the name of a connection (`shop_db` for TIDEMILL_CONN_SHOP_DB), or an address.
        table: `schema.table`, or `table`.
        query: a SELECT instead, in a template: `{{ ds }}`, and `{{ params.region | bind }}` for a value.
        name: what the source is called; left out, as the table.
        columns: those that are read; left out, all.
        where: a condition, in a template.
        cursor: the column that grows with every change: a time, a date, a number, or text that is ordered.
        lag: how far behind the bookmark a batch begins, for rows that are committed late: "5m", or a number for
            cursors that are numbers.
        max_rows: about how many rows a batch takes at most; a long history comes in several batches then, and a batch
            that fails begins where the one before ended. Only with a cursor.
        key: the column by which rows are cut into chunks; left out, the primary key, if that is one column.
        chunk_rows: rows of a chunk, if `parallel` is more than one.
        parallel: connections that read at the same time; on PostgreSQL they see one snapshot.

    Raises:
        DefinitionError: an argument is wrong, or two contradict each other.
    """
    check_connection(connection)
    if (table is None) == (query is None):
        raise DefinitionError(
            "A source reads either a table or a query.",
            where=here(),
            hint='beside the connection table="public.orders", or query="select ..." and a name',
        )
    if table is not None and not (table.count(".") <= 2 and all(table.split("."))):
        raise DefinitionError(f'"{table}" cannot name a table.', where=here(), hint='"orders" or "public.orders"')
    if query is not None and not query.strip():
        raise DefinitionError("The query is empty.", where=here())
    if isinstance(columns, str):
        raise DefinitionError(f"columns={columns!r} is no list.", where=here(), hint=f"columns=[{columns!r}]")
    for option, value in (("lag", lag), ("max_rows", max_rows)):
        if cursor is None and value is not None:
            raise DefinitionError(f"{option}={value!r} needs a cursor.", where=here(), hint='cursor="updated_at"')
    for option, number in (("max_rows", max_rows), ("chunk_rows", chunk_rows), ("parallel", parallel)):
        if number is not None and (isinstance(number, bool) or number < 1):
            raise DefinitionError(f"{option}={number!r} is no number above zero.", where=here())
    check_parallel(parallel)
    return DatabaseSource(
        connection, table, query, name, tuple(columns), where, cursor, _lag(lag), max_rows, key, chunk_rows, parallel,
        here(),
    )  # fmt: skip


def sql_tables(
    connection: str,
    tables: Iterable[str],
    *,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = (),
    cursor: Mapping[str, str] | None = None,
    lag: str | timedelta | int | None = None,
    key: Mapping[str, str] | None = None,
    **options: Any,
) -> list[DatabaseSource]:
    """A source for each of several tables: `for each in sources.sql_tables(...): shop.source(each)`.

    The tables are named, since a pipeline's tables must be known where no database answers; their columns are looked
    up when they are read. Patterns (`public.*`) choose among them.

    Args:
        connection: as for `sql`.
        tables: their names.
        include: patterns; a table that none fits is left out.
        exclude: patterns; a table that one fits is left out.
        cursor: pattern -> cursor; the first that fits. Tables that none fits are read as a whole.
        lag: of those that have a cursor.
        key: pattern -> column by which a table is cut into chunks.
        options: `max_rows` (for those that have a cursor), `chunk_rows`, `parallel`.

    Raises:
        DefinitionError: a pattern stands where names must, nothing is chosen, or two tables would be called alike.
    """
    listed = [tables] if isinstance(tables, str) else list(tables)
    for name in listed:
        if _PATTERN & set(name):
            raise DefinitionError(
                f'"{name}" is a pattern, and what fits it is known to the database only.',
                where=here(),
                hint='name the tables, ["public.orders", "public.items"], and choose among them by include=[...]',
            )
    for option in options:
        if option not in ("max_rows", "chunk_rows", "parallel"):
            raise UnknownName.of("option", option, ("max_rows", "chunk_rows", "parallel"), where=here())
    limit = options.pop("max_rows", None)
    wanted = _fitting(include, "include")
    unwanted = _fitting(exclude, "exclude")
    cursors, keys = dict(cursor or {}), dict(key or {})
    for option, patterns in (("include", wanted), ("exclude", unwanted), ("cursor", cursors), ("key", keys)):
        for pattern in patterns:
            if not any(_fits(table, pattern) for table in listed):
                raise DefinitionError(f'{option}: no table fits "{pattern}".', where=here(), hint=", ".join(listed[:8]))
    made: dict[str | None, DatabaseSource] = {}
    for table in listed:
        if not any(_fits(table, p) for p in wanted) or any(_fits(table, p) for p in unwanted):
            continue
        column = _first(cursors, table)
        of_cursor: dict[str, Any] = {} if column is None else {"cursor": column, "lag": lag, "max_rows": limit}
        source = sql(connection, table, key=_first(keys, table), **of_cursor, **options)
        if source.called in made:
            raise DefinitionError(
                f'"{made[source.called].table}" and "{table}" would both be called "{source.called}".',
                where=here(),
                hint=f'declare "{table}" as a source of its own, by another name',
            )
        made[source.called] = source
    if not made:
        raise DefinitionError("No table is chosen.", where=here(), hint="tables=[...], include=[...], exclude=[...]")
    return list(made.values())


def _fitting(patterns: Iterable[str], option: str) -> list[str]:
    if isinstance(patterns, str):
        raise DefinitionError(f"{option}={patterns!r} is no list.", where=here(), hint=f"{option}=[{patterns!r}]")
    return list(patterns)


def _fits(table: str, pattern: str) -> bool:
    """A pattern without a dot is about the table's own name."""
    return fnmatchcase(table, pattern) or ("." not in pattern and fnmatchcase(table.rpartition(".")[2], pattern))


def _first(by_pattern: Mapping[str, str], table: str) -> str | None:
    return next((value for pattern, value in by_pattern.items() if _fits(table, pattern)), None)


def check_connection(connection: str) -> None:
    """Raises DefinitionError: it is neither a name nor an address."""
    if "://" in connection:
        try:
            urlsplit(connection).port  # noqa: B018 - it is read when it is asked for
        except ValueError:
            raise DefinitionError("The address of the database has a port that is no number.", where=here()) from None
    elif not _CONNECTION.fullmatch(connection):
        raise DefinitionError(
            f'"{connection}" cannot name a connection.', where=here(), hint='"shop_db", for TIDEMILL_CONN_SHOP_DB'
        )


def check_parallel(parallel: int) -> None:
    """Raises DefinitionError: that many connections would be too many."""
    if parallel > 32:
        raise DefinitionError(f"parallel={parallel} would take all connections of a server.", where=here(), hint="4")


def _lag(lag: str | timedelta | int | None) -> Lag:
    if lag is None or (isinstance(lag, int) and not isinstance(lag, bool)):
        if lag is not None and lag < 0:
            raise DefinitionError(f"lag={lag} is negative.", where=here(), hint="lag=1000")
        return lag
    return read_duration(lag, "lag", where=here(), zero=True)
