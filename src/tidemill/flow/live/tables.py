"""Port `live` over tables of the lake: what each new version brings, and a table's rows once more.

A version is known by its pointer. A lease keeps the files of the version that the position speaks of, also while
nobody feeds the topic: for two weeks.

What a version brings over the one before it: where it has only added files, their rows, in their order. Otherwise the
rows that it has more often than the version before had them: new and changed ones of an upsert, a replacement or a
batch that was run again; none of a compaction. Rows that are gone give nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from tidemill.flow.live.pieces import Piece, PieceReading, Pieces, Playback
from tidemill.flow.services import Services
from tidemill.model.branch import MAIN
from tidemill.model.errors import Refused, UnknownName
from tidemill.model.frame import Frame, Input
from tidemill.model.live import TableChanges, TableReplay
from tidemill.model.table import SYSTEM_COLUMNS, Column, Scan, TableName
from tidemill.plan.sql import quote

#: How long a version is kept for a source that nobody runs, and how often that is said again, in seconds.
_KEPT = timedelta(days=14)
_AGAIN = 3600.0
#: Seconds between two looks whether there is a new version.
_LOOK = 1.0
_SYSTEM = tuple(column.name for column in SYSTEM_COLUMNS)


class Keeper:
    """Keeps versions of a table for a source, beyond the life of a process.

    Args:
        services: of the project.
        topic: whose source.
        table: of which versions.
    """

    def __init__(self, services: Services, topic: str, table: TableName) -> None:
        self._services = services
        self._holder = f"source of {topic}"
        self._table = table
        self._lease: int | None = None
        self._older: list[int] = []
        self._said = 0.0

    def keep(self, *pointers: str | None) -> None:
        """Keep these from now on; those before until `settled`."""
        wanted = [(self._table, pointer) for pointer in pointers if pointer is not None]
        if not wanted:
            return
        now = self._services.clock.now()
        with self._services.metadata.write() as tx:
            before = [lease.id for lease in tx.leases.live(now) if lease.holder == self._holder]
            self._lease = tx.leases.acquire(self._holder, wanted, now + _KEPT)
        self._older = before
        self._said = self._services.clock.monotonic()

    def settled(self) -> None:
        """What was given is committed: versions before are needed no more."""
        older, self._older = self._older, []
        late = self._services.clock.monotonic() - self._said >= _AGAIN
        if not older and not late:
            return
        with self._services.metadata.write() as tx:
            for lease in older:
                tx.leases.release(lease)
        if late:
            self.renew()

    def renew(self) -> None:
        """Say again that they are needed, if it is time to."""
        if self._lease is None or self._services.clock.monotonic() - self._said < _AGAIN:
            return
        self._said = self._services.clock.monotonic()
        with self._services.metadata.write() as tx:
            tx.leases.renew(self._lease, self._services.clock.now() + _KEPT)


class TableChangesLive:
    """The port over the versions of a table.

    The position: `at`, the version that was given; `next`, the one that is being given, and `rows` of it so far.
    """

    def __init__(self, services: Services, topic: str, spec: TableChanges) -> None:
        self._services = services
        self._topic = topic
        self._time = spec.time
        self._name = TableName.parse(spec.table)

    def open(self, position: Any) -> PieceReading:
        """Begin to read."""
        found = position or {"at": None, "next": None, "rows": 0}
        keeper = Keeper(self._services, self._topic, self._name)
        pieces = self._pieces(keeper, found["at"], found["next"], found["rows"])
        return PieceReading(pieces, Playback(None, None, self._services.clock), self._services.clock, keeper.settled)

    def _pieces(self, keeper: Keeper, at: str | None, following: str | None, rows: int) -> Pieces:
        clock = self._services.clock
        keeper.keep(at, following)
        looked: float | None = None
        while True:
            if following is None:
                if looked is not None and clock.monotonic() - looked < _LOOK:
                    yield None
                    continue
                looked = clock.monotonic()
                keeper.renew()
                following = pointer_of(self._services, self._name)
                if following in (None, at):
                    following = None
                    yield None
                    continue
                keeper.keep(at, following)
                rows = 0
            yield from self._version(at, following, rows)
            at, following = following, None
            keeper.keep(at)
            yield Piece(0, lambda _, at=at: {"at": at, "next": None, "rows": 0})  # type: ignore[misc]  # bound now

    def _version(self, at: str | None, following: str, done: int) -> Pieces:
        """What one version brings, from a row on."""

        def placed(before: int, batch: Any) -> Piece:
            return Piece(batch.num_rows, lambda n: {"at": at, "next": following, "rows": before + n}, batch)

        with _changes(self._services, self._name, at, following, self._time, done) as (batches, first):
            for batch in batches:
                if batch.num_rows:
                    yield placed(first, batch)
                    first += batch.num_rows


class TableReplayLive:
    """The port over a table's rows, as it is at the first time.

    The position: the version, how many were given, and whether that is all.
    """

    def __init__(self, services: Services, topic: str, spec: TableReplay) -> None:
        self._services = services
        self._topic = topic
        self._spec = spec
        self._name = TableName.parse(spec.table)

    def open(self, position: Any) -> PieceReading:
        """Begin to read."""
        clock = self._services.clock
        keeper = Keeper(self._services, self._topic, self._name)
        found = position or {"version": None, "rows": 0, "done": False}
        pieces = _none() if found["done"] else self._pieces(keeper, found["version"], found["rows"])
        return PieceReading(pieces, Playback(self._spec.time, self._spec.speed, clock), clock, keeper.settled)

    def _pieces(self, keeper: Keeper, version: str | None, done: int) -> Pieces:
        while version is None:
            version = pointer_of(self._services, self._name)
            if version is None:
                yield None
        keeper.keep(version)

        def placed(before: int, batch: Any) -> Piece:
            return Piece(batch.num_rows, lambda n: {"version": version, "rows": before + n, "done": False}, batch)

        with self._rows(version, done) as (batches, first):
            for batch in batches:
                if batch.num_rows:
                    keeper.renew()
                    yield placed(first, batch)
                    first += batch.num_rows
        yield Piece(0, lambda _: {"version": version, "rows": first, "done": True})

    @contextmanager
    def _rows(self, version: str, done: int) -> Iterator[tuple[Iterator[Any], int]]:
        scan = _scan(self._services, self._name, version)
        with _ordered(self._services, scan, self._spec.time, done) as found:
            yield found


def _none() -> Pieces:
    """All has been given."""
    yield from ()


def pointer_of(services: Services, name: TableName) -> str | None:
    """The version of a table that readers see now; None: there is no such table."""
    with services.metadata.read() as tx:
        return tx.refs.pointers(MAIN).get(name)


@contextmanager
def _changes(
    services: Services, name: TableName, at: str | None, following: str, time: str | None, done: int
) -> Iterator[tuple[Iterator[Any], int]]:
    """What a version brings over another, as record batches, from the row `done` on; and which row is first."""
    new = _scan(services, name, following)
    old = replace(new, files=()) if at is None else _scan(services, name, at)
    if at is not None and _uuid(services, name, at) != _uuid(services, name, following):
        old = replace(new, files=())  # the table was dropped, and another made of its name
    shared = set(old.files) & set(new.files)
    gone = tuple(file for file in old.files if file not in shared)
    come = replace(new, files=tuple(file for file in new.files if file not in shared))
    time = time if time in {column.name for column in _columns(new)} else None
    if not gone:
        with _ordered(services, come, time, done) as found:
            yield found
        return
    names = {column.field_id: column.name for column in old.schema}
    listed = _listed(new, time)
    before = ", ".join(_before(column, names.get(column.field_id)) for column in _sorted(new, time))
    sql = (
        f"SELECT {listed} FROM (SELECT {listed} FROM new EXCEPT ALL SELECT {before} FROM old) "  # noqa: S608 - quoted
        f"ORDER BY {listed} OFFSET {done:d}"
    )
    with services.sql.query(sql, {"new": come, "old": replace(old, files=gone)}) as reader:
        yield iter(reader), done


def _listed(scan: Scan, time: str | None) -> str:
    """The columns, quoted, the time first. Rows are ordered by all, so that those of one time have an order, too."""
    return ", ".join(quote(column.name) for column in _sorted(scan, time))


def _sorted(scan: Scan, time: str | None) -> list[Column]:
    return sorted(_columns(scan), key=lambda column: column.name != time)


def _before(column: Column, name: str | None) -> str:
    """A column in the version before; one that was added since is null."""
    if name is not None:
        return f"{quote(name)} AS {quote(column.name)}"
    return f"(SELECT {quote(column.name)} FROM new WHERE FALSE) AS {quote(column.name)}"  # noqa: S608 - quoted names


@contextmanager
def _ordered(services: Services, scan: Scan, time: str | None, done: int) -> Iterator[tuple[Iterator[Any], int]]:
    """The rows of a scan from the row `done` on: in the order of a time, or of its files. Raises UnknownName."""
    if time is not None:
        columns = [column.name for column in _columns(scan)]
        if time not in columns:
            raise UnknownName.of("column", time, columns)
        listed = _listed(scan, time)
        sql = f"SELECT {listed} FROM rows ORDER BY {listed} OFFSET {done:d}"  # noqa: S608 - quoted names
        with services.sql.query(sql, {"rows": scan}) as reader:
            yield iter(reader), done
        return
    # Whole files are not read for nothing.
    files = list(scan.files)
    first = 0
    while files and first + files[0].rows <= done:
        first += files.pop(0).rows
    frame = Frame.of(Input(str(scan.name), "whole"))
    with services.frames.batches(frame, {frame.source.key: replace(scan, files=tuple(files))}) as reader:
        yield _from(reader, done - first), done


def _from(batches: Any, skip: int) -> Iterator[Any]:
    for batch in batches:
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        yield batch.slice(skip) if skip else batch
        skip = 0


def _scan(services: Services, name: TableName, version: str) -> Scan:
    try:
        return services.catalog.scan(name, version)
    except FileNotFoundError:
        raise Refused(
            f'The version of "{name}" that was read last is kept no more: nobody has read on for {_KEPT.days} days.',
            hint="tidemill stream refeed TOPIC begins with the whole table again",
        ) from None


def _uuid(services: Services, name: TableName, version: str) -> str:
    return services.catalog.load(name, version).uuid


def _columns(scan: Scan) -> list[Column]:
    return [column for column in scan.schema if column.name not in _SYSTEM]
