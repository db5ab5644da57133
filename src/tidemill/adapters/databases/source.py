"""Port `source` on databases: what is asked, in which order, and what is handed to the archive.

A table is read by one query, or by one a chunk of its key in several connections. Chunks come in the order of the key,
whichever connection is first.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import pyarrow as pa

from tidemill.adapters.databases.database import Column, Database, Reader, Relation, known_columns
from tidemill.adapters.databases.extraction import PiecesExtraction
from tidemill.adapters.databases.pieces import PieceWriter, empty_piece, raw_file
from tidemill.model.databases import DatabaseSource
from tidemill.model.errors import DataError, DefinitionError, UnknownName, Unreachable
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
        self._stop = Event()
        self._readers: list[Reader] = []
        self._idle: SimpleQueue[Reader] = SimpleQueue()

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
        counted = self._database.row(_select("count(*)", relation, [*conditions, (f"{cursor} IS NULL",)]))
        if counted is not None and counted[0]:
            raise DataError(
                f"{counted[0]} rows of {self._source} have no {self._source.cursor}, so no batch would ever have them.",
                hint=f'where="{self._source.cursor} is not null" leaves them out',
            )

    def _upper(self, relation: Relation, cursor: str, bookmark: Any, conditions: list[Sql]) -> Any:
        """Up to where this batch reads: the largest there is, no later than now, no more than `max_rows` on."""
        found = self._database.row(_select(f"max({cursor}), {self._database.now()}", relation, conditions))
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
                later = self._database.row(_select(f"max({cursor})", relation, [*conditions, *after]))
                upper = bookmark if later is None or later[0] is None else later[0]
            else:
                upper = max(upper, bookmark)
        if self._source.max_rows is not None:
            order = (f" ORDER BY 1 LIMIT 1 OFFSET {self._source.max_rows - 1}",)
            last = self._database.row(_select(cursor, relation, [*conditions, *after]) + order)
            if last is not None:
                upper = last[0] if isinstance(upper, str) else min(upper, last[0])
        return upper

    # -- reading ---------------------------------------------------------------------------------------------

    def _read(self, relation: Relation, columns: list[Column], wanted: list[Sql]) -> Iterator[list[Path]]:
        """The files of each chunk, in the order of the chunks; the next ones are read meanwhile."""
        at_once = self._source.parallel if self._database.parallel else 1
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="tidemill-read")
        self._stack.callback(self._end, pool)
        # Before anything is read: where there is no common snapshot, they begin theirs as near to each other as can be.
        for _ in range(at_once):
            self._idle.put(self._reader())
        waiting: deque[Future[list[Path]]] = deque()
        for number, chunk in enumerate(self._chunks(relation, wanted, at_once)):
            waiting.append(pool.submit(self._chunk, number, _reading(relation, columns, [*wanted, *chunk]), columns))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _chunks(self, relation: Relation, wanted: list[Sql], at_once: int) -> Iterator[list[Sql]]:
        """Conditions that cut the rows into chunks of `chunk_rows`, found along the key's index."""
        if at_once == 1:
            yield []
            return
        name = self._source.key or self._database.key(relation)
        if name is None:
            raise DefinitionError(
                f"{self._source} has no primary key of one column, by which it could be read in parallel.",
                hint='key="id", a column with an index; or parallel=1',
            )
        key = self._database.quoted(name)
        low: Any = None
        while True:
            above: list[Sql] = [] if low is None else [(f"{key} > ", Bound(low))]
            # Rows without a key are in no range: the first chunk has them.
            order = (f" ORDER BY 1 LIMIT 1 OFFSET {self._source.chunk_rows - 1}",)
            bound = self._database.row(_select(key, relation, [*wanted, *above, (f"{key} IS NOT NULL",)]) + order)
            if bound is None:
                if low is None:
                    yield []
                else:
                    yield above
                return
            within: Sql = (f"{key} <= ", Bound(bound[0]))
            if low is None and self._by_name[name].nullable:
                within = ("(", *within, f" OR {key} IS NULL)")
            yield [*above, within]
            low = bound[0]

    def _chunk(self, number: int, statement: Sql, columns: list[Column]) -> list[Path]:
        """Read one chunk; once more where its connection is lost and the others' snapshot is not."""
        again = True
        while True:
            reader = self._idle.get() if not self._idle.empty() else self._reader()
            writer = PieceWriter(self._folder, f"{self._feed.name}-{number:05d}")
            try:
                for batch in reader.read(statement, columns):
                    if self._stop.is_set():
                        return []
                    writer.write(batch)
                writer.close()
            except Unreachable:
                writer.forget()
                reader.close()
                if not again or self._stop.is_set() or not self._database.stands():
                    raise
                again = False
                continue
            except BaseException:
                writer.forget()
                raise
            self._idle.put(reader)
            return writer.paths

    def _reader(self) -> Reader:
        made = self._database.reader()
        self._readers.append(made)
        return made

    def _end(self, pool: ThreadPoolExecutor) -> None:
        """Stop what is still read, and close all connections."""
        self._stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for reader in list(self._readers):
            reader.cancel()
        pool.shutdown(wait=True)
        for reader in self._readers:
            reader.close()


def _select(what: str, relation: Relation, conditions: list[Sql]) -> Sql:
    """A SELECT on the relation."""
    parts: list[Any] = [f"SELECT {what} FROM ", *relation.sql, " AS tidemill_q"]
    for at, condition in enumerate(conditions):
        parts += [" AND " if at else " WHERE ", *condition]
    return tuple(parts)


def _reading(relation: Relation, columns: list[Column], conditions: list[Sql]) -> Sql:
    """The SELECT of the rows: the columns, and beside them what is needed to judge them."""
    shown = [column.shown for column in columns] + [column.beside for column in columns if column.beside]
    return _select(", ".join(shown), relation, conditions)
