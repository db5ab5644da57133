"""Connections to the metadata database: SQLite or PostgreSQL, and how each begins a read and a write."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tidemill.model.errors import SettingsError

#: Seconds that a writer waits for another one; then the caller gets a Conflict and may try again.
LOCK_WAIT = 30.0
#: Seconds to wait for a server to answer a connection.
CONNECT_WAIT = 10

_EXAMPLES = '"sqlite:///.tidemill/metadata.db" or "postgresql://user:password@host/database"'


@dataclass(frozen=True, slots=True)
class Engines:
    """One pool of connections, seen as three: `reader` begins snapshots, `writer` begins write transactions,
    `changer` begins changes of the schema.
    """

    reader: Engine
    writer: Engine
    changer: Engine
    #: Where the database is, for messages: never with a password.
    where: str
    #: The password, to be struck out of whatever a driver says.
    password: str | None

    @property
    def sqlite(self) -> bool:
        """True for SQLite, False for PostgreSQL."""
        return self.writer.dialect.name == "sqlite"


def open_engines(url: str, *, durable: bool = True, lock_wait: float = LOCK_WAIT) -> Engines:
    """Make the engines of a database URL; connects to nothing yet.

    Args:
        url: `sqlite:///path` or `postgresql://...`.
        durable: False lets SQLite lose the last commits in a power failure (for databases of tests).
        lock_wait: seconds that a writer waits for another one.

    Raises:
        SettingsError: the URL cannot be read, or its driver is not installed.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, durable, lock_wait)
    return _postgresql(parsed, lock_wait)


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise SettingsError("The metadata URL cannot be read.", hint=_EXAMPLES) from error
    backend = url.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise SettingsError(f'The metadata store cannot be kept in "{backend}".', hint=_EXAMPLES)
    if url.database in (None, "", ":memory:"):
        raise SettingsError("The metadata store needs a file: several connections use it.", hint=_EXAMPLES)
    return url


def _sqlite(url: URL, durable: bool, lock_wait: float) -> Engines:
    # isolation_level None: Python's sqlite3 then begins nothing by itself, and `_begin` decides.
    engine = create_engine(url, connect_args={"timeout": lock_wait, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        _use_wal(connection, lock_wait)
        connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that reads and then writes fails at once with "database is locked" where another
        # writer came between; an immediate one waits its turn.
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return Engines(
        reader=engine.execution_options(begin="BEGIN"),
        writer=engine,
        changer=engine,
        where=str(url.database),
        password=None,
    )


def _use_wal(connection: sqlite3.Connection, lock_wait: float) -> None:
    # Several processes that open a new file at once: SQLite does not wait for its lock in this one statement (seen
    # with 6 processes in 5 of 8 tries), so we do.
    until = time.monotonic() + lock_wait
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)


def _postgresql(url: URL, lock_wait: float) -> Engines:
    options = url.query.get("options", "")
    given = options if isinstance(options, str) else " ".join(options)
    try:
        engine = create_engine(
            url,
            # A server that was restarted must cost one new connection, not one failed transaction.
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_WAIT,
                "application_name": "tidemill",
                "options": f"{given} -c timezone=UTC -c lock_timeout={max(1, round(lock_wait * 1000))}".strip(),
            },
        )
    except ImportError as error:
        raise SettingsError(
            "The metadata store is in PostgreSQL, whose driver is not installed.",
            hint='pip install "tidemill[postgres]"',
        ) from error
    return Engines(
        reader=engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True),
        writer=engine.execution_options(isolation_level="READ COMMITTED"),
        changer=engine.execution_options(isolation_level="READ COMMITTED"),
        where=f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}",
        password=str(url.password) if url.password is not None else None,
    )
