"""Columns of our own that travel with rows: lane, offset, stamps, order. And how far lanes have come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import polars as pl

OURS = "__tm_"
#: Where a row came from: the lane's number, and the message's offset while it is still that message's row.
LANE = "__tm_lane"
OFFSET = "__tm_at"
_STAMP = "__tm_w"
_ORDER = "__tm_o"

#: The stamp that orders rows of several lanes among each other.
ORDERING = 0

#: How far lanes have come: lane -> stamp's number -> microseconds.
Progress: TypeAlias = "dict[int, dict[int, int]]"


def stamp(number: int) -> str:
    """The column of a stamp."""
    return order(0) if number == ORDERING else f"{_STAMP}{number}"


def order(place: int) -> str:
    """One of the columns that rows are ordered by."""
    return f"{_ORDER}{place}"


def ours(columns: Iterable[str]) -> list[str]:
    """Those columns that are not the user's."""
    return [name for name in columns if name.startswith(OURS)]


def theirs(columns: Iterable[str]) -> list[str]:
    """Those columns that are the user's."""
    return [name for name in columns if not name.startswith(OURS)]


def order_of(columns: Sequence[str]) -> list[str]:
    """The columns that rows are ordered by, first one first."""
    return sorted((name for name in columns if name.startswith(_ORDER)), key=lambda name: int(name[len(_ORDER) :]))


def side_order(inputs: Sequence[Iterable[str]], port: int) -> dict[str, str]:
    """New names of the order columns of an input that is put beside others.

    The stamp stays first, the input's number comes second. What else orders an input's rows has columns of its own:
    it may be of other types than another's, and is never compared with it.
    """
    lengths = [len(order_of(list(columns))) for columns in inputs]
    base = 2 + sum(length - 1 for length in lengths[:port])
    return {order(0): order(0), **{order(place): order(base + place - 1) for place in range(1, lengths[port])}}


def stamps_of(columns: Iterable[str]) -> dict[int, str]:
    """Stamps' columns by number."""
    found = {int(name[len(_STAMP) :]): name for name in columns if name.startswith(_STAMP)}
    first = order(0)
    return {ORDERING: first, **found} if first in columns else found


class Lanes:
    """How far the lanes that meet at a place have come."""

    def __init__(self, lanes: Iterable[int]) -> None:
        self.all = frozenset(lanes)
        self.at: Progress = {}

    def update(self, progress: Progress) -> None:
        """Go on; no lane ever goes back."""
        for lane, stamps in progress.items():
            known = self.at.setdefault(lane, {})
            for number, moment in stamps.items():
                if moment > known.get(number, moment - 1):
                    known[number] = moment

    def low(self, number: int) -> int | None:
        """The least of all lanes; None while one of them has said nothing."""
        least: int | None = None
        for lane in self.all:
            moment = self.at.get(lane, {}).get(number)
            if moment is None:
                return None
            least = moment if least is None or moment < least else least
        return least


def held_back(progress: Progress, held: pl.DataFrame | None) -> Progress:
    """`progress`, but no further than rows that are still held: what comes of them must not find doors shut."""
    if held is None or held.height == 0:
        return progress
    columns = stamps_of(held.columns)
    if not columns:
        return progress
    least = held.group_by(LANE).agg(pl.col(name).min() for name in columns.values())
    bounds: Mapping[int, dict[int, int]] = {
        row[LANE]: {number: row[name] for number, name in columns.items() if row[name] is not None}
        for row in least.iter_rows(named=True)
    }
    return {
        lane: {number: min(moment, bounds.get(lane, {}).get(number, moment)) for number, moment in stamps.items()}
        for lane, stamps in progress.items()
    }
