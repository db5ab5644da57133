"""SQLite files as databases that are read, by Python's own driver and the types that the columns were declared with.

The Arrow driver for SQLite is not used: it takes a column's type from its first rows, so that one whose first thousand
are null, or whose whole numbers are followed by a fraction, would fail or change its type. SQLite keeps what it is
given in any column, so a value that is none of the declared type is an error with its column and itself.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import quote as quote_path

import pyarrow as pa

from tidemill.adapters.databases.database import Column, Relation, told, unknown_table
from tidemill.adapters.databases.rows import batches
from tidemill.model.errors import DataError, TidemillError, Unreachable
from tidemill.plan.sql import quote
from tidemill.plan.sql_feed import Bound, Sql

#: Seconds that somebody else's write may take.
_TIMEOUT = 20
_DECIMAL = re.compile(r"(?:DECIMAL|NUMERIC)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", re.IGNORECASE)


class SqliteDatabase:
    """See the port.

    Args:
        path: of the file.
    """

    name = "SQLite"
    parallel = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the file for reading, at one of its states."""
        with _explained(self._path):
            self._connection = sqlite3.connect(
                f"file:{quote_path(str(self._path))}?mode=ro",
                uri=True,
                timeout=_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
            )
            with closing(self._connection):
                self._connection.execute("BEGIN")
                yield

    def quoted(self, name: str) -> str:
        """A name in SQL."""
        return quote(name)

    def columns(self, relation: Relation) -> list[Column]:
        """The columns, by what they were declared as; what has no declared type by its values."""
        with _explained(self._path):
            if relation.table:
                found = self._of_table(relation.table)
            else:
                text, values = _bound(("SELECT * FROM ", *relation.sql, " AS tidemill_q LIMIT 0"))
                found = [(one[0], "", True) for one in self._connection.execute(text, values).description]
            return [
                Column(name, declared, _kind(declared) or self._of_values(relation, name), quote(name), nullable)
                for name, declared, nullable in found
            ]

    def _of_table(self, table: Sequence[str]) -> list[tuple[str, str, bool]]:
        schema, name = (table[0], table[1]) if len(table) == 2 else ("main", table[0])
        query = 'SELECT name, type, "notnull" FROM pragma_table_xinfo(:name, :schema) WHERE hidden <> 1'
        found = self._connection.execute(query, {"name": name, "schema": schema}).fetchall() if len(table) < 3 else []
        if not found:
            known = "SELECT 'main', name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name"
            raise unknown_table(table, self._connection.execute(known).fetchall())
        return [(str(name), str(declared), not notnull) for name, declared, notnull in found]

    def _of_values(self, relation: Relation, name: str) -> pa.DataType:
        """A type that all values have: one more pass, for what nobody declared."""
        shown = quote(name)
        text, values = _bound((f"SELECT DISTINCT typeof({shown}) FROM ", *relation.sql, " AS tidemill_q"))
        kinds = {str(row[0]) for row in self._connection.execute(text, values)} - {"null"}
        if kinds == {"integer"}:
            return pa.int64()
        if kinds and kinds <= {"integer", "real"}:
            return pa.float64()
        return pa.binary() if kinds == {"blob"} else pa.string()

    def key(self, relation: Relation) -> str | None:
        """Nobody asks: one connection reads."""
        return None

    def row(self, statement: Sql) -> tuple[Any, ...] | None:
        """The first row of an answer."""
        text, values = _bound(statement)
        with _explained(self._path):
            found: tuple[Any, ...] | None = self._connection.execute(text, values).fetchone()
        return found

    def now(self) -> str:
        """The moment, in UTC, as text: SQLite has no other."""
        return "datetime('now')"

    def stands(self) -> bool:
        """Whether the transaction is open."""
        return True

    def reader(self) -> SqliteReader:
        """The same connection: another one would begin at another state of the file."""
        return SqliteReader(self._connection, self._path)


class SqliteReader:
    """Reads by the connection that was opened."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def read(self, statement: Sql, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        """The rows, in the types of the columns."""
        text, values = _bound(statement)
        parsers = {at: _PARSERS[str(c.kind)] for at, c in enumerate(columns) if str(c.kind) in _PARSERS}
        with _explained(self._path), closing(self._connection.cursor()) as cursor:
            cursor.execute(text, values)
            yield from batches(_Parsed(cursor, parsers, columns) if parsers else cursor, columns)

    def cancel(self) -> None:
        """Stop the read of another thread."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.interrupt()

    def close(self) -> None:
        """The connection is closed by who opened it."""


def _iso_datetime(value: Any) -> Any:
    found = datetime.fromisoformat(value)
    if found.tzinfo is not None:
        raise ValueError("a zone, in a column without one")
    return found


_PARSERS = {"date32[day]": date.fromisoformat, "timestamp[us]": _iso_datetime, "time64[us]": time.fromisoformat}


class _Parsed:
    """A cursor whose dates and times, which SQLite keeps as text, are read as such."""

    def __init__(self, cursor: sqlite3.Cursor, parsers: Any, columns: Sequence[Column]) -> None:
        self._cursor = cursor
        self._parsers = parsers
        self._columns = columns

    def fetchmany(self, size: int) -> list[tuple[Any, ...]]:
        """Rows."""
        rows = self._cursor.fetchmany(size)
        if not rows:
            return []
        made: list[Any] = list(zip(*rows, strict=True))
        for at, parse in self._parsers.items():
            made[at] = [value if value is None else self._parsed(value, parse, at) for value in made[at]]
        return list(zip(*made, strict=True))

    def _parsed(self, value: Any, parse: Any, at: int) -> Any:
        try:
            return parse(value)
        except (TypeError, ValueError):
            column = self._columns[at]
            raise DataError(
                f'Column "{column.name}" is declared as {column.declared}, and a row has {value!r} in it.',
                hint=f"read it as it is by a query: query=\"select {column.name} || '' as {column.name} ...\"",
            ) from None


def _kind(declared: str) -> pa.DataType | None:
    """The type of a declared one, by SQLite's own rules of affinity where the name says no more; None: by values."""
    name = declared.strip().upper()
    if found := _DECIMAL.match(name):
        precision, scale = int(found[1]), int(found[2] or 0)
        return pa.decimal128(precision, scale) if 0 < precision <= 38 and scale <= precision else pa.string()
    word = re.split(r"[\s(]", name, maxsplit=1)[0]
    exact = {
        "BOOLEAN": pa.bool_(), "BOOL": pa.bool_(), "DATE": pa.date32(), "DATETIME": pa.timestamp("us"),
        "TIMESTAMP": pa.timestamp("us"), "TIME": pa.time64("us"), "UUID": pa.uuid(), "JSON": pa.string(),
    }.get(word)  # fmt: skip
    if exact is not None:
        return exact
    for part, kind in _AFFINITY:
        if part in name:
            return kind
    return None


_AFFINITY = (
    ("INT", pa.int64()), ("CHAR", pa.string()), ("CLOB", pa.string()), ("TEXT", pa.string()), ("BLOB", pa.binary()),
    ("REAL", pa.float64()), ("FLOA", pa.float64()), ("DOUB", pa.float64()),
)  # fmt: skip


def _bound(statement: Sql) -> tuple[str, dict[str, Any]]:
    """A statement and its values by names, which no text of the user's has."""
    values: dict[str, Any] = {}
    text = ""
    for part in statement:
        if isinstance(part, Bound):
            name = f"tidemill_{len(values)}"
            # What SQLite compares with is text: it knows no dates and no decimals.
            values[name] = part.value if isinstance(part.value, int | float | str | bytes | None) else str(part.value)
            text += f":{name}"
        else:
            text += part
    return text, values


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except TidemillError:
        raise
    except sqlite3.Error as error:
        said = told(error)
        if isinstance(error, sqlite3.OperationalError) and ("locked" in said or "unable to open" in said):
            raise Unreachable(f"The database {path.name} does not answer: {said}.") from None
        raise DataError(f"The database {path.name} refuses it: {said}.") from None
