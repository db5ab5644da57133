"""Port `live`: the changes of one table as they are committed, over the replication protocol.

psycopg has no API for it, but libpq's binding: START_REPLICATION, then messages both ways in one COPY. The server is
told how far what it gave is committed, and not before.
"""

from __future__ import annotations

import select
import struct
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.adapters.databases.changes import Tables
from tidemill.adapters.databases.pgoutput import EPOCH, Decoder, joined
from tidemill.adapters.databases.postgres import explained
from tidemill.adapters.databases.slots import Server
from tidemill.model.cdc import Cdc, lsn_number, lsn_text
from tidemill.model.errors import DataError, Unreachable
from tidemill.plan.sql import quote
from tidemill.ports.live import Taken

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

#: As in `pgtext.SESSION`, for a connection that takes no SET.
_OPTIONS = (
    "-c TimeZone=UTC -c DateStyle=ISO -c IntervalStyle=iso_8601 -c bytea_output=hex -c extra_float_digits=1 "
    "-c statement_timeout=0"
)
#: Messages that are decoded at a time, and their bytes.
_MOST, _BYTES = 20_000, 4 << 20
#: Seconds between two reports to the server, and between two positions where nothing changes.
_REPORT, _IDLE = 5.0, 10.0


@dataclass(frozen=True, slots=True)
class CdcLive:
    """The port on one table.

    Args:
        source: what is followed: one table.
        parts: what libpq takes.
    """

    source: Cdc
    parts: Mapping[str, Any]

    def open(self, position: Any) -> CdcReading:
        """Go on from a position; without one, from now on, or from where the slot is."""
        with Server(self.parts).opened() as server:
            server.must_decode(self.source)
            server.published(self.source)
            slot = server.slot(self.source.slot)
            if slot is None:
                if position is not None:
                    raise server.lost(self.source, "is gone")
                server.rows("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", self.source.slot)
                slot = server.slot(self.source.slot)
                assert slot is not None
            server.must_have(self.source, slot)
            if slot.is_active:
                raise server.busy(slot)
            done = _Place.of(position) if position is not None else _Place(slot.lsn, 0, 0)
            if slot.lsn > done.lsn:
                raise server.lost(self.source, "was moved by somebody else")
        return CdcReading(self.source, self.parts, done)


@dataclass(frozen=True, slots=True)
class _Place:
    """How far: transactions whose commit lies before `lsn`, and so many changes of the one there."""

    lsn: int
    count: int
    at: int

    @classmethod
    def of(cls, position: Any) -> _Place:
        """Raises DataError: it is no position of a slot."""
        try:
            return cls(lsn_number(position["lsn"]), int(position["count"]), int(position["at"]))
        except (TypeError, KeyError, ValueError):
            raise DataError(f"{position!r} is no position in a replication slot.") from None

    def as_position(self) -> dict[str, Any]:
        return {"lsn": lsn_text(self.lsn), "count": self.count, "at": self.at}


class CdcReading:
    """A slot that is being read."""

    def __init__(self, source: Cdc, parts: Mapping[str, Any], done: _Place) -> None:
        self._table = source.tables[0].name
        self._server = Server({**parts, "replication": "database", "options": _OPTIONS, "client_encoding": "UTF8"})
        self._beside = Server(parts)
        self._decoder = Decoder({self._table: source.tables[0].key}, after=done.lsn, latest=done.at)
        self._source = source
        self._done = self._given = self._committed = done
        self._queue: deque[Taken] = deque()
        self._reported = self._told_idle = time.monotonic()
        self._opened = self._beside.opened()
        self._tables = Tables(source, self._opened.__enter__())
        try:
            self._connection = self._begin(done)
        except BaseException:
            self._opened.__exit__(None, None, None)
            raise

    def read(self, timeout: float) -> Taken | None:
        """Some changes; or, now and then, how far the server is where nothing has changed."""
        if not self._queue:
            messages, end = self._messages(timeout)
            if messages:
                self._decode(messages)
            elif end > self._given.lsn and time.monotonic() - self._told_idle > _IDLE and not self._decoder.is_open:
                self._told_idle = time.monotonic()
                self._queue.append(self._taken(_Place(end, 0, self._given.at)))
        self._report()
        if not self._queue:
            return None
        taken = self._queue.popleft()
        self._given = _Place.of(taken.position)
        return taken

    def committed(self) -> None:
        """The server may forget what was committed."""
        self._committed = self._given
        self._report(now=True)

    def close(self) -> None:
        """End the connections."""
        with suppress(Exception):
            self._connection.finish()
        self._opened.__exit__(None, None, None)

    # Parts

    def _begin(self, done: _Place) -> PGconn:
        import psycopg
        from psycopg import pq

        publication = quote(self._source.publication).replace("'", "''")
        command = (
            f"START_REPLICATION SLOT {quote(self._source.slot)} LOGICAL {lsn_text(done.lsn)} "
            f"(proto_version '1', publication_names '{publication}')"
        )
        with explained():
            connection = pq.PGconn.connect(self._server.info.encode())
            if connection.status != pq.ConnStatus.OK:
                raise psycopg.OperationalError(connection.get_error_message())
            result = connection.exec_(command.encode())
            if result.status != pq.ExecStatus.COPY_BOTH:
                message = result.get_error_message()
                connection.finish()
                raise psycopg.OperationalError(message)
        return connection

    def _messages(self, timeout: float) -> tuple[list[bytes], int]:
        """Messages that have come, and up to where the server has looked."""
        found: list[bytes] = []
        size = end = 0
        until = time.monotonic() + timeout
        while len(found) < _MOST and size < _BYTES:
            count, data = self._connection.get_copy_data(1)
            if count > 0:
                raw = bytes(data)
                if raw[:1] == b"w":
                    found.append(raw[25:])
                    size += len(raw)
                elif raw[:1] == b"k":
                    end, _, wanted = struct.unpack_from(">QqB", raw, 1)
                    self._report(now=bool(wanted))
                continue
            if count < 0:
                result = self._connection.get_result()
                said = "" if result is None else result.get_error_message()
                raise Unreachable(f"PostgreSQL has ended the replication: {said.strip()}.")
            left = until - time.monotonic()
            if found or left <= 0:
                break
            select.select([self._connection.socket], [], [], min(left, _REPORT))
            with explained():
                self._connection.consume_input()
            self._report()
        return found, end

    def _decode(self, messages: list[bytes]) -> None:
        """Rows of one form each, with the position behind them."""
        changes, _ = self._decoder.decode(*joined(messages))
        for some in changes:
            rows = self._tables.batch(some)
            keep = (some.lsn > self._done.lsn) | (some.sequence >= self._done.count)
            at = keep.nonzero()[0]
            if not len(at):
                continue
            rows = rows.slice(int(at[0]))
            times = (some.committed_at[at[0] :] // 1000).tolist()
            place = _Place(int(some.lsn[-1]), int(some.sequence[-1]) + 1, self._decoder.latest)
            self._queue.append(self._taken(place, rows, times))
        if self._queue and not self._decoder.is_open and self._decoder.end:
            # The transaction is whole: what follows begins behind it.
            last = self._queue.pop()
            place = _Place(self._decoder.end, 0, self._decoder.latest)
            self._queue.append(self._taken(place, last.rows, last.timestamps))

    @staticmethod
    def _taken(place: _Place, rows: Any = None, timestamps: Any = None) -> Taken:
        return Taken(place.as_position(), rows=rows, timestamps=timestamps)

    def _report(self, *, now: bool = False) -> None:
        """Tell the server how far it may forget."""
        moment = time.monotonic()
        if not now and moment - self._reported < _REPORT:
            return
        self._reported = moment
        lsn = self._committed.lsn
        stamp = time.time_ns() // 1000 - EPOCH
        with explained():
            self._connection.put_copy_data(struct.pack(">cQQQqB", b"r", lsn, lsn, lsn, stamp, 0))
            self._connection.flush()
