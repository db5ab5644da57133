"""Port `sqlclient` on SQLite, DuckDB and PostgreSQL. What differs is how a connection is opened, ended, and stopped."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from tidemill.model.errors import DataError, SettingsError, TidemillError, Unreachable
from tidemill.ports.sqlclient import Rows, Statement

#: Seconds that a database has to take a connection, or a lock on its file to be given free.
TIMEOUT = 20
#: SQLite looks after so many of its steps (about a millisecond) whether it shall stop.
_STEPS = 100_000
#: The first word of a statement that only reads, after comments.
_READS = re.compile(
    r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*(?:select|values|from|show|describe)\b", re.IGNORECASE | re.DOTALL
)


class _Client:
    """What all have in common."""

    dialect: ClassVar[str]
    _open: Any = None
    _stopped = False

    def run(self, statements: Sequence[Statement], *, most: int, autocommit: bool = False) -> Rows | None:
        """Execute statements one after another."""
        found: Rows | None = None
        at = ""
        try:
            with closing(
                self._connect(autocommit, reads=all(_reads(statement.text) for statement in statements))
            ) as connection:
                self._open = connection
                try:
                    for statement in statements:
                        at = statement.text
                        rows = self._execute(connection, statement, most)
                        found = found if rows is None else rows
                    at = "COMMIT"
                    if not autocommit:
                        connection.commit()
                finally:
                    # What is not committed is rolled back by closing.
                    self._open = None
        except TidemillError:
            raise
        except Exception as error:
            raise self._told(error, at) from None
        return found

    def interrupt(self) -> None:
        """Stop what is being executed."""
        self._stopped = True
        if self._open is not None:
            self._open.interrupt()

    def _connect(self, autocommit: bool, *, reads: bool) -> Any:
        return None

    def _execute(self, connection: Any, statement: Statement, most: int) -> Rows | None:
        with closing(connection.cursor()) as cursor:
            cursor.execute(statement.text, statement.values)
            return _rows(cursor, most)

    def _told(self, error: Exception, statement: str) -> TidemillError:
        return _refused(error, statement)


class SqliteClient(_Client):
    """An SQLite file."""

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path

    def _connect(self, autocommit: bool, *, reads: bool) -> sqlite3.Connection:
        made = sqlite3.connect(self._path, timeout=TIMEOUT, isolation_level=None)
        made.set_progress_handler(lambda: self._stopped, _STEPS)
        if not autocommit:
            # At once for writing: one that reads first and writes later fails when somebody else has written.
            made.execute("BEGIN" if reads else "BEGIN IMMEDIATE")
        return made

    def _told(self, error: Exception, statement: str) -> TidemillError:
        text = str(error)
        if isinstance(error, sqlite3.OperationalError) and ("locked" in text or "unable to open" in text):
            return Unreachable(f"The database {self._path.name} does not answer: {text}.")
        return _refused(error, statement)


class DuckClient(_Client):
    """A DuckDB file."""

    dialect = "duckdb"

    def __init__(self, path: Path) -> None:
        self._path = path

    def _connect(self, autocommit: bool, *, reads: bool) -> Any:
        import duckdb

        try:
            # Any number of processes may read the file at a time; who may write it has it alone.
            made = duckdb.connect(str(self._path), read_only=reads and self._path.exists())
        except duckdb.Error as error:
            raise Unreachable(f"The database {self._path.name} does not answer: {error}") from None
        if not autocommit:
            made.begin()
        return made

    def _execute(self, connection: Any, statement: Statement, most: int) -> Rows | None:
        # A cursor would be another connection, outside of the transaction.
        connection.execute(statement.text, list(statement.values))
        found = _rows(connection, most)
        connection.fetchall()  # an unread result makes the next statement fail
        # What only changes rows tells their number, as a row.
        word = statement.text.split(None, 1)[0].upper() if statement.text.split() else ""
        counts = (
            word in ("INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CREATE") and found and found.columns == ("Count",)
        )
        return None if counts else found


class PostgresClient(_Client):
    """A PostgreSQL database.

    Args:
        parts: what libpq takes: host, port, user, password, dbname ...
    """

    dialect = "postgres"

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts

    def _connect(self, autocommit: bool, *, reads: bool) -> Any:
        try:
            import psycopg
        except ImportError:
            raise SettingsError("PostgreSQL needs a driver.", hint='pip install "tidemill[postgres]"') from None
        given = {"connect_timeout": TIMEOUT, "application_name": "tidemill", **self._parts}
        return psycopg.connect(autocommit=autocommit, cursor_factory=psycopg.RawCursor, **given)

    def interrupt(self) -> None:
        """Stop what is being executed."""
        self._stopped = True
        if self._open is not None:
            self._open.cancel()

    def _execute(self, connection: Any, statement: Statement, most: int) -> Rows | None:
        with connection.cursor() as cursor:
            cursor.execute(statement.text, statement.values or None)
            return _rows(cursor, most)

    def _told(self, error: Exception, statement: str) -> TidemillError:
        import psycopg

        if isinstance(error, psycopg.OperationalError) and not isinstance(error, psycopg.errors.QueryCanceled):
            return Unreachable(f"PostgreSQL does not answer: {str(error).strip()}.")
        return _refused(error, statement)


def _reads(statement: str) -> bool:
    """Whether a statement certainly changes nothing; `WITH` may stand before anything."""
    return _READS.match(statement) is not None


def _rows(cursor: Any, most: int) -> Rows | None:
    if not cursor.description:
        return None
    found = cursor.fetchmany(most + 1)
    columns = tuple(str(column[0]) for column in cursor.description)
    return Rows(columns, tuple(tuple(row) for row in found[:most]), len(found) > most)


def _refused(error: Exception, statement: str) -> DataError:
    line = " ".join(statement.split())
    shown = f" in: {line[:100]}{'...' if len(line) > 100 else ''}" if line else ""
    return DataError(f"The database refuses it: {str(error).strip()}{shown}")
