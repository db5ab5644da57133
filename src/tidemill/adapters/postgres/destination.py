"""Port `destination` on PostgreSQL, and on what speaks as it does: rows come by COPY, in CSV.

Arrow's columns are written as CSV by Polars, some million rows a second, which is more than the server takes.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tidemill.adapters.postgres.text import as_csv, postgres_type
from tidemill.model.errors import Conflict, ContractError, DataError, SettingsError, TidemillError, Unreachable
from tidemill.model.table import WriteMode
from tidemill.model.types import Type
from tidemill.plan.landing import (
    CREATE_POSITIONS,
    NUMBER,
    POSITIONS,
    STAGE,
    creating,
    entering,
    fitting,
    quoted_name,
    spelt,
    type_of,
    without_key,
)
from tidemill.plan.sql import quote_all
from tidemill.ports.destination import Load, TableLoad

if TYPE_CHECKING:
    import psycopg

#: Seconds that a server has to take a connection.
_TIMEOUT = 20
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


class PostgresDestination:
    """See the port.

    Args:
        parts: what libpq takes: host, port, user, password, dbname ...
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts

    def position(self, source: str) -> str | None:
        """How far a source has come."""
        with self._opened() as connection:
            _make_positions(connection)
            return _position(connection, source)

    def load(self, load: Load) -> int:
        """Load tables in one transaction."""
        with self._opened() as connection:
            _make_positions(connection)
            # The row is made before it is locked: two who begin at the same time meet here.
            connection.execute(
                f"INSERT INTO {POSITIONS} VALUES ($1, NULL, now()) ON CONFLICT DO NOTHING", [load.source]
            )
            found = _position(connection, load.source, lock=True)
            if found != load.before:
                raise Conflict(f'"{load.source}" is at {found} in the database, not at {load.before}.')
            rows = sum(_enter(connection, table) for table in load.tables)
            moved = f"UPDATE {POSITIONS} SET position = $2, moved_at = now() WHERE source = $1"
            connection.execute(moved, [load.source, load.after])
            connection.commit()
        return rows

    def close(self) -> None:
        """Nothing is open between two calls."""

    @contextmanager
    def _opened(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            import psycopg
        except ImportError:
            raise SettingsError("PostgreSQL needs a driver.", hint='pip install "tidemill[postgres]"') from None
        given = {"connect_timeout": _TIMEOUT, "application_name": "tidemill", **self._parts}
        try:
            with psycopg.connect(cursor_factory=psycopg.RawCursor, options="-c TimeZone=UTC", **given) as connection:
                try:
                    yield connection
                finally:
                    connection.rollback()  # what counts is committed
        except TidemillError:
            raise
        except psycopg.errors.InvalidPassword as error:
            raise SettingsError(f"PostgreSQL refuses the login: {str(error).strip()}.") from None
        except psycopg.OperationalError as error:
            raise Unreachable(f"PostgreSQL does not answer: {str(error).strip()}.") from None
        except psycopg.Error as error:
            raise DataError(f"PostgreSQL refuses it: {str(error).strip()}.") from None


def _make_positions(connection: psycopg.Connection[Any]) -> None:
    """Two who make a table at the same time would both see none: a lock makes one wait."""
    found = connection.execute("SELECT to_regclass($1)", [POSITIONS]).fetchone()
    if found is not None and found[0] is None:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", [POSITIONS])
        connection.execute(CREATE_POSITIONS)
        connection.commit()


def _position(connection: psycopg.Connection[Any], source: str, *, lock: bool = False) -> str | None:
    query = f"SELECT position FROM {POSITIONS} WHERE source = $1" + (" FOR UPDATE" if lock else "")
    found = connection.execute(query, [source]).fetchone()
    return None if found is None else found[0]


def _enter(connection: psycopg.Connection[Any], table: TableLoad) -> int:
    have = _columns(connection, table.table)
    for statement in (
        fitting(table.table, have, table.columns, postgres_type)
        if have
        else creating(table.table, table.columns, postgres_type)
    ):
        connection.execute(statement)
    names = spelt(have, table.columns.names)
    if table.write is WriteMode.APPEND:
        return _copy(connection, quoted_name(table.table), names, table)
    for name in (STAGE, f"{STAGE}_newest"):
        connection.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
    columns = quote_all(names)
    connection.execute(
        f"CREATE TEMPORARY TABLE {STAGE} ON COMMIT DROP AS SELECT {columns} FROM {quoted_name(table.table)} LIMIT 0"
    )
    connection.execute(f"ALTER TABLE pg_temp.{STAGE} ADD COLUMN {NUMBER} bigint GENERATED ALWAYS AS IDENTITY")
    _copy(connection, f"pg_temp.{STAGE}", names, table)
    connection.execute(f"ANALYZE pg_temp.{STAGE}")
    key = spelt(have, table.key)
    order = None if table.order is None else spelt(have, [table.order])[0]
    if key:
        lacking = connection.execute(without_key(key)).fetchone()
        if lacking is not None and lacking[0]:
            raise ContractError(f"{lacking[0]} rows for {table.table} have no {', '.join(key)}.")
    entered = 0
    for statement in entering(table.table, names, table.write, key, order):
        entered = connection.execute(statement).rowcount
    connection.execute(f"DROP TABLE IF EXISTS pg_temp.{STAGE}_newest")
    return entered


def _copy(connection: psycopg.Connection[Any], target: str, names: list[str], table: TableLoad) -> int:
    """Rows into these columns of a table; it may have others."""
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY {target} ({quote_all(names)}) FROM STDIN (FORMAT csv)") as copy:
            for batch in table.rows:
                for piece in as_csv(batch, table.columns):
                    copy.write(piece)
        return cursor.rowcount


def _columns(connection: psycopg.Connection[Any], table: str) -> dict[str, Type | None]:
    found = connection.execute(_COLUMNS, [quoted_name(table)]).fetchall()
    return {name: type_of(kind, postgres_type) for name, kind in found}
