"""Reading rows in chunks of a key, by several connections at the same time: chunks come in the order of the key,
whichever connection is first. A read by one connection is one chunk.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from tidemill.adapters.databases.database import Column, Database, Reader, Relation
from tidemill.adapters.databases.pieces import PieceWriter
from tidemill.model.errors import Unreachable
from tidemill.plan.sql_feed import Bound, Sql

#: Makes of rows what is written: given the number of their chunk, and how many rows of it came before.
Shape = Callable[[pa.RecordBatch, int, int], pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was read of a chunk: its files, and how many rows they have."""

    paths: Sequence[Path]
    rows: int


class ChunkedRead:
    """Connections that read. Use as a context: they are closed, and what they still read is stopped.

    Args:
        database: where; it is open.
        folder: where pieces stand until they are read.
        at_once: how many connections.
    """

    def __init__(self, database: Database, folder: Path, at_once: int) -> None:
        self._database = database
        self._folder = folder
        self._at_once = at_once
        self._stop = Event()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="tidemill-read")
        self._readers: list[Reader] = []
        self._idle: SimpleQueue[Reader] = SimpleQueue()

    def __enter__(self) -> Self:
        try:
            # Before anything is read: where there is no common snapshot, they begin theirs as near to each other as
            # can be.
            for _ in range(self._at_once):
                self._idle.put(self._reader())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(
        self, stem: str, statements: Iterable[Sql], columns: list[Column], shape: Shape = lambda rows, _n, _at: rows
    ) -> Iterator[Chunk]:
        """The chunks, in their order; the next ones are read meanwhile.

        Args:
            stem: how the files' names begin.
            statements: the SELECT of each chunk.
            columns: what they select.
            shape: makes of rows what is written; called in threads.
        """
        waiting: deque[Future[Chunk]] = deque()
        for number, statement in enumerate(statements):
            waiting.append(self._pool.submit(self._chunk, stem, number, statement, columns, shape))
            if len(waiting) > self._at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _chunk(self, stem: str, number: int, statement: Sql, columns: list[Column], shape: Shape) -> Chunk:
        """Read one chunk; once more where its connection is lost and the others' snapshot is not."""
        again = True
        while True:
            reader = self._free()
            writer, rows = PieceWriter(self._folder, f"{stem}-{number:05d}"), 0
            try:
                for batch in reader.read(statement, columns):
                    if self._stop.is_set():
                        return Chunk((), 0)
                    writer.write(shape(batch, number, rows))
                    rows += batch.num_rows
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
            return Chunk(writer.paths, rows)

    def _free(self) -> Reader:
        with suppress(Empty):
            return self._idle.get_nowait()
        return self._reader()

    def _reader(self) -> Reader:
        made = self._database.reader()
        self._readers.append(made)
        return made

    def _end(self) -> None:
        """Stop what is still read, and close all connections."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for reader in list(self._readers):
            reader.cancel()
        self._pool.shutdown(wait=True)
        for reader in self._readers:
            reader.close()


def cut(database: Database, relation: Relation, wanted: list[Sql], key: Column, rows: int) -> Iterator[list[Sql]]:
    """Conditions that cut rows into chunks, found along the key's index.

    Args:
        database: where.
        relation: the table or query.
        wanted: conditions on its rows.
        key: the column.
        rows: of a chunk.
    """
    name = database.quoted(key.name)
    low: Any = None
    while True:
        above: list[Sql] = [] if low is None else [(f"{name} > ", Bound(low))]
        # Rows without a key are in no range: the first chunk has them.
        order = (f" ORDER BY 1 LIMIT 1 OFFSET {rows - 1}",)
        bound = database.row(selecting(name, relation, [*wanted, *above, (f"{name} IS NOT NULL",)]) + order)
        if bound is None:
            yield above
            return
        within: Sql = (f"{name} <= ", Bound(bound[0]))
        if low is None and key.nullable:
            within = ("(", *within, f" OR {name} IS NULL)")
        yield [*above, within]
        low = bound[0]


def selecting(what: str, relation: Relation, conditions: Sequence[Sql]) -> Sql:
    """A SELECT on the relation."""
    parts: list[Any] = [f"SELECT {what} FROM ", *relation.sql, " AS tidemill_q"]
    for at, condition in enumerate(conditions):
        parts += [" AND " if at else " WHERE ", *condition]
    return tuple(parts)


def reading(relation: Relation, columns: list[Column], conditions: Sequence[Sql]) -> Sql:
    """The SELECT of the rows: the columns, and beside them what is needed to judge them."""
    shown = [column.shown for column in columns] + [column.beside for column in columns if column.beside]
    return selecting(", ".join(shown), relation, conditions)
