"""Port `destination` on PostgreSQL, and on what speaks as it does: rows come by COPY, in its binary format.

Columns of types that we would not have made (an enumeration of the user's, say) are sent as CSV, which PostgreSQL reads
as it reads literals.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from tidemill.adapters.postgres.binary import HEADER, TRAILER, as_binary, sent_as
from tidemill.adapters.postgres.schemas import PostgresSchemas
from tidemill.adapters.postgres.text import as_csv, pieces, postgres_type
from tidemill.model.errors import (
    Conflict,
    ContractError,
    DataError,
    DefinitionError,
    SettingsError,
    TidemillError,
    Unreachable,
)
from tidemill.model.table import BATCH_ID, Schema, WriteMode, split_name
from tidemill.model.types import Type
from tidemill.plan.landing import (
    CREATE_POSITIONS,
    NUMBER,
    POSITIONS,
    STAGE,
    WITHOUT_NUL,
    any_row,
    creating,
    entering,
    fitting,
    no_options,
    not_ours,
    quoted_name,
    spelt,
    type_of,
    without_batches,
    without_key,
    without_keys,
)
from tidemill.plan.sql import quote, quote_all
from tidemill.ports.destination import Load, MirrorLost, NoRoom, TableLoad, may_change

if TYPE_CHECKING:
    import psycopg

#: Seconds that a server has to take a connection; that a load waits for tables which others have locked, in
#: milliseconds; and when a connection over which nothing comes any more is given up.
_TIMEOUT = 20
_LOCKS = 60_000
_ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
#: What PostgreSQL cuts off longer names at, in bytes: two tables could become one.
_NAME = 63
_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


class PostgresDestination:
    """See the port.

    Args:
        parts: what libpq takes: host, port, user, password, dbname ...
    """

    by_key = True

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

    def schemas(self) -> PostgresSchemas:
        """Its tables, for revisions."""
        return PostgresSchemas(self._opened)

    def close(self) -> None:
        """Nothing is open between two calls."""

    @contextmanager
    def _opened(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            import psycopg
        except ImportError:
            raise SettingsError("PostgreSQL needs a driver.", hint='pip install "tidemill[postgres]"') from None
        given = {"connect_timeout": _TIMEOUT, "application_name": "tidemill", **_ALIVE, **self._parts}
        options = f"-c lock_timeout={_LOCKS} {given.pop('options', '')} -c TimeZone=UTC -c DateStyle=ISO"
        try:
            with psycopg.connect(cursor_factory=psycopg.RawCursor, options=options, **given) as connection:
                try:
                    yield connection
                finally:
                    connection.rollback()  # what counts is committed
        except TidemillError:
            raise
        except psycopg.errors.LockNotAvailable as error:
            raise Unreachable(f"A table in PostgreSQL is locked by another session: {_said(error)}.") from None
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure) as error:
            raise Conflict(f"PostgreSQL has ended the load in favour of another session: {_said(error)}.") from None
        except psycopg.errors.DiskFull as error:
            raise NoRoom(f"The disk of PostgreSQL at {given.get('host', 'this computer')}", error) from None
        except psycopg.OperationalError as error:
            if "authentication failed" in str(error) or "does not exist" in str(error):
                hint = "look at the connection's address"
                raise SettingsError(f"PostgreSQL refuses the login: {_said(error)}.", hint=hint) from None
            # Who has a code has answered: too many are connected, it is shutting down.
            what = "does not answer" if error.sqlstate is None else "cannot do it now"
            raise Unreachable(f"PostgreSQL {what}: {_said(error)}.") from None
        except psycopg.Error as error:
            nul = WITHOUT_NUL if "0x00" in str(error) else None
            raise DataError(f"PostgreSQL refuses it: {_said(error)}.", hint=nul) from None


def _said(error: Exception) -> str:
    """What the server, or the client, says, in one line."""
    return " ".join(str(error).split()).rstrip(".")


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
    no_options(table.table, table.options, "PostgreSQL")
    _check_names(table)
    have = _columns(connection, table.table)
    if not have and table.mirror and table.write is not WriteMode.REPLACE:
        raise MirrorLost(table.table)
    if have and table.first and connection.execute(any_row(table.table)).fetchone():
        raise not_ours(table.table, "PostgreSQL")
    made, statements = _changes(table, have)
    may_change(table.kept, table.table, statements)
    schema, _ = split_name(table.table)
    for statement in statements:
        # To make one that is there asks for a right that whoever may write in it need not have.
        if not (statement.startswith("CREATE SCHEMA") and _has_schema(connection, schema)):
            connection.execute(statement)
    if made:
        have = {}
    names, key = spelt(have, table.columns.names), spelt(have, table.key)
    if table.batches:
        connection.execute(without_batches(table.table, table.batches, spelt(have, [BATCH_ID])[0]))
    if table.gone:
        _stage(connection, table, key)
        _copy(connection, f"pg_temp.{STAGE}", key, table.gone, _only(table.columns, table.key))
        connection.execute(f"ANALYZE pg_temp.{STAGE}")
        connection.execute(without_keys(table.table, key))
    if table.write is WriteMode.UPSERT:
        return _upsert(connection, table, names, key, have)
    if table.write is WriteMode.REPLACE and not made:
        connection.execute(f"DELETE FROM {quoted_name(table.table)}")
    entered = _copy(connection, quoted_name(table.table), names, table.rows, table.columns)
    if made and table.mirror:
        _index(connection, table)
    return entered


def _upsert(
    connection: psycopg.Connection[Any], table: TableLoad, names: list[str], key: list[str], have: Iterable[str]
) -> int:
    _stage(connection, table, names)
    _copy(connection, f"pg_temp.{STAGE}", names, table.rows, table.columns)
    connection.execute(f"ANALYZE pg_temp.{STAGE}")
    order = None if table.order is None else spelt(have, [table.order])[0]
    lacking = connection.execute(without_key(key)).fetchone()
    if lacking is not None and lacking[0]:
        raise ContractError(f"{lacking[0]} rows for {table.table} have no {', '.join(key)}.")
    entered = 0
    for statement in entering(table.table, names, table.write, key, order):
        entered = connection.execute(statement).rowcount
    connection.execute(f"DROP TABLE IF EXISTS pg_temp.{STAGE}_newest")
    return entered


def _changes(table: TableLoad, have: Mapping[str, Type | None]) -> tuple[bool, list[str]]:
    """Whether the table is made, and the statements that make it, or make it fit."""
    if not have:
        return True, creating(table.table, table.columns, postgres_type)
    try:
        return False, fitting(table.table, have, table.columns, postgres_type)
    except ContractError:
        if not (table.mirror and table.write is WriteMode.REPLACE):
            raise
        dropped = f"DROP TABLE {quoted_name(table.table)}"
        return True, [dropped, *creating(table.table, table.columns, postgres_type)]


def _has_schema(connection: psycopg.Connection[Any], schema: str | None) -> bool:
    found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = $1", [schema]).fetchone()
    return found is not None


def _check_names(table: TableLoad) -> None:
    parts = (part for part in split_name(table.table) if part is not None)
    for name in (*parts, *table.columns.names):
        if len(name.encode()) > _NAME:
            raise DefinitionError(
                f'"{name}" is too long a name for PostgreSQL, which would cut it off: {_NAME} bytes at most.',
                hint='table="schema.name" for a table; rename a column in the pipeline',
            )


def _index(connection: psycopg.Connection[Any], table: TableLoad) -> None:
    """By what a mirror's rows will be found: keys, or batches, which lie together, so that an index is tiny."""
    if table.key:
        connection.execute(f"CREATE INDEX ON {quoted_name(table.table)} ({quote_all(table.key)})")
    elif BATCH_ID in table.columns:
        connection.execute(f"CREATE INDEX ON {quoted_name(table.table)} USING brin ({quote(BATCH_ID)})")


def _only(columns: Schema, names: Iterable[str]) -> Schema:
    return Schema(tuple(columns[name] for name in names))


def _stage(connection: psycopg.Connection[Any], table: TableLoad, names: Sequence[str]) -> None:
    """An empty stage with columns as the table has them, that numbers its rows."""
    for name in (STAGE, f"{STAGE}_newest"):
        connection.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
    columns = f"SELECT {quote_all(names)} FROM {quoted_name(table.table)} LIMIT 0"
    connection.execute(f"CREATE TEMPORARY TABLE {STAGE} ON COMMIT DROP AS {columns}")
    connection.execute(f"ALTER TABLE pg_temp.{STAGE} ADD COLUMN {NUMBER} bigint GENERATED ALWAYS AS IDENTITY")


def _copy(
    connection: psycopg.Connection[Any], target: str, names: Sequence[str], rows: Iterable[Any], columns: Schema
) -> int:
    """Rows into these columns of a table; it may have others. While a piece is sent, the next one is written."""
    kinds = _kinds(connection, target)
    sent = sent_as(columns, {ours: kinds[theirs] for ours, theirs in zip(columns.names, names, strict=True)})
    # Text is what a column of any type takes, also of one that we would not have made.
    how, written = (
        ("csv", partial(as_csv, columns=columns)) if sent is None else ("binary", partial(as_binary, sent=sent))
    )
    with connection.cursor() as cursor, ThreadPoolExecutor(1) as writer:
        with cursor.copy(f"COPY {target} ({quote_all(names)}) FROM STDIN (FORMAT {how})") as copy:
            if sent is not None:
                copy.write(HEADER)
            waiting: Future[Any] | None = None
            for piece in pieces(rows):
                following = writer.submit(written, piece)
                if waiting is not None:
                    copy.write(waiting.result())
                waiting = following
            if waiting is not None:
                copy.write(waiting.result())
            if sent is not None:
                copy.write(TRAILER)
        return cursor.rowcount


def _kinds(connection: psycopg.Connection[Any], target: str) -> dict[str, str]:
    return dict(connection.execute(_COLUMNS, [target]).fetchall())


def _columns(connection: psycopg.Connection[Any], table: str) -> dict[str, Type | None]:
    return {name: type_of(kind, postgres_type) for name, kind in _kinds(connection, quoted_name(table)).items()}
