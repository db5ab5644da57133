"""Port `source` on the changes of a PostgreSQL database: a snapshot first, then what a slot gives, without a gap.

    first batch   new slot, whose snapshot is exported -> each table, as it was at that moment, in chunks of its key
    later ones    the slot moves up to the bookmark -> its changes since then, up to a position that is fixed at first

Nothing is taken from the slot: it is only looked at, and moved once the batch is published.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from tidemill.adapters.databases.changes import Tables, log_of, snapshot_transaction
from tidemill.adapters.databases.chunks import ChunkedRead, cut, reading
from tidemill.adapters.databases.database import Column, Relation
from tidemill.adapters.databases.extraction import PiecesExtraction
from tidemill.adapters.databases.pgoutput import Decoder, of_arrow
from tidemill.adapters.databases.pgtext import SESSION
from tidemill.adapters.databases.pieces import PieceWriter, raw_file
from tidemill.adapters.databases.postgres import PostgresDatabase, explained, explained_stream
from tidemill.adapters.databases.slots import Published, Server, dropped, quoted_table
from tidemill.model.batch import Bookmark
from tidemill.model.cdc import NEW_SLOT, Cdc, FollowedTable, Position, lsn_number, lsn_text
from tidemill.model.databases import database_shown
from tidemill.model.errors import DataError, Refused
from tidemill.plan.sql import quote
from tidemill.plan.sql_feed import Sql
from tidemill.ports.source import ExtractRequest, Piece

#: Bytes of messages that are decoded at a time.
_SLICE = 4 << 20


@dataclass(frozen=True, slots=True)
class CdcFeed:
    """The port `source` on the changes of tables.

    Args:
        name: of the feed.
        source: what is followed.
        parts: what libpq takes.
        place: where in the user's file, for errors.
    """

    name: str
    source: Cdc
    parts: Mapping[str, Any]
    place: str

    def extract(self, request: ExtractRequest) -> CdcExtraction:
        """Begin reading."""
        return CdcExtraction(self, request)

    def published(self, bookmark: Bookmark) -> None:
        """Let the server forget what is published. What cannot be done now, the next batch does."""
        position = Position.of(bookmark, self.name)
        if position is None or position.slot != self.source.slot:
            return
        with Server(self.parts).opened() as server:
            server.promoted(self.source)
            slot = server.slot(self.source.slot)
            if slot is not None and not slot.is_active:
                server.advance(slot, position.lsn)


class CdcExtraction(PiecesExtraction):
    """A running read."""

    def __init__(self, feed: CdcFeed, request: ExtractRequest) -> None:
        super().__init__(request, feed.place)
        self._feed = feed
        self._source = feed.source

    def __iter__(self) -> Iterator[Piece]:
        with self._placed(), Server(self._feed.parts).opened() as server:
            before = Position.of(self._request.bookmark, self._feed.name)
            server.must_decode(self._source)
            published = server.published(self._source)
            if before is None or before.slot != self._source.slot:
                yield from self._snapshot(server, published, before)
            else:
                yield from self._changes(server, before)

    # -- the snapshot

    def _snapshot(self, server: Server, published: Mapping[str, Published], before: Position | None) -> Iterator[Piece]:
        """All rows of the tables at the moment from which the new slot gives changes."""
        if self._request.until is not None:
            raise Refused(
                "A snapshot of that moment cannot be taken again.", hint="tidemill replay loads it from the archive"
            )
        name, new = self._source.slot, self._source.slot + NEW_SLOT
        if server.slot(name) is not None:
            raise DataError(
                f'There is a replication slot "{name}" already, and no batch of this source has been published: it is '
                "somebody else's.",
                hint="another slot=, or, if nobody needs it: tidemill data drop-slot "
                f"{database_shown(self._source.connection)} {name}",
            )
        if server.slot(new) is not None:  # of a batch that was never published
            server.drop(new)
        at = int(server.one("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
        at = max(at, before.at if before is not None else 0)
        with ExitStack() as stack:
            slot = stack.enter_context(_NewSlot.made(server.info, new))
            stack.callback(self._forget_unless_whole, server, new)
            database = PostgresDatabase(self._feed.parts, slot.snapshot)
            stack.enter_context(database.opened())
            # They come before all that the slot gives: a commit right at its beginning is one that it gives.
            lsn, count = slot.lsn - 1, 0
            for table in self._source.tables:
                rows = _Rows.of(database, table, published[table.name])
                log = log_of(table, rows.columns)
                if before is not None:
                    yield from self._small(f"{table.called}.log-before", log.truncated(lsn, at))
                shape = partial(log.snapshot, lsn=lsn, at=at)
                many = yield from self._table(database, rows, f"{table.called}.log", shape, count)
                if not many:
                    yield from self._small(f"{table.called}.log", log.empty())
                count += many
            yield from self._small("transactions", snapshot_transaction(lsn, at, count))
            self._after = Position(name, slot.lsn, at, tuple(t.name for t in self._source.tables)).as_bookmark()

    def _table(
        self, database: PostgresDatabase, rows: _Rows, stem: str, shape: Callable[..., pa.RecordBatch], first: int
    ) -> Generator[Piece, None, int]:
        """A table's rows, numbered from `first`: as they come, or in chunks of its key. Gives how many they are."""
        key = rows.key(database) if self._source.parallel > 1 else None
        count, size = 0, self._source.chunk_rows
        if key is None:
            writer = PieceWriter(self._folder, stem)
            with closing(database.reader()) as reader:
                for batch in reader.read(reading(rows.relation, rows.columns, rows.wanted), rows.columns):
                    writer.write(shape(batch, first=first + count))
                    count += batch.num_rows
                    yield from _finished(writer, whole=False)
            yield from _finished(writer, whole=True)
            return count
        chunks = cut(database, rows.relation, rows.wanted, key, size)
        statements = (reading(rows.relation, rows.columns, [*rows.wanted, *chunk]) for chunk in chunks)
        with ChunkedRead(database, self._folder, self._source.parallel) as read:
            # Each chunk but the last has `size` rows, for no two have one key: so the number of its first is known.
            for chunk in read.read(
                stem, statements, rows.columns, lambda batch, number, at: shape(batch, first=first + number * size + at)
            ):
                count += chunk.rows
                yield from map(raw_file, chunk.paths)
        return count

    def _small(self, stem: str, rows: pa.RecordBatch) -> Iterator[Piece]:
        """A file of few rows."""
        writer = PieceWriter(self._folder, stem)
        writer.write(rows)
        yield from _finished(writer, whole=True)

    def _forget_unless_whole(self, server: Server, new: str) -> None:
        """A snapshot that was not read to its end leaves no slot behind."""
        if self._after == self._request.bookmark:
            dropped(server, new)

    # -- changes

    def _changes(self, server: Server, before: Position) -> Iterator[Piece]:
        """What was committed since the bookmark, in whole transactions."""
        until = Position.of(self._request.until, self._feed.name)
        self._check_tables(before)
        server.promoted(self._source)
        slot = server.slot(self._source.slot)
        if slot is None:
            raise server.lost(self._source, "is gone")
        if slot.plugin != "pgoutput" or slot.database != server.one("SELECT current_database()"):
            raise DataError(
                f'The replication slot "{slot.name}" is of database "{slot.database}" and {slot.plugin}, not of this '
                "one and pgoutput.",
                hint="another slot=",
            )
        server.must_have(self._source, slot)
        if slot.is_active:
            raise server.busy(slot)
        if slot.lsn > before.lsn:
            if until is None:
                raise server.lost(self._source, "was moved by somebody else")
            raise Refused(
                "The server has forgotten the changes of that batch: they were published.",
                hint="tidemill replay loads them from the archive",
            )
        if until is None:
            server.advance(slot, before.lsn)
        upto = until.lsn if until is not None else lsn_number(server.one("SELECT pg_current_wal_flush_lsn()::text"))
        decoder = Decoder(
            {table.name: table.key for table in self._source.tables},
            after=before.lsn, before=until.lsn if until is not None else None, latest=before.at,
        )  # fmt: skip
        tables = Tables(self._source, server)
        writers = {table.name: PieceWriter(self._folder, f"{table.called}.log") for table in self._source.tables}
        transactions = PieceWriter(self._folder, "transactions")
        limit = None if until is not None else self._source.max_changes
        messages = 0
        for slice_ in self._peeked(server, upto, limit):
            messages += len(slice_)
            changes, ended = decoder.decode(*of_arrow(slice_))
            for some in changes:
                writers[some.relation.table].write(tables.batch(some))
            if len(ended.lsn):
                transactions.write(tables.transactions(ended))
            for writer in (*writers.values(), transactions):
                yield from _finished(writer, whole=False)
        for writer in (*writers.values(), transactions):
            yield from _finished(writer, whole=True)
        # Where there was no more to give, nothing before `upto` is left.
        whole = limit is None or messages < limit
        lsn = max(decoder.end, upto if whole else 0, before.lsn)
        self._after = replace(before, lsn=lsn, at=max(decoder.latest, before.at)).as_bookmark()

    def _check_tables(self, before: Position) -> None:
        added = [table.name for table in self._source.tables if table.name not in before.tables]
        if added:
            raise DataError(
                f'"{added[0]}" is not followed since the snapshot of slot "{before.slot}", so what it had before is '
                "not known.",
                hint=f'another name, slot="{before.slot}_2", begins with a new snapshot; or a source of its own',
            )

    def _peeked(self, server: Server, upto: int, limit: int | None) -> Iterator[pa.Array]:
        """The messages of the slot, which keeps them, in slices."""
        from tidemill.adapters.databases.adbc import AdbcConnection

        publication = server.literal(quote(self._source.publication))
        query = (
            f"SELECT data FROM pg_logical_slot_peek_binary_changes({server.literal(self._source.slot)}, "  # noqa: S608
            f"'{lsn_text(upto)}', {limit or 'NULL'}, 'proto_version', '1', 'publication_names', {publication})"
        )
        with explained(), explained_stream(), closing(AdbcConnection(server.info, begin=SESSION)) as connection:
            for batch in connection.read(query, _SLICE):
                if batch.num_rows:
                    yield batch.column(0)


@dataclass(frozen=True, slots=True)
class _NewSlot:
    """A slot that was just made, and the snapshot from which it goes on, which lasts as long as its connection."""

    lsn: int
    snapshot: str

    @classmethod
    @contextmanager
    def made(cls, info: str, name: str) -> Iterator[_NewSlot]:
        """Make it; this waits for the transactions that are running."""
        import psycopg
        from psycopg import pq

        with explained():
            connection = pq.PGconn.connect(f"{info} replication=database".encode())
            try:
                if connection.status != pq.ConnStatus.OK:
                    raise psycopg.OperationalError(connection.get_error_message())
                command = f"CREATE_REPLICATION_SLOT {quote(name)} LOGICAL pgoutput EXPORT_SNAPSHOT"
                result = connection.exec_(command.encode())
                if result.status != pq.ExecStatus.TUPLES_OK:
                    raise psycopg.errors.InternalError(result.get_error_message())
                lsn, snapshot = result.get_value(0, 1), result.get_value(0, 2)
                assert lsn is not None
                assert snapshot is not None
                yield cls(lsn_number(lsn.decode()), snapshot.decode())
            finally:
                connection.finish()


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a table that changes will be about: its columns, in its order, and a condition."""

    relation: Relation
    columns: list[Column]
    wanted: list[Sql]

    @classmethod
    def of(cls, database: PostgresDatabase, table: FollowedTable, published: Published) -> _Rows:
        """What is published of a table."""
        schema, name = table.name.split(".")
        relation = Relation((quoted_table(table.name),), (schema, name))
        columns = database.columns(relation)
        names = set(published.columns) if published.columns is not None else database.stored(relation)
        wanted: list[Sql] = [(f"({published.where})",)] if published.where else []
        return cls(relation, [column for column in columns if column.name in names], wanted)

    def key(self, database: PostgresDatabase) -> Column | None:
        """The primary key, if that is one column."""
        name = database.key(self.relation)
        return next((column for column in self.columns if column.name == name), None)


def _finished(writer: PieceWriter, *, whole: bool) -> Iterator[Piece]:
    """The files that are complete: all but the last, unless nothing more comes."""
    if whole:
        writer.close()
    for path in writer.taken(last=whole):
        yield raw_file(path)
