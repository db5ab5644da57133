"""Joins of two streams, and `unique`: rows wait until nothing can come any more that would change what is said of them.

A row waits in its lane: it is given when it and all before it are decided, so lanes keep their order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import replace

import polars as pl

from tidemill.adapters.polars import joining
from tidemill.adapters.polars.grouping import TIME
from tidemill.adapters.polars.moments import whole
from tidemill.adapters.polars.stream.chunks import Chunks
from tidemill.adapters.polars.stream.groups import InOrder
from tidemill.adapters.polars.stream.marks import (
    LANE,
    Lanes,
    Progress,
    held_back,
    order,
    order_of,
    ours,
    stamp,
    theirs,
)
from tidemill.adapters.polars.stream.operator import NEVER, Operator, in_order, with_time
from tidemill.model.frame.operation import JoinAsof, JoinInterval, Unique
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import Keeper, LookUp

_PLACE = "__tm_place"
_SEEN = "__tm_seen"
#: A moment after all others: a table says nothing new.
_ALWAYS = 2**62


class Waiting:
    """Rows that wait in their lanes."""

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._chunks = Chunks(keeper, name)
        self.rows = self._chunks.all()
        self._changed = False

    def add(self, rows: pl.DataFrame) -> None:
        """More rows, behind those that wait."""
        if rows.height:
            self.rows = rows if self.rows is None else pl.concat([self.rows, rows], how="diagonal_relaxed")
            self._changed = True

    def until(self, moment: int) -> pl.DataFrame | None:
        """The first rows of each lane, as far as none is from `moment` on; they wait no more.

        By their order, not as they came: a lane that comes by several ways is not in order.
        """
        if self.rows is None or self.rows.height == 0:
            return None
        self.rows = in_order(self.rows)
        top = pl.col(TIME).cum_max().forward_fill().over(LANE).fill_null(NEVER)
        decided = self.rows.select(top < moment).to_series()
        if not decided.any():
            return None
        ready = self.rows if decided.all() else self.rows.filter(decided)
        self.rows = self.rows.clear() if decided.all() else self.rows.filter(~decided)
        self._changed = True
        return ready

    def take(self, ready: pl.Expr) -> pl.DataFrame | None:
        """Rows for which it is true; they wait no more."""
        if self.rows is None or self.rows.height == 0:
            return None
        taken = self.rows.filter(ready)
        if taken.height == 0:
            return None
        self.rows = self.rows.filter(~ready)
        self._changed = True
        return taken

    def least(self) -> int:
        """The least time that waits."""
        found = None if self.rows is None else self.rows.get_column(TIME).min()
        return _ALWAYS if found is None else found  # type: ignore[return-value]

    def save(self) -> None:
        """Put what has changed into the keeper."""
        if self._changed and self.rows is not None:
            self._chunks.replace(self.rows)
            self._changed = False
        self._chunks.save()


class Meeting(Operator):
    """What the two joins over time have in common: left rows wait, right rows are remembered."""

    def __init__(
        self, node: Node, left: Iterable[int], right: Iterable[int] | None, keeper: Keeper, table: LookUp | None
    ) -> None:
        super().__init__(node, left)
        assert isinstance(node.step, JoinAsof | JoinInterval)
        self.step: JoinAsof | JoinInterval = node.step
        self.by = list(node.step.by)
        self.waiting = Waiting(keeper, f"{node.name}/left")
        self.right = Chunks(keeper, f"{node.name}/right")
        self._right_lanes = None if right is None else Lanes(right)
        self.remember(self.lanes, keeper, f"{node.name}/lanes")
        if self._right_lanes is not None:
            self.remember(self._right_lanes, keeper, f"{node.name}/right-lanes")
        self._table = table
        self._trimmed = 0

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Take rows of one side; what is decided by them is given when all sides have told."""
        if port == 0:
            self.lanes.update(progress)
        else:
            assert self._right_lanes is not None
            self._right_lanes.update(progress)
        if rows.height:
            timed = with_time(rows, self.step.on, TIME)
            timed = self.too_late(timed, pl.col(TIME) < pl.col(stamp(self.node.uses or 0)))
            self._take(port, timed)
        self.pending = True
        return None, {}

    def settle(self) -> tuple[pl.DataFrame | None, Progress]:
        """Give the left rows that are decided."""
        self.pending = False
        ready = self.waiting.until(self.bound())
        made = None if ready is None else self.meet(ready)
        made = self.alone(made)
        self._forget()
        return made, held_back(self.lanes.at, self.waiting.rows)

    def _take(self, port: int, timed: pl.DataFrame) -> None:
        if port == 0:
            self.waiting.add(timed)
            return
        outer = isinstance(self.step, JoinInterval) and self.step.how == "outer"
        if not outer and timed.get_column(TIME).null_count():
            timed = timed.filter(pl.col(TIME).is_not_null())
        self.right.add(timed)

    def right_low(self) -> int:
        """How far the right side has come."""
        if self._right_lanes is None:
            return _ALWAYS
        low = self._right_lanes.low(self.node.uses or 0)
        return NEVER if low is None else low

    def left_low(self) -> int:
        """Before which no left row waits or comes."""
        low = self.low()
        return NEVER if low is None else min(low, self.waiting.least())

    def rights(self, like: pl.DataFrame) -> pl.DataFrame:
        """The right rows in their order."""
        if self._table is not None:
            return self._table()
        found = self.right.all()
        return like if found is None else in_order(found)

    @abstractmethod
    def bound(self) -> int:
        """Left rows before this are decided."""

    @abstractmethod
    def meet(self, ready: pl.DataFrame) -> pl.DataFrame:
        """Join left rows that are decided."""

    def alone(self, made: pl.DataFrame | None) -> pl.DataFrame | None:
        """What is joined, and right rows that have met none, where they are wanted."""
        return made

    @abstractmethod
    def needed(self, kept: pl.DataFrame, low: int) -> pl.Expr:
        """Which right rows left rows from `low` on may still meet."""

    def _forget(self) -> None:
        """Let right rows go that no left row can meet; looked at when they have doubled."""
        if self.right.height < 2 * self._trimmed + 1000:
            return
        kept = self.right.all()
        if kept is not None:
            rest = kept.filter(self.needed(kept, self.left_low()))
            if rest.height < kept.height:
                self.right.replace(rest)
            self._trimmed = rest.height

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self.waiting.save()
        self.right.save()


class AsOf(Meeting):
    """Each left row with the latest right row that is not later."""

    step: JoinAsof

    def bound(self) -> int:
        """A right row at the very time of a left one may come until the right side is past it."""
        return self.right_low()

    def meet(self, ready: pl.DataFrame) -> pl.DataFrame:
        """Join."""
        right = self.rights(self._nothing())
        other = right.select(theirs(right.columns)).lazy()
        made = joining.join_asof(ready.drop(TIME).lazy(), other, self.step).collect()
        return made.select(*theirs(made.columns), *ours(made.columns))

    def needed(self, kept: pl.DataFrame, low: int) -> pl.Expr:
        """Those from `low` on, and of each key the last one before."""
        before = pl.when(pl.col(TIME) <= low).then(pl.col(TIME))
        last = before.max().over(*self.by) if self.by else before.max()
        return (pl.col(TIME) > low) | (pl.col(TIME) == last)

    def _nothing(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self.right_schema)

    right_schema: pl.Schema


class Interval(Meeting):
    """Pairs of rows whose times are near."""

    step: JoinInterval
    right_schema: pl.Schema

    def bound(self) -> int:
        """All right rows that a left row can meet are there once the right side is past its reach."""
        low = self.right_low()
        return low if low in (NEVER, _ALWAYS) else low - whole(self.step.after)

    def meet(self, ready: pl.DataFrame) -> pl.DataFrame:
        """Join."""
        found = self.rights(pl.DataFrame(schema=self.right_schema))
        right = found.select(theirs(found.columns)).with_row_index(_PLACE)
        step = replace(self.step, how="inner" if self.step.how == "inner" else "left")
        made = joining.join_interval(ready.drop(TIME).lazy(), right.lazy(), step).collect()
        if self.step.how == "outer":
            self._note(found, made.get_column(_PLACE).drop_nulls().unique())
        place = len(order_of(made.columns))
        if place:
            made = made.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(order(place)))
        return made.drop(_PLACE).select(*theirs(made.drop(_PLACE).columns), *ours(made.drop(_PLACE).columns))

    def _note(self, right: pl.DataFrame, met: pl.Series) -> None:
        if met.len() == 0 or self._table is not None:
            return
        seen = pl.int_range(pl.len()).is_in(met.implode())
        already = pl.col(_SEEN) if _SEEN in right.columns else pl.lit(False)
        self.right.replace(right.with_columns((already | seen).alias(_SEEN)))

    def alone(self, made: pl.DataFrame | None) -> pl.DataFrame | None:
        """With right rows that no left row met, once none can."""
        kept = self.right.all()
        if self.step.how != "outer" or kept is None:
            return made
        if _SEEN not in kept.columns:
            kept = kept.with_columns(pl.lit(False).alias(_SEEN))
        shut = (pl.col(TIME) + whole(self.step.before) < self.left_low()).fill_null(True)
        over = kept.filter(shut)
        if over.height == 0:
            return made
        self.right.replace(kept.filter(~shut))
        lonely = in_order(over.filter(~pl.col(_SEEN).fill_null(False)))
        if lonely.height == 0:
            return made
        lonely = lonely.select(theirs(lonely.columns))
        nothing = pl.DataFrame(schema=self.left_schema)
        joined = joining.join_interval(nothing.lazy(), lonely.lazy(), self.step).collect()
        joined = joined.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in self.marks.items())
        joined = joined.with_columns(pl.lit(-1, dtype=pl.Int32).alias(LANE))
        return joined if made is None else pl.concat([made, joined], how="diagonal_relaxed")

    left_schema: pl.Schema
    #: Our own columns of the result.
    marks: pl.Schema

    def needed(self, kept: pl.DataFrame, low: int) -> pl.Expr:
        """Those whose reach has not ended; of outer joins they go when it is said that they stay alone."""
        if self.step.how == "outer":
            return pl.lit(True)
        return pl.col(TIME) + whole(self.step.before) >= low


class FirstOfKey(InOrder):
    """`unique` for ever: the first row of each key, or its last one so far."""

    def __init__(self, node: Node, lanes: Iterable[int], keeper: Keeper) -> None:
        super().__init__(node, lanes, keeper)
        assert isinstance(node.step, Unique)
        self._keys = list(node.step.keys)
        self._keep = node.step.keep
        self._seen = Chunks(keeper, f"{node.name}/seen")

    def take(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Rows of keys that were never seen; or the last one of each key here."""
        if self._keep == "last":
            return rows.unique(self._keys, keep="last", maintain_order=True)
        first = rows.unique(self._keys, keep="first", maintain_order=True)
        seen = self._seen.all()
        if seen is not None:
            first = first.join(seen, on=self._keys, how="anti", nulls_equal=True, maintain_order="left")
        self._seen.add(first.select(self._keys))
        return first

    def passed(self, progress: Progress) -> Progress:
        """Rows that pass are at their old places."""
        return progress

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._seen.save()


class Events(Operator):
    """`unique` within a time: rows of a key that follow each other closely are one event."""

    def __init__(self, node: Node, lanes: Iterable[int], keeper: Keeper) -> None:
        super().__init__(node, lanes)
        assert isinstance(node.step, Unique)
        assert node.step.within is not None
        self._step = node.step
        self._keys = list(node.step.keys)
        self._within = whole(node.step.within)
        self.remember(self.lanes, keeper, f"{node.name}/lanes")
        self._waiting = Waiting(keeper, f"{node.name}/waiting")
        #: Times of rows that were given or left out, as long as others may follow them closely.
        self._recent = Chunks(keeper, f"{node.name}/recent")

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Take rows; give those that are decided and stay."""
        self.lanes.update(progress)
        if rows.height:
            timed = with_time(rows, self._step.on or "", TIME)
            self._waiting.add(self.too_late(timed, pl.col(TIME) < pl.col(stamp(self.node.uses or 0))))
        low = self.low()
        made = None if low is None else self._decide(low)
        return made, held_back(self.lanes.at, self._waiting.rows)

    def _decide(self, low: int) -> pl.DataFrame | None:
        first = self._step.keep == "first"
        everything = self._all()
        ready = self._waiting.until(low if first else low - self._within)
        if ready is None or everything is None:
            return None
        time = pl.col(TIME)
        marks = [TIME, *order_of(everything.columns)]
        apart = time - time.shift(1).over(self._keys) if first else time.shift(-1).over(self._keys) - time
        judged = (
            everything.filter(time.is_not_null())
            .sort(marks, maintain_order=True)
            .with_columns((apart.is_null() | (apart > self._within)).alias(_SEEN))
        )
        staying = judged.filter(_SEEN).select(*self._keys, *marks)
        self._remember(ready, low)
        kept = ready.join(staying, on=[*self._keys, *marks], how="semi", nulls_equal=True, maintain_order="left")
        timeless = ready.filter(time.is_null())
        if timeless.height:
            kept = in_order(pl.concat([kept, timeless]))
        return kept.drop(TIME)

    def _all(self) -> pl.DataFrame | None:
        """Rows that wait, and what is remembered of earlier ones."""
        waiting = self._waiting.rows
        if waiting is None or waiting.height == 0:
            return None
        marks = [*self._keys, TIME, *order_of(waiting.columns)]
        recent = self._recent.all()
        here = waiting.select(marks)
        return here if recent is None else pl.concat([recent, here], how="diagonal_relaxed")

    def _remember(self, ready: pl.DataFrame, low: int) -> None:
        if self._step.keep == "last":
            return
        marks = [*self._keys, TIME, *order_of(ready.columns)]
        self._recent.add(ready.select(marks).filter(pl.col(TIME).is_not_null()))
        kept = self._recent.all()
        if kept is not None and self._recent.height > 1000:
            self._recent.replace(kept.filter(pl.col(TIME) >= low - self._within))

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._waiting.save()
        self._recent.save()
