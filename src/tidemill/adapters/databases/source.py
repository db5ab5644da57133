"""Port `source` on databases: what is asked, in which order, and what is handed to the archive.

A table is read by one query, or by one a chunk of its key in several connections: `chunks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill.adapters.databases.chunks import ChunkedRead, cut, reading, selecting
from tidemill.adapters.databases.database import Column, Database, Relation, known_columns
from tidemill.adapters.databases.extraction import PiecesExtraction
from tidemill.adapters.databases.pieces import empty_piece, raw_file
from tidemill.model.databases import DatabaseSource
from tidemill.model.errors import DataError, DefinitionError, UnknownName
from tidemill.plan.cursors import begin, check_same, from_bookmark, to_bookmark
from tidemill.plan.sql_feed import Bound, Sql
from tidemill.ports.source import ExtractRequest, Piece

#: Turns a template of the user's into SQL, for a batch.
Render = Callable[[str, ExtractRequest], Sql]


@dataclass(frozen=True, slots=True)
class DatabaseFeed:
    """The port `source` on a table or query.

    Args:
        name: of the feed.
        source: what is read.
        database: where.
        render: fills a template of the user's.
        place: where in the user's file, for errors.
    """

    name: str
    source: DatabaseSource
    database: Database
    render: Render
    place: str

    def extract(self, request: ExtractRequest) -> DatabaseExtraction:
        """Begin reading."""
        return DatabaseExtraction(self, request)


class DatabaseExtraction(PiecesExtraction):
    """A running read."""

    def __init__(self, feed: DatabaseFeed, request: ExtractRequest) -> None:
        super().__init__(request, feed.place)
        self._feed = feed
        self._source = feed.source
        self._database = feed.database

    def __iter__(self) -> Iterator[Piece]:
        with self._placed():
            self._stack.enter_context(self._database.opened())
            relation = self._relation()
            columns = self._columns(relation)
            wanted = self._where() + self._range(relation, columns)
            given = False
            for paths in self._read(relation, columns, wanted):
                for path in paths:
                    given = True
                    yield raw_file(path)
            if not given:
                schema = pa.schema([(column.name, column.kind or pa.null()) for column in columns])
                yield raw_file(empty_piece(self._folder, self._feed.name, schema))

    # -- what is read ----------------------------------------------------------------------------------------

    def _relation(self) -> Relation:
        if self._source.query is not None:
            # A line of its own: the query may end in a comment.
            query = self._feed.render(self._source.query.strip().rstrip(";"), self._request)
            return Relation(("(", *query, "\n)"))
        table = tuple(str(self._source.table).split("."))
        return Relation((".".join(map(self._database.quoted, table)),), table)

    def _columns(self, relation: Relation) -> list[Column]:
        """The columns that are read, in the order in which the user names them."""
        found = known_columns(self._database.columns(relation), str(self._source))
        by_name = {column.name: column for column in found}
        named = [*self._source.columns, *(name for name in (self._source.cursor, self._source.key) if name)]
        for name in named:
            if name not in by_name:
                raise UnknownName.of(f"column of {self._source}", name, by_name)
        self._by_name = by_name
        return [by_name[name] for name in self._source.columns] or found

    def _where(self) -> list[Sql]:
        if self._source.where is None:
            return []
        return [("(", *self._feed.render(self._source.where, self._request), "\n)")]

    def _range(self, relation: Relation, columns: list[Column]) -> list[Sql]:
        """The conditions on the cursor; the bookmark is where they end."""
        name = self._source.cursor
        if name is None:
            return []
        cursor = self._database.quoted(name)
        bookmark = from_bookmark(self._request.bookmark, self._feed.name)
        conditions = self._where()
        if self._by_name[name].nullable:
            self._refuse_nulls(relation, cursor, conditions)
        if self._request.until is not None:
            upper = from_bookmark(self._request.until, self._feed.name)
        else:
            upper = self._upper(relation, cursor, bookmark, conditions)
        check_same(bookmark, upper, name)
        low = begin(bookmark, self._source.lag, name)
        if upper is None:
            # Nothing was ever there; rows that come while this is read are the next batch's.
            return [("1 = 0",)]
        self._after = to_bookmark(upper, name)
        above: list[Sql] = [] if low is None else [(f"{cursor} > ", Bound(low))]
        return [*above, (f"{cursor} <= ", Bound(upper))]

    def _refuse_nulls(self, relation: Relation, cursor: str, conditions: list[Sql]) -> None:
        counted = self._database.row(selecting("count(*)", relation, [*conditions, (f"{cursor} IS NULL",)]))
        if counted is not None and counted[0]:
            raise DataError(
                f"{counted[0]} rows of {self._source} have no {self._source.cursor}, so no batch would ever have them.",
                hint=f'where="{self._source.cursor} is not null" leaves them out',
            )

    def _upper(self, relation: Relation, cursor: str, bookmark: Any, conditions: list[Sql]) -> Any:
        """Up to where this batch reads: the largest there is, no later than now, no more than `max_rows` on."""
        found = self._database.row(selecting(f"max({cursor}), {self._database.now()}", relation, conditions))
        upper, now = found if found is not None else (None, None)
        if isinstance(upper, datetime) and upper.tzinfo is not None and isinstance(now, datetime):
            # A row from the future would let every row until then come too late.
            upper = min(upper, now if now.tzinfo is not None else upper)
        if upper is None:
            return bookmark
        to_bookmark(upper, str(self._source.cursor))
        check_same(bookmark, upper, str(self._source.cursor))
        after: list[Sql] = [] if bookmark is None else [(f"{cursor} > ", Bound(bookmark))]
        if bookmark is not None:
            if isinstance(upper, str):  # the order of texts is the database's own
                later = self._database.row(selecting(f"max({cursor})", relation, [*conditions, *after]))
                upper = bookmark if later is None or later[0] is None else later[0]
            else:
                upper = max(upper, bookmark)
        if self._source.max_rows is not None:
            order = (f" ORDER BY 1 LIMIT 1 OFFSET {self._source.max_rows - 1}",)
            last = self._database.row(selecting(cursor, relation, [*conditions, *after]) + order)
            if last is not None:
                upper = last[0] if isinstance(upper, str) else min(upper, last[0])
        return upper

    # -- reading ---------------------------------------------------------------------------------------------

    def _read(self, relation: Relation, columns: list[Column], wanted: list[Sql]) -> Iterator[Sequence[Path]]:
        """The files of each chunk, in the order of the chunks."""
        at_once = self._source.parallel if self._database.parallel else 1
        chunks = self._chunks(relation, wanted) if at_once > 1 else [[]]
        read = self._stack.enter_context(ChunkedRead(self._database, self._folder, at_once))
        statements = (reading(relation, columns, [*wanted, *chunk]) for chunk in chunks)
        for chunk in read.read(self._feed.name, statements, columns):
            yield chunk.paths

    def _chunks(self, relation: Relation, wanted: list[Sql]) -> Iterator[list[Sql]]:
        """Conditions that cut the rows into chunks of `chunk_rows`."""
        name = self._source.key or self._database.key(relation)
        if name is None:
            raise DefinitionError(
                f"{self._source} has no primary key of one column, by which it could be read in parallel.",
                hint='key="id", a column with an index; or parallel=1',
            )
        yield from cut(self._database, relation, wanted, self._by_name[name], self._source.chunk_rows)
