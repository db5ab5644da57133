"""What all steps of a task have in common: rows and progress come in, rows and progress go out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import polars as pl

from tidemill.adapters.polars.moments import micros
from tidemill.adapters.polars.stream.marks import Lanes, Progress, held_back, order_of, stamp, theirs
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import Keeper

#: A row that could not be taken: the step that could not, the row, and why.
Failed = Callable[[Node, pl.DataFrame, str], None]

#: A moment before all others.
NEVER = -(2**62)


class Operator(ABC):
    """One step of one task. `late` collects rows that came too late for it."""

    def __init__(self, node: Node, lanes: Iterable[int]) -> None:
        self.node = node
        self.lanes = Lanes(lanes)
        self.late: list[pl.DataFrame] = []
        #: Whether `settle` has something to do.
        self.pending = False
        self._memories: list[Memory] = []

    @abstractmethod
    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Take rows of the parent number `port`, and how far their lanes are then; give what follows from it."""

    def settle(self) -> tuple[pl.DataFrame | None, Progress]:
        """Give what follows from all that was pushed; a step that looks at two sides looks once, after both."""
        self.pending = False
        return None, {}

    def save(self) -> None:
        """Put what has changed into the keeper."""
        for memory in self._memories:
            memory.save()

    def remember(self, lanes: Lanes, keeper: Keeper, name: str) -> None:
        """Have lanes go on from where they were when the task was saved: a silent one does not say it again."""
        memory = Memory(keeper, name)
        lanes.at = memory.value
        self._memories.append(memory)

    def low(self) -> int | None:
        """How far the event time has come that the step goes by."""
        return None if self.node.uses is None else self.lanes.low(self.node.uses)

    def open_windows(self) -> int | None:
        """How many windows are open; None: it has none, or keeps rows instead."""
        return None

    def too_late(self, rows: pl.DataFrame, late: pl.Expr) -> pl.DataFrame:
        """The rows that are not late; those that are go aside."""
        marked = rows.select(late.fill_null(False)).to_series()
        if not marked.any():
            return rows
        aside = rows.filter(marked)
        self.late.append(aside.select(theirs(aside.columns)))
        return rows.filter(~marked)


def with_time(rows: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """Rows with the times of a column in microseconds as `name`."""
    return rows.with_columns(micros(rows.lazy(), column).alias(name))


def at_times(rows: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    """As `with_time`, without the rows that have no time."""
    timed = with_time(rows, column, name)
    return timed.filter(pl.col(name).is_not_null()) if timed.get_column(name).null_count() else timed


def in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows sorted by their order, where they carry one; rows that came of one row stay as they are."""
    columns = order_of(rows.columns)
    return rows if not columns or _is_ordered(rows, columns) else rows.sort(columns, maintain_order=True)


def _is_ordered(rows: pl.DataFrame, columns: Sequence[str]) -> bool:
    """Whether rows are sorted by whole numbers: those of one lane mostly are, and to sort them takes ten times as long.

    False where it is not certain, as with nulls.
    """
    if not all(rows.schema[name].is_integer() for name in columns):
        return False
    follows: pl.Expr = pl.lit(True)
    for name in reversed(columns):
        before, own = pl.col(name).shift(1), pl.col(name)
        follows = (before < own) | ((before == own) & follows)
    return rows.height < 2 or bool(rows.select(follows.slice(1).all(ignore_nulls=False)).item())


class Gate:
    """Holds rows of several lanes back until no earlier one can come, and lets them go in their order.

    Args:
        lanes: those that meet here.
        rows: what was held when the task was saved.
    """

    def __init__(self, lanes: Lanes, rows: pl.DataFrame | None) -> None:
        self._lanes = lanes
        self.held = rows

    def push(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, Progress]:
        """Rows whose turn has come, and how far all lanes have come with them: one may let another's rows go."""
        parts = [part for part in (self.held, rows) if part is not None and part.height]
        if not parts:
            return rows, self._lanes.at
        waiting = pl.concat(parts, how="diagonal_relaxed")
        low = self._lanes.low(0)
        ready = pl.lit(False) if low is None else pl.col(stamp(0)) < low
        self.held = waiting.filter(~ready)
        return in_order(waiting.filter(ready)), held_back(self._lanes.at, self.held)


class Memory:
    """Small things that a step remembers as one value: how far lanes had come, counters."""

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._keeper = keeper
        self._key = name.encode()
        found = keeper.get([self._key])[0]
        self._saved = found
        self.value: dict[Any, Any] = {} if found is None else msgspec.msgpack.decode(found, strict=False)

    def save(self) -> None:
        """Put it into the keeper, if it has changed."""
        data = msgspec.msgpack.encode(self.value)
        if data != self._saved:
            self._saved = data
            self._keeper.put(self._key, data)


class Ways:
    """Lanes that come to a place by several ways, through tasks or through branches that a concat joins again.

    A lane is as far as it is on each of its ways: on the others rows may still wait.
    """

    def __init__(self, ways: Iterable[Iterable[int]], keeper: Keeper, name: str) -> None:
        self._memory = Memory(keeper, name)
        self._ways = [Lanes(lanes) for lanes in ways]
        for number, way in enumerate(self._ways):
            way.at = self._memory.value.setdefault(number, {})

    def update(self, way: int, progress: Progress) -> Progress:
        """How far the lanes have come on all ways, now that they have come so far on one."""
        self._ways[way].update(progress)
        passed: Progress = {}
        for lane in progress:
            found = [one.at.get(lane, {}) for one in self._ways if lane in one.all]
            common = set(found[0]).intersection(*found) if found else set()
            passed[lane] = {number: min(moments[number] for moments in found) for number in common}
        return passed

    def save(self) -> None:
        """Put what has changed into the keeper."""
        self._memory.save()
