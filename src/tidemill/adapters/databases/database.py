"""What a database is to a source: its columns, one row of an answer, and readers that see the same rows.

Each kind has a file of its own; `source.py` decides what is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from tidemill.model.errors import DataError, UnknownName
from tidemill.plan.sql_feed import Sql


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is read.

    Args:
        name: as the database has it.
        declared: its type, as the database calls it.
        kind: its type in the archive; None: what its values are.
        shown: the SQL that gives its value.
        nullable: whether a row may have none.
        beside: SQL of a number that tells of the value, by which `checked` judges it; nothing: it is not judged.
    """

    name: str
    declared: str
    kind: pa.DataType | None
    shown: str
    nullable: bool = True
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """What is read from: a table's name in parts, or a query in parentheses; both as SQL."""

    sql: Sql
    table: tuple[str, ...] = field(default=())


class Reader(Protocol):
    """A connection that reads whole answers, in one thread at a time."""

    def read(self, statement: Sql, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        """The rows, in batches of some megabytes, with the types of `columns`.

        Raises:
            Unreachable: the connection has ended. DataError: a value is none of its column's type.
        """
        ...

    def cancel(self) -> None:
        """Make a `read` in another thread end, with whatever error."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


class Database(Protocol):
    """A database. `opened` comes first; then all its answers are of one moment, as far as it can do that.

    Raises:
        Unreachable: it does not answer. SettingsError: it refuses who asks, or its driver is not installed.
        DataError: it refuses what is asked. UnknownName: there is no such table.
    """

    #: How messages call it.
    name: str
    #: Whether several readers are of use.
    parallel: bool

    def opened(self) -> AbstractContextManager[object]:
        """Connect, and be connected until the end."""
        ...

    def quoted(self, name: str) -> str:
        """A name in SQL, whatever it contains."""
        ...

    def columns(self, relation: Relation) -> list[Column]:
        """The columns of a table or query."""
        ...

    def key(self, relation: Relation) -> str | None:
        """The primary key of a table, if that is one column."""
        ...

    def row(self, statement: Sql) -> tuple[Any, ...] | None:
        """The first row of an answer."""
        ...

    def now(self) -> str:
        """SQL of the moment by the database's clock."""
        ...

    def stands(self) -> bool:
        """Whether what was opened still answers: another reader would see the same rows."""
        ...

    def reader(self) -> Reader:
        """One more connection."""
        ...


def known_columns(found: Sequence[Column], source: str) -> list[Column]:
    """The columns, if each has a name of its own.

    Raises:
        DataError: two are called alike, or one has no name.
    """
    seen: set[str] = set()
    for column in found:
        if not column.name or column.name.lower() in seen:
            what = f'two columns "{column.name}"' if column.name else "a column without a name"
            raise DataError(
                f"{source} has {what}.",
                hint="give each a name of its own: select total as total_of_order",
            )
        seen.add(column.name.lower())
    return list(found)


def unknown_table(table: Sequence[str], known: Sequence[tuple[str, str]]) -> UnknownName:
    """The error for a table that does not exist.

    Args:
        table: its name in parts.
        known: schemas and names of those that do.
    """
    wanted = ".".join(table)
    offered = [".".join(one) if len(table) > 1 else one[1] for one in known]
    return UnknownName.of("table", wanted, offered)


def told(error: BaseException) -> str:
    """What a driver says, on one line and without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Query was:", "LINE ", "^", "(Background on", "[SQL:"))]
    return " ".join(kept).removesuffix(".")[:500]
