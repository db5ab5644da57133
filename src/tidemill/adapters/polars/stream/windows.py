"""Tumbling, hopping, sliding and session windows on a stream: rows go in, windows come out when time has passed them.

What decides is the row's own stamp and the least stamp of the lanes that meet, so the cut of the input never shows.
A window [start, end) has closed when the low stamp reaches end + grace; one whose end belongs to it, when it is past.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl

from tidemill.adapters.polars import grouping
from tidemill.adapters.polars.calling import fold_lists
from tidemill.adapters.polars.grouping import END, ROW, SESSION, START, TIME
from tidemill.adapters.polars.moments import moment, whole
from tidemill.adapters.polars.stream.chunks import Chunks
from tidemill.adapters.polars.stream.marks import LANE, Progress, order, stamp, theirs
from tidemill.adapters.polars.stream.operator import NEVER, Memory, Operator, at_times, in_order
from tidemill.adapters.polars.stream.partial import Parts, divide
from tidemill.model.frame.operation import Windowed
from tidemill.model.frame.window import WINDOW_END, WINDOW_START, Hopping, Session, Sliding, Tumbling
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import Keeper


class Windows(Operator):
    """What all kinds have in common.

    Args:
        node: of the step.
        lanes: that meet here. `lane`: of the results.
        keeper: for what lasts.
        like: the input's columns.
    """

    def __init__(self, node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, like: pl.Schema) -> None:
        super().__init__(node, lanes)
        assert isinstance(node.step, Windowed)
        self.step = node.step
        self.by = list(node.step.by)
        self.grace = whole(node.step.grace)
        self.like = like
        self._lane = lane
        self.remember(self.lanes, keeper, f"{node.name}/lanes")
        self._memory = Memory(keeper, f"{node.name}/at")
        #: What has been closed: all that this low stamp had passed.
        self.closed: int = self._memory.value.get("closed", NEVER)

    def given(self, made: pl.DataFrame) -> pl.DataFrame:
        """Windows (key, START, END, aggregates) as they come out: times, order and lane."""
        names = grouping.folds(self.step)
        if names and made.height:
            made = next(fold_lists(iter([made]), names, self.step, self.node.name))
        time = self.like.get(self.step.window.on or "")
        ends = (moment(pl.col(START), time).alias(WINDOW_START), moment(pl.col(END), time).alias(WINDOW_END))
        marks: list[Any] = [pl.lit(self._lane, dtype=pl.Int32).alias(LANE)]
        if self.node.ordered:
            placed = [END, START, *self.by]
            marks += [pl.col(name).alias(order(place)) for place, name in enumerate(placed)]
        for one in self.node.stamps:
            if one.column in (WINDOW_START, WINDOW_END):
                end = pl.col(START if one.column == WINDOW_START else END)
                marks.append(end.alias(stamp(one.number)))
        results = [column for column in made.columns if column not in (*self.by, START, END, ROW)]
        return made.sort([END, START, *self.by]).select(*self.by, *ends, *results, *marks)

    def passed(self, low: int) -> Progress:
        """How far the results have come when the low stamp is `low`: a session is open for its gap after its end."""
        window = self.step.window
        ends = low - self.grace - (whole(window.gap) if isinstance(window, Session) else 0)
        found = {0: ends}
        for one in self.node.stamps:
            found[one.number] = ends - (self._longest() if one.column == WINDOW_START else 0)
        return {self._lane: found}

    def _longest(self) -> int:
        """How far a window's start may be before its end. Nobody goes by the starts of sessions."""
        match self.step.window:
            case Tumbling() | Hopping() as window:
                return grouping.length(window)
            case Sliding() as window:
                return whole(window.size)
        return 0

    def close(self, low: int) -> None:
        """Note how far windows have been given."""
        self.closed = self._memory.value["closed"] = max(low, self.closed)

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._memory.save()


class Partial(Windows):
    """Tumbling and hopping windows whose aggregates can be computed in parts: a row for each window and key."""

    def __init__(
        self, node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, like: pl.Schema, parts: Parts
    ) -> None:
        super().__init__(node, lanes, lane, keeper, like)
        assert isinstance(self.step.window, Tumbling | Hopping)
        self._window = self.step.window
        self._size = grouping.length(self._window)
        self._parts = parts
        self._chunks = Chunks(keeper, f"{node.name}/parts", self._fold)
        #: No window ends before this.
        self._least: int = self._earliest()

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Add rows to their windows; give those that have closed (or, if they are wanted at every change, changed)."""
        self.lanes.update(progress)
        touched = self._take(rows) if rows.height else None
        low = self.low()
        if self.step.emit == "current":
            made = self._current(touched)
            if low is not None and low > self.closed:
                self._drop(low)
        else:
            made = self._final(low)
        if low is None:
            return made, {}
        self.close(low)
        return made, self.passed(low)

    def _take(self, rows: pl.DataFrame) -> pl.DataFrame:
        timed = at_times(rows, self.step.window.on or "", TIME)
        wide = stamp(self.node.uses or 0)
        timed = self._in_time(timed, wide)
        if timed.height == 0:
            return timed
        put = grouping.cut(timed.lazy(), self._window)
        if isinstance(self._window, Hopping):
            put = put.filter(pl.col(START) + (self._size + self.grace) > pl.col(wide))
        made = put.group_by(*self.by, START).agg(*self._parts.parts).collect()
        self._chunks.add(made)
        if made.height:
            self._least = min(self._least, _least(made) + self._size)
        return made

    def _in_time(self, timed: pl.DataFrame, wide: str) -> pl.DataFrame:
        """Rows that at least one open window holds."""
        return self.too_late(timed, past(self._window, self.grace, wide))

    def _final(self, low: int | None) -> pl.DataFrame | None:
        if low is None or low - self.grace < self._least:
            return None
        kept = self._chunks.all()
        if kept is None:
            return None
        shut = pl.col(START) + (self._size + self.grace) <= low
        self._chunks.replace(kept.filter(~shut))
        self._least = self._earliest()
        return self._results(self._fold(kept.filter(shut)))

    def _current(self, touched: pl.DataFrame | None) -> pl.DataFrame | None:
        if touched is None or touched.height == 0:
            return None
        kept = self._chunks.all()
        assert kept is not None
        on = [*self.by, START]
        return self._results(self._fold(kept.join(touched.select(on).unique(), on=on, how="semi", nulls_equal=True)))

    def _drop(self, low: int) -> None:
        if low - self.grace < self._least:
            return
        kept = self._chunks.all()
        if kept is not None:
            self._chunks.replace(kept.filter(pl.col(START) + (self._size + self.grace) > low))
            self._least = self._earliest()

    def _results(self, folded: pl.DataFrame) -> pl.DataFrame:
        made = folded.select(*self.by, START, (pl.col(START) + self._size).alias(END), *self._parts.results)
        return self.given(made)

    def _fold(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.lazy().group_by(*self.by, START).agg(*self._parts.merged).collect()

    def open_windows(self) -> int:
        """One for each key."""
        kept = self._chunks.all()
        return 0 if kept is None else kept.select(START, *self.by).n_unique()

    def _earliest(self) -> int:
        kept = self._chunks.all()
        return 2**62 if kept is None or kept.height == 0 else _least(kept) + self._size

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._chunks.save()


class Kept(Windows):
    """Windows that need their rows: they are kept until every window that could hold them has closed."""

    def __init__(self, node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, like: pl.Schema) -> None:
        super().__init__(node, lanes, lane, keeper, like)
        self._chunks = Chunks(keeper, f"{node.name}/rows")

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Keep rows; give windows that have closed (or changed)."""
        self.lanes.update(progress)
        taken = self._take(rows) if rows.height else None
        low = self.low()
        made = None
        if self.step.emit == "current":
            if taken is not None and taken.height:
                made = self._changed(taken)
            if low is not None and low > self.closed:
                self._shut(low)
        elif low is not None and low > self.closed:
            made = self._shut(low)
        if low is None:
            return made, {}
        self.close(low)
        return made, self.passed(low)

    def _take(self, rows: pl.DataFrame) -> pl.DataFrame:
        timed = at_times(rows, self.step.window.on or "", TIME)
        kept = self.too_late(timed, self._late())
        self._chunks.add(kept)
        return kept

    def _late(self) -> pl.Expr:
        wide = pl.col(stamp(self.node.uses or 0))
        window = self.step.window
        if isinstance(window, Tumbling | Hopping):
            return past(window, self.grace, stamp(self.node.uses or 0))
        return pl.col(TIME) + self.grace < wide

    def _shut(self, low: int) -> pl.DataFrame | None:
        """What has closed since the last time; rows that no open window can hold are let go.

        None where results are given at every change: the last one was given already.
        """
        kept = self._chunks.all()
        if kept is None:
            return None
        final = self.step.emit == "final"
        match self.step.window:
            case Sliding() as window:
                done = self._slid(kept, low) if final else None
                gone = pl.col(TIME) + (self.grace + whole(window.size)) < low
            case Session() as window:
                return self._sessions(kept, window, low)
            case Tumbling() | Hopping() as window:
                done = self._cut(kept, window, low) if final else None
                every = whole(window.every)
                gone = pl.col(TIME) // every * every + (grouping.length(window) + self.grace) <= low
            case _:
                return None
        rest = kept.filter(~gone)
        if rest.height < kept.height:
            self._chunks.replace(rest)
        return done

    def _cut(self, kept: pl.DataFrame, window: Tumbling | Hopping, low: int) -> pl.DataFrame | None:
        shut = (pl.col(END) + self.grace <= low) & (pl.col(END) + self.grace > self.closed)
        made = self._windows(kept, window).filter(shut)
        return self.given(made.collect())

    def _windows(self, kept: pl.DataFrame, window: Tumbling | Hopping) -> pl.LazyFrame:
        rows, results = self._numbered(kept)
        size = grouping.length(window)
        put = grouping.cut(rows, window).filter(
            pl.col(START) + (size + self.grace) > pl.col(stamp(self.node.uses or 0))
        )
        return grouping.grouped(put, window, self.step.by, results)

    def _numbered(self, kept: pl.DataFrame) -> tuple[pl.LazyFrame, list[pl.Expr]]:
        """The rows in their order, numbered, and the aggregates over them."""
        ordered = in_order(kept)
        user = ordered.lazy().select(theirs(ordered.columns))
        rows = ordered.lazy().with_row_index(ROW)
        return rows, grouping.results_of(user, rows, self.step)

    def _slid(self, kept: pl.DataFrame, low: int) -> pl.DataFrame:
        window = self.step.window
        assert isinstance(window, Sliding)
        rows, results = self._numbered(kept.filter(pl.col(TIME) + self.grace < low))
        made = grouping.slid(rows, window, self.step.by, results)
        return self.given(made.filter(pl.col(END) + self.grace >= self.closed).collect())

    def _sessions(self, kept: pl.DataFrame, window: Session, low: int) -> pl.DataFrame | None:
        rows, _ = self._numbered(kept)
        found = grouping.in_sessions(rows, window, self.step.by).collect()
        end = pl.col(TIME).max().over(*self.by, SESSION)
        marked = found.with_columns((end + (whole(window.gap) + self.grace) < low).alias("__tm_shut"))
        if not marked.get_column("__tm_shut").any():
            return None
        drop = [ROW, SESSION, "__tm_shut"]
        self._chunks.replace(marked.filter(~pl.col("__tm_shut")).drop(drop))
        if self.step.emit == "current":
            return None
        rows, results = self._numbered(marked.filter("__tm_shut").drop(drop))
        return self.given(grouping.sessions(rows, window, self.step.by, results).collect())

    def _changed(self, taken: pl.DataFrame) -> pl.DataFrame | None:
        """The windows that hold new rows, as they are now."""
        kept = self._chunks.all()
        assert kept is not None
        window = self.step.window
        keyed = kept.join(taken.select(self.by).unique(), on=self.by, how="semi", nulls_equal=True) if self.by else kept
        if isinstance(window, Tumbling | Hopping):
            made = self._windows(keyed, window).collect()
            put = grouping.cut(taken.lazy(), window).select(*self.by, START).unique().collect()
            return self.given(made.join(put, on=[*self.by, START], how="semi", nulls_equal=True))
        rows, results = self._numbered(keyed)
        if isinstance(window, Session):
            made = grouping.sessions(rows, window, self.step.by, results).collect()
            reach = _touch(made, taken, self.by, START, 0)
        else:
            assert isinstance(window, Sliding)
            made = grouping.slid(rows, window, self.step.by, results).collect()
            reach = _touch(made, taken, self.by, END, whole(window.size) - 1)
        return self.given(reach)

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._chunks.save()


def past(window: Tumbling | Hopping, grace: int, wide: str) -> pl.Expr:
    """Whether the stamp `wide` has passed all windows that hold a row. One between windows is late for none."""
    every, size = whole(window.every), grouping.length(window)
    newest = pl.col(TIME) // every * every
    return (newest + size > pl.col(TIME)) & (newest + (size + grace) <= pl.col(wide))


def _least(rows: pl.DataFrame) -> int:
    """The least start; there is one."""
    return int(rows.get_column(START).to_physical().min())  # type: ignore[arg-type]  # numbers


def _touch(made: pl.DataFrame, taken: pl.DataFrame, by: list[str], begin: str, length: int) -> pl.DataFrame:
    """Windows that hold one of the rows: a row at t is in windows that end from t on, and begin at t or before."""
    numbered = made.with_row_index("__tm_n")
    keys = by or ["__tm_all"]
    left = numbered if by else numbered.with_columns(pl.lit(0).alias("__tm_all"))
    right = taken.select(*by, TIME) if by else taken.select(TIME, pl.lit(0).alias("__tm_all"))
    pairs = left.join(right, on=keys, how="inner", nulls_equal=True)
    if begin == START:
        inside = pl.col(TIME).is_between(pl.col(START), pl.col(END))
    else:
        inside = (pl.col(TIME) <= pl.col(END)) & (pl.col(TIME) >= pl.col(END) - length)
    hit = pairs.filter(inside).get_column("__tm_n").unique()
    return numbered.filter(pl.col("__tm_n").is_in(hit.implode())).drop("__tm_n")


def make_windows(node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, like: pl.Schema) -> Windows:
    """The operator for a step's windows."""
    step = node.step
    assert isinstance(step, Windowed)
    parts = divide(step, pl.DataFrame(schema=like)) if isinstance(step.window, Tumbling | Hopping) else None
    if parts is None:
        return Kept(node, lanes, lane, keeper, like)
    return Partial(node, lanes, lane, keeper, like, parts)
