"""Rows that a step remembers, kept as a few frames: what is new is added, and merged with older ones of its size.

So a checkpoint writes what has changed since the last one, and each row is written about log2(n) times in all. In the
keeper a chunk is one or more pieces below the changelog's size of a message.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from tidemill.ports.stream_engine import Keeper

#: A piece's bytes before compression: brokers take messages of 1 MB unless they are told otherwise.
PIECE = 600_000
#: New rows that may wait before they are folded together.
_WAITING = 20_000


@dataclass(slots=True)
class _Chunk:
    rows: pl.DataFrame
    #: Its number in the keeper and how many pieces it has there; None: it is not there yet.
    number: int | None = None
    pieces: int = 0


class Chunks:
    """Rows of one step.

    Args:
        keeper: where they last.
        name: of the step's rows; keys begin with it.
        fold: makes one row of rows that mean one thing; None: each stands for itself.
    """

    def __init__(self, keeper: Keeper, name: str, fold: Callable[[pl.DataFrame], pl.DataFrame] | None = None) -> None:
        self._keeper = keeper
        self._prefix = f"{name}/".encode()
        self._fold = fold
        self._saved: list[_Chunk] = []
        self._fresh: list[pl.DataFrame] = []
        self._waiting = 0
        self._dropped: list[_Chunk] = []
        self._next = 0
        self._load()

    def add(self, rows: pl.DataFrame) -> None:
        """More rows, after those that are there."""
        if rows.height == 0:
            return
        self._fresh.append(rows)
        self._waiting += rows.height
        if self._fold is not None and len(self._fresh) > 1 and self._waiting > max(_WAITING, 2 * self._fresh[0].height):
            self._fresh = [self._fold(pl.concat(self._fresh, how="diagonal_relaxed"))]
            self._waiting = self._fresh[0].height

    def all(self) -> pl.DataFrame | None:
        """All rows in the order in which they were added; None: there are none. Folded ones may occur again."""
        frames = [*(chunk.rows for chunk in self._saved), *self._fresh]
        if not frames:
            return None
        return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")

    def replace(self, rows: pl.DataFrame) -> None:
        """Have these rows instead of those that are there."""
        self._dropped += [chunk for chunk in self._saved if chunk.number is not None]
        self._saved = []
        self._fresh = [rows] if rows.height else []
        self._waiting = rows.height

    @property
    def height(self) -> int:
        """How many rows there are."""
        return sum(chunk.rows.height for chunk in self._saved) + self._waiting

    def save(self) -> None:
        """Put what has changed into the keeper."""
        if self._fresh:
            self._saved.append(_Chunk(self._folded(self._fresh)))
            self._fresh, self._waiting = [], 0
        while len(self._saved) > 1 and 2 * self._saved[-1].rows.height >= self._saved[-2].rows.height:
            last, before = self._saved.pop(), self._saved.pop()
            self._dropped += [chunk for chunk in (before, last) if chunk.number is not None]
            self._saved.append(_Chunk(self._folded([before.rows, last.rows])))
        for chunk in self._dropped:
            for piece in range(chunk.pieces):
                self._keeper.put(self._key(chunk.number or 0, piece), None)
        self._dropped = []
        for chunk in self._saved:
            if chunk.number is None:
                self._write(chunk)

    def _folded(self, frames: list[pl.DataFrame]) -> pl.DataFrame:
        rows = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
        return rows if self._fold is None else self._fold(rows)

    def _write(self, chunk: _Chunk) -> None:
        chunk.number, self._next = self._next, self._next + 1
        found = pieces(chunk.rows)
        chunk.pieces = len(found)
        for place, piece in enumerate(found):
            self._keeper.put(self._key(chunk.number, place), packed(piece))

    def _key(self, number: int, piece: int) -> bytes:
        return self._prefix + number.to_bytes(8, "big") + piece.to_bytes(4, "big")

    def _load(self) -> None:
        found: dict[int, list[pl.DataFrame]] = {}
        for key, value in self._keeper.scan(self._prefix):
            number = int.from_bytes(key[len(self._prefix) :][:8], "big")
            found.setdefault(number, []).append(unpacked(value))
        for number, pieces in sorted(found.items()):
            self._saved.append(_Chunk(pl.concat(pieces), number, len(pieces)))
            self._next = number + 1


def pieces(rows: pl.DataFrame) -> list[pl.DataFrame]:
    """Rows in pieces that a broker takes as messages; a row that is larger than that is a piece of its own."""
    if rows.height <= 1 or rows.estimated_size() <= PIECE:
        return [rows]
    half = rows.height // 2
    return [*pieces(rows[:half]), *pieces(rows[half:])]


def packed(rows: pl.DataFrame) -> bytes:
    """Rows as bytes."""
    buffer = io.BytesIO()
    rows.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def unpacked(data: bytes) -> pl.DataFrame:
    """What `packed` made bytes of."""
    return pl.read_ipc_stream(io.BytesIO(data))
