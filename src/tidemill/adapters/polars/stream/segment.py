"""Runs of stateless steps as one Polars query, users' functions as loops over rows. A bad row harms no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import polars as pl

from tidemill.adapters.polars.building import build, build_declared
from tidemill.adapters.polars.calling import declared
from tidemill.adapters.polars.errors import defining, running
from tidemill.adapters.polars.joining import check_lookup, join
from tidemill.adapters.polars.meeting import align, meet
from tidemill.adapters.polars.rows import rows_of
from tidemill.adapters.polars.stateless import Stateless, named, stateless
from tidemill.adapters.polars.stream.chained import chained
from tidemill.adapters.polars.stream.marks import Progress, order, order_of, ours, side_order, theirs
from tidemill.adapters.polars.stream.operator import Failed, Operator, Ways
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.model.frame.operation import (
    Concat,
    Explode,
    FlatMap,
    Join,
    JoinLookup,
    MapBatches,
    MapRows,
    Operation,
    Select,
)
from tidemill.model.place import told
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import Keeper, LookUp


class Segment(Operator):
    """Stateless steps one after the other.

    Args:
        nodes: of the steps; the first one's parent is the input.
        lanes: of the input.
        failed: is told of rows that could not be taken.
    """

    def __init__(self, nodes: Sequence[Node], lanes: Iterable[int], failed: Failed) -> None:
        super().__init__(nodes[-1], lanes)
        self._nodes = nodes
        self._steps = [node.step for node in nodes if node.step is not None]
        self._failed = failed

    def push(self, port: int, rows: pl.DataFrame, progress: Any) -> tuple[pl.DataFrame | None, Any]:
        """Through all steps."""
        return (guarded(self._run, rows, self._tell) if rows.height else None), progress

    def _run(self, rows: pl.DataFrame) -> pl.DataFrame:
        return self._through(self._steps, rows)

    def _through(self, steps: Sequence[Operation], rows: pl.DataFrame) -> pl.DataFrame:
        query = rows.lazy()
        with running(steps):
            for step in steps:
                query = _on(query, step)
            return query.collect()

    def _tell(self, row: pl.DataFrame, error: str) -> None:
        """Of the step that cannot take the row: Polars runs them as one and does not say which."""
        for count in range(1, len(self._steps)):
            try:
                self._through(self._steps[:count], row)
            except TidemillError:
                self._failed(self._nodes[count - 1], row, error)
                return
        self._failed(self._nodes[-1], row, error)


def _on(query: pl.LazyFrame, step: Operation) -> pl.LazyFrame:
    """One step; columns of our own stay."""
    if isinstance(step, Select):
        mine = ours(query.collect_schema().names())
        return query.select(*step.columns, *named(step.named), *mine)
    if isinstance(step, Explode):
        return _numbered(stateless(query, step))
    return stateless(query, step) if isinstance(step, Stateless) else query


def _numbered(query: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of which one has become several: their place among each other joins the order."""
    place = len(order_of(query.collect_schema().names()))
    return query if place == 0 else query.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(order(place)))


def guarded(run: Any, rows: pl.DataFrame, failed: Callable[[pl.DataFrame, str], None]) -> pl.DataFrame:
    """`run(rows)`. If that fails, the rows that make it fail are found by halving, and are left out."""
    try:
        made: pl.DataFrame = run(rows)
        return made
    except DefinitionError:
        raise
    except TidemillError as error:
        if rows.height <= 1:
            if rows.height:
                failed(rows, told(error))
            return run(rows.clear())  # type: ignore[no-any-return]  # what `run` gives
    half = rows.height // 2
    parts = [guarded(run, part, failed) for part in (rows[:half], rows[half:])]
    return pl.concat(parts, how="vertical_relaxed")


#: Rows that go through users' functions before those after them are made: a dict takes 0.5 KB of the cache.
_PIECE = 500


class Mapped(Operator):
    """Users' functions on rows, one after the other, as one loop: `map_rows`, again and again."""

    def __init__(self, nodes: Sequence[Node], lanes: Iterable[int], failed: Failed) -> None:
        super().__init__(nodes[-1], lanes)
        self._nodes = nodes
        self._steps = [node.step for node in nodes if isinstance(node.step, MapRows)]
        self._chain = chained(self._steps)
        self._failed = failed
        #: Types that were found in earlier rows: they are tried first, so that types do not change with the cut.
        self._found = pl.Schema()

    def push(self, port: int, rows: pl.DataFrame, progress: Any) -> tuple[pl.DataFrame | None, Any]:
        """Each row through the functions."""
        if rows.height == 0:
            return None, progress
        given = rows.select(theirs(rows.columns))
        left_out: list[int] = []
        made = self._called(given, rows, left_out)
        types = declared(self._steps, given.schema)
        if types is None:
            built = build(list(chain.from_iterable(made)), None, self._found or given.schema, self._steps[-1])
            self._found = built.schema if built.height else self._found
        else:
            built = build_declared(made, types, self._steps[-1])
        kept = rows.select(ours(rows.columns))
        if left_out:
            kept = kept.with_row_index("__tm_n").filter(~pl.col("__tm_n").is_in(left_out)).drop("__tm_n")
        return (built.hstack(kept.get_columns()) if built.width else kept), progress

    def _called(
        self, given: pl.DataFrame, rows: pl.DataFrame, left_out: list[int]
    ) -> Iterator[list[Mapping[str, Any]]]:
        """What the functions make of the rows, in pieces; `left_out` gets the places of rows that cannot be taken."""

        def failed(place: int, at: int, error: Exception) -> None:
            self._failed(self._nodes[at], rows[place], _said(error, self._steps[at]))
            left_out.append(place)

        each = enumerate(rows_of(given))
        for _ in range(0, given.height, _PIECE):
            made: list[Mapping[str, Any]] = []
            self._chain(islice(each, _PIECE), made, failed)
            yield made


def _said(error: Exception, step: Operation) -> str:
    return f"{type(error).__name__}: {error} in {step}" + (f" at {step.at}" if step.at else "")


class Flat(Operator):
    """A user's function that makes any number of rows of each: `flat_map`."""

    def __init__(self, node: Node, lanes: Iterable[int], failed: Failed) -> None:
        super().__init__(node, lanes)
        assert isinstance(node.step, FlatMap)
        self._step = node.step
        self._failed = failed
        self._found = pl.Schema()

    def push(self, port: int, rows: pl.DataFrame, progress: Any) -> tuple[pl.DataFrame | None, Any]:
        """Each row through the function."""
        if rows.height == 0:
            return None, progress
        given = rows.select(theirs(rows.columns))
        made: list[Mapping[str, Any]] = []
        places: list[int] = []
        for place, row in enumerate(rows_of(given)):
            try:
                # A copy of each: `for x in ...: row["x"] = x; yield row` yields one and the same dict.
                results = [dict(one) for one in self._step.function(row)]
            except Exception as error:  # whatever a user's function raises is about this row
                self._failed(self.node, rows[place], _said(error, self._step))
                continue
            made += results
            places += [place] * len(results)
        types = declared([self._step], given.schema)
        built = build(made, types, self._found or given.schema, self._step)
        if types is None and made:
            self._found = built.schema
        kept = rows.select(ours(rows.columns))[places]
        out = built.hstack(kept.get_columns()) if built.width else kept
        return _numbered(out.lazy()).collect(), progress


class Batchwise(Operator):
    """A user's function on some rows at a time: `map_batches`. It may not change how many rows there are."""

    def __init__(self, node: Node, lanes: Iterable[int], failed: Failed) -> None:
        super().__init__(node, lanes)
        assert isinstance(node.step, MapBatches)
        self._step = node.step
        self._failed = failed

    def push(self, port: int, rows: pl.DataFrame, progress: Any) -> tuple[pl.DataFrame | None, Any]:
        """All rows at once."""
        return (guarded(self._run, rows, self._tell) if rows.height else None), progress

    def _tell(self, row: pl.DataFrame, error: str) -> None:
        self._failed(self.node, row, error)

    def _run(self, rows: pl.DataFrame) -> pl.DataFrame:
        mine = rows.select(ours(rows.columns))
        try:
            made: Any = self._step.function(rows.select(theirs(rows.columns)))
        except Exception as error:
            raise TidemillError(f"{type(error).__name__}: {error}", where=str(self._step.at or "")) from error
        if isinstance(made, pl.LazyFrame):
            made = made.collect()
        if not isinstance(made, pl.DataFrame) or made.height != mine.height:
            raise DefinitionError(
                "map_batches: on a stream the function gives as many rows as it gets, in their order.",
                where=None if self._step.at is None else str(self._step.at),
                hint="f.filter(condition) leaves rows out, f.flat_map(function) makes more of them",
            )
        return made.hstack(mine.get_columns())


class Looked(Operator):
    """Rows with what a table says of their keys: `join_lookup`, and `join` with a table."""

    def __init__(self, node: Node, lanes: Iterable[int], table: LookUp) -> None:
        super().__init__(node, lanes)
        assert isinstance(node.step, Join | JoinLookup)
        self._step = node.step
        self._table = table

    def push(self, port: int, rows: pl.DataFrame, progress: Any) -> tuple[pl.DataFrame | None, Any]:
        """Look every row up in the table's newest version."""
        if rows.height == 0:
            return None, progress
        other = self._table().lazy()
        if isinstance(self._step, JoinLookup):
            check_lookup(other, self._step)
        with defining(self._step, rows.columns):
            made = join(rows.lazy(), other, self._step).collect()
        if isinstance(self._step, Join) and self._step.how in ("inner", "left"):
            made = _numbered(made.lazy()).collect()
        return made.select(*theirs(made.columns), *ours(made.columns)), progress


class Side(Operator):
    """Rows of several inputs, side by side: of equal stamps in the order of the inputs.

    Args:
        node: of the step. `ports`: of each input the lanes and our own columns.
        keeper: for what lasts.
        schema: the user's columns of the result.
        marks: our own columns of the result.
    """

    def __init__(
        self,
        node: Node,
        ports: Sequence[tuple[frozenset[int], pl.Schema]],
        keeper: Keeper,
        schema: pl.Schema,
        marks: pl.Schema,
    ) -> None:
        super().__init__(node, (lane for lanes, _ in ports for lane in lanes))
        assert isinstance(node.step, Concat)
        self._schema = schema
        self._marks = marks
        self._ways = Ways((lanes for lanes, _ in ports), keeper, f"{node.name}{node.number}/ways")
        self._orders = [side_order([own for _, own in ports], port) for port in range(len(ports))]

    def push(self, port: int, rows: pl.DataFrame, progress: Progress) -> tuple[pl.DataFrame | None, Progress]:
        """Rows with all columns."""
        return (self._aligned(port, rows) if rows.height else None), self._ways.update(port, progress)

    def _aligned(self, port: int, rows: pl.DataFrame) -> pl.DataFrame:
        made = rows.select(theirs(rows.columns))
        wanted = meet([made.schema, self._schema])
        made = align(made.lazy(), made.schema, wanted).select(self._schema.names()).collect()
        sources = {name: name for name in ours(rows.columns) if not order_of([name])}
        if self.node.ordered:
            sources.update((new, old) for old, new in self._orders[port].items())
        marks = [
            (pl.col(sources[name]) if sources.get(name) in rows.columns else pl.lit(None)).cast(kind).alias(name)
            if name != order(1)
            else pl.lit(port, dtype=kind).alias(name)
            for name, kind in self._marks.items()
        ]
        return made.hstack(rows.select(marks).get_columns())

    def save(self) -> None:
        """Put what has changed into the keeper."""
        super().save()
        self._ways.save()
