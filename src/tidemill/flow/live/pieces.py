"""Port `live` over rows that come in pieces, of tables and the archive: as fast as it goes, or at the speed of a time.

an iterator of pieces -> PieceReading: as many rows as are due -> Taken, with the position behind them
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Any, TypeAlias

from tidemill.model.errors import DataError, UnknownName
from tidemill.ports.clock import Clock
from tidemill.ports.live import Taken

#: Rows that are given at a time.
MOST = 50_000
#: At a speed, rows are given together that fall due within so many seconds: each giving is a commit.
_TOGETHER = 0.1
#: A rest of a wait that is no more than what clocks round off.
_LEAST = 1e-3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AGO = -(2**62)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows (an Arrow RecordBatch) or messages, and the position after the first n of them."""

    count: int
    position: Callable[[int], Any]
    rows: Any = None
    values: tuple[bytes, ...] = ()


#: None: there is nothing now. An iterator that ends has given all that there will ever be.
Pieces: TypeAlias = "Generator[Piece | None, None, None]"


class Playback:
    """When rows are due: as long after the first one as their times say, divided by the speed.

    A row whose time is before that of an earlier one is due with it. After a break it goes on where it was.

    Args:
        time: the column; None: rows have no time.
        speed: None: everything is due.
        clock: the time that passes.
    """

    def __init__(self, time: str | None, speed: float | None, clock: Clock) -> None:
        self.time = time
        self._speed = speed
        self._clock = clock
        self._began: tuple[float, int] | None = None
        self._top = _LONG_AGO

    def times(self, piece: Piece) -> list[int] | None:
        """The times of a piece's rows, in microseconds; None: they have none. Raises UnknownName, DataError."""
        if self.time is None or piece.rows is None:
            return None
        names = list(piece.rows.schema.names)
        if self.time not in names:
            raise UnknownName.of("column", self.time, names)
        values = piece.rows.column(names.index(self.time)).to_pylist()
        return [_LONG_AGO if value is None else _micros(value, self.time) for value in values]

    def dues(self, times: list[int] | None) -> list[float] | None:
        """When these are due, by the monotonic clock, ascending; None: now."""
        if self._speed is None or times is None:
            return None
        speed = self._speed * 1e6
        tops = list(accumulate(times, max, initial=self._top))[1:]
        self._top = max(self._top, tops[-1]) if tops else self._top
        if self._began is None:
            first = next((time for time in tops if time != _LONG_AGO), None)
            self._began = None if first is None else (self._clock.monotonic(), first)
        if self._began is None:
            return None
        at, first = self._began
        return [at + max(0, time - first) / speed for time in tops]


class PieceReading:
    """Pieces that are being read.

    Args:
        pieces: where they come from.
        playback: when their rows are due.
        clock: the time.
        settled: is called when what was given has been committed.
    """

    def __init__(
        self, pieces: Pieces, playback: Playback, clock: Clock, settled: Callable[[], None] = lambda: None
    ) -> None:
        self._pieces = pieces
        self._playback = playback
        self._clock = clock
        self._settled = settled
        self._piece: Piece | None = None
        self._times: list[int] | None = None
        self._dues: list[float] | None = None
        self._at = 0
        self._not_before = 0.0

    def read(self, timeout: float) -> Taken | None:
        """The rows that are due."""
        if self._piece is None:
            self._piece = next(self._pieces, None)
            if self._piece is None:
                self._clock.sleep(timeout)
                return None
            self._at = 0
            self._times = self._playback.times(self._piece)
            self._dues = self._playback.dues(self._times)
        count = self._due(timeout)
        if count == 0 and self._piece.count > self._at:
            return None
        return self._take(self._piece, count)

    def committed(self) -> None:
        """What was given counts."""
        self._settled()

    def close(self) -> None:
        """End the query that the pieces come of."""
        self._pieces.close()

    def _due(self, timeout: float) -> int:
        """How many rows are due; waits for the first, up to a time."""
        assert self._piece is not None
        left = min(self._piece.count - self._at, MOST)
        if self._dues is None or left == 0:
            return left
        due = max(self._dues[self._at], self._not_before) - _LEAST
        now = self._clock.monotonic()
        if now < due:
            self._clock.sleep(min(due - now + _LEAST, timeout))
            now = self._clock.monotonic()
        if now < due:
            return 0
        self._not_before = now + _TOGETHER
        return min(left, bisect_right(self._dues, now + _LEAST) - self._at)

    def _take(self, piece: Piece, count: int) -> Taken:
        begin, self._at = self._at, self._at + count
        position = piece.position(self._at)
        if self._at == piece.count:
            self._piece = None
        if piece.rows is None:
            return Taken(position, piece.values[begin : self._at])
        if count == 0:
            return Taken(position)
        stamps = None if self._times is None else [max(0, time // 1000) for time in self._times[begin : self._at]]
        return Taken(position, rows=piece.rows.slice(begin, count), timestamps=stamps)


def _micros(value: Any, column: str) -> int:
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day, tzinfo=UTC)
    else:
        raise DataError(f'Column "{column}" holds no time: {value!r}.', hint='time="..." names a timestamp or a date')
    return (moment - _EPOCH) // timedelta(microseconds=1)
