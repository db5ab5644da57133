"""Steps that go on for ever: running groups, count windows, `reduce`. Results are given again when they change."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import polars as pl

from tidemill.adapters.polars import grouping
from tidemill.adapters.polars.building import build
from tidemill.adapters.polars.calling import fold_lists, start
from tidemill.adapters.polars.grouping import END, ROW, START
from tidemill.adapters.polars.remembering import key_of
from tidemill.adapters.polars.rows import rows_of
from tidemill.adapters.polars.stream.chunks import Chunks
from tidemill.adapters.polars.stream.keyed import Keyed
from tidemill.adapters.polars.stream.marks import LANE, Progress, order_of, theirs
from tidemill.adapters.polars.stream.operator import Failed, Gate, Operator
from tidemill.adapters.polars.stream.partial import Parts, divide
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.operation import GroupBy, Reduce, Windowed
from tidemill.model.frame.window import WINDOW_END, WINDOW_START, Count
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import Keeper

#: A group's position in its key's rows.
_PLACE = "__tm_place"
_BASE = "__tm_base"


class Groups(Operator):
    """`group_by` without a window: the groups that have changed, as they are now."""

    def __init__(self, node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, parts: Parts) -> None:
        super().__init__(node, lanes)
        assert isinstance(node.step, GroupBy)
        self._keys = [key for key in node.step.keys if isinstance(key, str)]
        self._lane = lane
        self._parts = parts
        self._chunks = Chunks(keeper, f"{node.name}/parts", self._fold)

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Add rows to their groups."""
        if rows.height == 0:
            return None, {}
        made = rows.lazy().group_by(*self._keys).agg(*self._parts.parts).collect()
        self._chunks.add(made)
        kept = self._chunks.all()
        assert kept is not None
        changed = kept.join(made.select(self._keys), on=self._keys, how="semi", nulls_equal=True)
        lane = pl.lit(self._lane, dtype=pl.Int32).alias(LANE)
        return self._fold(changed).sort(self._keys).select(*self._keys, *self._parts.results, lane), {}

    def _fold(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.lazy().group_by(*self._keys).agg(*self._parts.merged).collect()

    def save(self) -> None:
        """Put what has changed into the keeper."""
        self._chunks.save()


class InOrder(Operator):
    """A step that takes rows in their order; behind a gate where rows of several lanes meet."""

    def __init__(self, node: Node, lanes: Iterable[int], keeper: Keeper) -> None:
        super().__init__(node, lanes)
        self.remember(self.lanes, keeper, f"{node.name}/lanes")
        self._held = Chunks(keeper, f"{node.name}/gate") if node.gated else None
        self._gate = Gate(self.lanes, self._held.all()) if self._held is not None else None

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Through the gate, then `take`."""
        self.lanes.update(progress)
        if self._gate is not None:
            rows, progress = self._gate.push(rows)
        return (self.take(rows) if rows.height else None), self.passed(progress)

    @abstractmethod
    def take(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Take rows in their order."""

    def passed(self, progress: Progress) -> Progress:
        """How far results have come: they have no times of their own."""
        return {}

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        if self._held is not None and self._gate is not None and self._gate.held is not None:
            if self._gate.held.height or self._held.height:
                self._held.replace(self._gate.held)
            self._held.save()


class Counted(InOrder):
    """Count windows: every so many rows of a key."""

    def __init__(self, node: Node, lanes: Iterable[int], lane: int, keeper: Keeper) -> None:
        super().__init__(node, lanes, keeper)
        assert isinstance(node.step, Windowed)
        assert isinstance(node.step.window, Count)
        self._step = node.step
        self._size = node.step.window.size
        self._by = list(node.step.by)
        self._lane = lane
        self._rows = Chunks(keeper, f"{node.name}/rows")
        #: Of each key: how many of its rows were in windows that are full.
        self._bases = Chunks(keeper, f"{node.name}/bases", self._newest)

    def take(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Number the rows of each key; give the windows that are full (or changed)."""
        open_ = self._rows.all()
        if open_ is not None:
            keyed = (
                open_.join(rows.select(self._by).unique(), on=self._by, how="semi", nulls_equal=True)
                if self._by
                else open_
            )
            rows = pl.concat([keyed, rows], how="diagonal_relaxed")
        placed = self._placed(rows)
        counts = pl.len().over(*self._by, START) if self._by else pl.len().over(START)
        marked = placed.with_columns(counts.alias("__tm_count"))
        full = marked.filter(pl.col("__tm_count") == self._size).drop("__tm_count")
        rest = marked.filter(pl.col("__tm_count") < self._size).drop("__tm_count", START, _PLACE)
        self._keep(open_, rows, rest, full)
        shown = marked.drop("__tm_count") if self._step.emit == "current" else full
        return self._given(shown) if shown.height else None

    def _of_keys(self, open_: pl.DataFrame, rows: pl.DataFrame, how: Literal["semi", "anti"]) -> pl.DataFrame:
        """The open rows of the keys that `rows` have, or of the others."""
        if not self._by:
            return open_
        return open_.join(rows.select(self._by).unique(), on=self._by, how=how, nulls_equal=True)

    def _placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        bases = self._bases.all()
        if bases is None:
            based = rows.with_columns(pl.lit(0, dtype=pl.Int64).alias(_BASE))
        elif self._by:
            based = rows.join(self._newest(bases), on=self._by, how="left", nulls_equal=True, maintain_order="left")
        else:
            based = rows.with_columns(pl.lit(self._newest(bases).get_column(_BASE)[0]).alias(_BASE))
        index = pl.int_range(pl.len(), dtype=pl.Int64)
        place = pl.col(_BASE).fill_null(0) + (index.over(*self._by) if self._by else index)
        return (
            based.with_columns(place.alias(_PLACE))
            .drop(_BASE)
            .with_columns((pl.col(_PLACE) // self._size * self._size).alias(START))
        )

    def _keep(self, open_: pl.DataFrame | None, rows: pl.DataFrame, rest: pl.DataFrame, full: pl.DataFrame) -> None:
        others = None
        if open_ is not None and self._by:
            others = self._of_keys(open_, rows, "anti")
        kept = rest if others is None else pl.concat([others, rest], how="diagonal_relaxed")
        self._rows.replace(kept)
        if full.height:
            ends = (
                full.lazy().group_by(*self._by).agg((pl.col(_PLACE).max() + 1).alias(_BASE))
                if self._by
                else (full.lazy().select((pl.col(_PLACE).max() + 1).alias(_BASE)))
            )
            self._bases.add(ends.collect())

    def _newest(self, bases: pl.DataFrame) -> pl.DataFrame:
        if not self._by:
            return bases.select(pl.col(_BASE).max())
        return bases.lazy().group_by(*self._by).agg(pl.col(_BASE).max()).collect()

    def _given(self, rows: pl.DataFrame) -> pl.DataFrame:
        mine = order_of(rows.columns)
        user = rows.lazy().select(theirs(rows.columns))
        numbered = rows.lazy().with_row_index(ROW)
        results = grouping.results_of(user, numbered, self._step)
        last = [pl.col(name).sort_by(ROW).last() for name in mine]
        made = (
            numbered.group_by(*self._by, START)
            .agg(*results, *last, pl.len().cast(pl.Int64).alias(END), pl.col(ROW).max().alias(ROW))
            .sort(ROW)
            .collect()
        )
        names = grouping.folds(self._step)
        if names:
            made = next(fold_lists(iter([made]), names, self._step, self.node.name))
        plain = [c for c in made.columns if c not in (*self._by, START, END, ROW, *mine)]
        ends = (pl.col(START).alias(WINDOW_START), (pl.col(START) + pl.col(END)).alias(WINDOW_END))
        return made.select(*self._by, *ends, *plain, *mine, pl.lit(self._lane, dtype=pl.Int32).alias(LANE))

    def passed(self, progress: Progress) -> Progress:
        """Results stand at the places of the rows that fill them."""
        low = self.lanes.low(0)
        return {} if low is None else {self._lane: {0: low}}

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._rows.save()
        self._bases.save()


class Reduced(InOrder):
    """`reduce`, and groups that a user's function folds: the states that have changed, as they are now."""

    def __init__(self, node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, failed: Failed) -> None:
        super().__init__(node, lanes, keeper)
        assert isinstance(node.step, Reduce)
        self._step = node.step
        self._lane = lane
        self._states = Keyed(keeper, f"{node.name}/states")
        self._failed = failed
        self._found = pl.Schema()

    def take(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """Every row into the state of its key."""
        step, names = self._step, theirs(rows.columns)
        changed: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        for place, row in enumerate(rows_of(rows.select(names))):
            key = key_of(row[name] for name in step.by)
            state = self._states.get(key)
            try:
                # A copy: a function that changes its state and then fails must not have changed it.
                after = step.function(copy.deepcopy(state) if state is not None else start(step), row)
                if not isinstance(after, Mapping):
                    raise TypeError(f"reduce: the function returned {type(after).__name__}, not a state")
            except Exception as error:  # whatever a user's function raises is about this row
                self._failed(self.node, rows[place], f"{type(error).__name__}: {error} in {step}")
                continue
            self._states.put(key, after)
            changed[key] = after
        if not changed:
            return None
        made = [{**dict(zip(step.by, key, strict=True)), **state} for key, state in changed.items()]
        built = build(made, None, pl.Schema({**rows.select(step.by).schema, **self._found}), step)
        self._found = built.schema
        return built.with_columns(pl.lit(self._lane, dtype=pl.Int32).alias(LANE))

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._states.save()


def make_groups(node: Node, lanes: Iterable[int], lane: int, keeper: Keeper, like: pl.Schema) -> Groups:
    """The operator for running groups."""
    assert isinstance(node.step, GroupBy)
    parts = divide(node.step, pl.DataFrame(schema=like))
    if parts is None:
        shown = ", ".join(str(value) for _, value in node.step.aggregates)
        raise DefinitionError(
            f"group_by: on a stream these cannot be computed as rows come: {shown}.",
            where=None if node.step.at is None else str(node.step.at),
            hint='take a window: f.tumbling_window("1h", on=time, by=key), or f.reduce(key, initial, function)',
        )
    return Groups(node, lanes, lane, keeper, parts)
