"""Databases as sources: which table or query is read, how far, and in how many pieces. Values only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias
from urllib.parse import urlsplit

from tidemill.model.connector import Connector
from tidemill.model.pipeline import SourceKind

#: How far behind its bookmark a batch begins: a time for cursors that are times, a number for numbers.
Lag: TypeAlias = "timedelta | int | None"


@dataclass(frozen=True, slots=True)
class DatabaseSource(Connector):
    """A table or a query of a database.

    Args:
        connection: the name of a connection, or an address.
        table: its name, `schema.table` or `table`; None where there is a query.
        query: a SELECT in a template.
        name: what it is called; None: as the table.
        columns: those that are read; none named: all.
        where: a condition in a template.
        cursor: the column that grows with every change; None: all rows are read for each interval.
        lag: how far behind the bookmark a batch begins again.
        max_rows: about how many rows a batch of a cursor takes; None: all that there are.
        key: the column by which rows are cut into chunks; None: the primary key, where it is one column.
        chunk_rows: rows of a chunk.
        parallel: connections that read.
        place: where in the user's file.
    """

    connection: str = field(repr=False)
    table: str | None = None
    query: str | None = None
    name: str | None = None
    columns: tuple[str, ...] = ()
    where: str | None = None
    cursor: str | None = None
    lag: Lag = None
    max_rows: int | None = None
    key: str | None = None
    chunk_rows: int = 250_000
    parallel: int = 1
    place: str = ""

    @property
    def called(self) -> str | None:
        """Its name, or that of the table as far as it can name one of ours."""
        if self.name or self.table is None:
            return self.name
        found = re.sub(r"[^A-Za-z0-9_]+", "_", self.table.rpartition(".")[2])
        return f"_{found}" if found[:1].isdigit() else found

    @property
    def kind(self) -> SourceKind:
        """With a cursor it goes on from a bookmark."""
        return SourceKind.INTERVAL if self.cursor is None else SourceKind.BOOKMARK

    @property
    def keeps_files(self) -> bool:
        """Rows are archived as Parquet, in the types that the database has."""
        return True

    def __str__(self) -> str:
        return f"{database_shown(self.connection)} {self.table or 'query'}"


def database_shown(connection: str) -> str:
    """A connection in words: its name, or its address without who asks and how."""
    if "://" not in connection:
        return connection
    parts = urlsplit(connection)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
