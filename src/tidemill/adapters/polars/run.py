"""Runs one frame: neighbouring query steps become one Polars query, users' functions run between queries.

    input -> query steps -> (rows in batches) -> functions -> held -> query steps -> ... -> batches out

Only what stands behind a function is held; a frame without functions streams from files to result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import polars as pl

from tidemill.adapters.polars.calling import call_on_batches, call_on_rows, declared, fold_lists, reduce_rows, unfolded
from tidemill.adapters.polars.errors import NoSuchColumn, defining, place_of, running, try_out
from tidemill.adapters.polars.grouping import folds, group_by, windowed
from tidemill.adapters.polars.holding import Holder
from tidemill.adapters.polars.joining import check_lookup, concat, join, join_asof, join_interval, unique
from tidemill.adapters.polars.remembering import call_with_state, check_keys, check_remembering, in_time_order
from tidemill.adapters.polars.stateless import Stateless, sink_columns, stateless
from tidemill.adapters.polars.tables import held
from tidemill.adapters.polars.types import held_type
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.operation import (
    Calls,
    Concat,
    FlatMap,
    GroupBy,
    Join,
    JoinAsof,
    JoinInterval,
    JoinLookup,
    MapBatches,
    MapRows,
    MapWithState,
    Operation,
    Reduce,
    Unique,
    Windowed,
    function_name,
)
from tidemill.model.frame.topic import Sink
from tidemill.model.table import SYSTEM_COLUMNS

#: Rows given out at a time; a batch of 64k rows of 20 columns is about 10 MB.
CHUNK = 65_536

_SYSTEM = tuple(column.name for column in SYSTEM_COLUMNS)

Steps: TypeAlias = "tuple[Operation, ...]"


class Undeclared(Exception):
    """A dry run met a function that does not say what it returns."""


@dataclass(frozen=True, slots=True)
class Query:
    """Rows so far, as a Polars query.

    `steps` are in it, for messages. `nothing` is true where a function got no rows and did not say what it
    returns: there are no rows, and which columns there would be is not known. `unknown` is that function's
    step; it stays when other rows have joined in.
    """

    lazy: pl.LazyFrame
    steps: Steps = ()
    unknown: Operation | None = None
    nothing: bool = False


class Run:
    """One run of a frame and of the frames that it joins.

    Args:
        read: gives an input's rows as a query, system columns too.
        holder: keeps what functions returned.
        dry: read no rows and call no functions. Raises `Undeclared` at one that does not declare its columns.
    """

    def __init__(self, read: Callable[[Input], pl.LazyFrame], holder: Holder, *, dry: bool = False) -> None:
        self._read = read
        self._holder = holder
        self._dry = dry
        self._sources: dict[int | str, pl.LazyFrame] = {}
        #: What steps and functions gave, by the identities of input and steps: a frame used twice does them once.
        self._done: dict[tuple[int, ...], Query] = {}

    def query(self, frame: Frame) -> Query:
        """The whole frame as a query; its functions have been called."""
        query = Query(self._source(frame.source))
        done = 0
        while done < len(frame.operations):
            query, done = self._next(query, frame, done)
        return query

    def _source(self, source: Input) -> pl.LazyFrame:
        """An input's rows, taken once: an Arrow reader gives them only once."""
        key = id(source) if source.scope == "literal" or self._dry else source.key
        if key not in self._sources:
            self._sources[key] = self._read(source)
        lazy = self._sources[key]
        return lazy if source.system_columns else lazy.drop(_SYSTEM, strict=False)

    def batches(self, frame: Frame) -> tuple[pl.Schema, Iterator[pl.DataFrame]]:
        """Columns of types that tables can hold, and the rows. Functions at the frame's end that declare what they
        return are called as rows are read; nothing is held for them.
        """
        first = _last_stage(frame.operations)
        if first < len(frame.operations) and not self._dry:
            before = self.query(Frame(frame.source, frame.operations[:first]))
            stage = frame.operations[first:]
            _check(before, stage[-1])
            types = None if before.nothing else declared(stage, before.lazy.collect_schema())
            if types is not None:
                schema = pl.Schema({name: held_type(dtype, name) for name, dtype in types.items()})
                return schema, _cast(self._stage(before, stage, frame, types), schema, stage)
        query = self.query(frame)
        if query.nothing:
            return pl.Schema(), iter(())
        query = replace(query, lazy=held(query.lazy))
        return query.lazy.collect_schema(), stream(query)

    def _next(self, query: Query, frame: Frame, done: int) -> tuple[Query, int]:
        """The query after the next step, or after the next functions that run as one stage; and how far that is."""
        step = frame.operations[done]
        if query.nothing and step.keeps_empty:
            types = declared([step], pl.Schema()) if isinstance(step, Calls) and step.returns is not None else None
            return query if types is None else Query(pl.LazyFrame(schema=types)), done + 1
        called = _end_of_stage(frame.operations, done)
        end = max(called, done + 1)
        key = _identity(frame, end)
        if key not in self._done:
            stage = frame.operations[done:called]
            self._done[key] = self._call(query, stage, frame) if stage else self._step(query, step, frame)
        return self._done[key], end

    def _step(self, query: Query, step: Operation, frame: Frame) -> Query:
        others = [self.query(other) for other in step.others]
        unknown = next((q.unknown for q in (query, *others) if q.unknown is not None), None)
        columns = query.lazy.collect_schema().names()
        try:
            with defining(step, columns):
                lazy = _apply(query.lazy, [other.lazy for other in others], step)
                lazy.collect_schema()
            no_rows = [pl.LazyFrame(schema=q.lazy.collect_schema()) for q in (query, *others)]
            try_out(lambda: _apply(no_rows[0], no_rows[1:], step), step, columns)
        except NoSuchColumn as error:
            raise error if unknown is None else _because_unknown(error, unknown) from None
        if isinstance(step, JoinLookup) and not self._dry:
            with running(others[0].steps):
                check_lookup(others[0].lazy, step)
        steps = (*query.steps, *(s for other in others for s in other.steps), step)
        after = Query(lazy, steps, unknown)
        return self._fold(after, step, frame) if isinstance(step, GroupBy | Windowed) and folds(step) else after

    def _call(self, query: Query, stage: Steps, frame: Frame) -> Query:
        """Call the functions of a stage on all rows, and hold what they return."""
        schema = query.lazy.collect_schema()
        last = stage[-1]
        _check(query, last)
        types = declared(stage, schema) if isinstance(last, Calls) else None
        if self._dry:
            if types is None:
                raise Undeclared
            return Query(pl.LazyFrame(schema=types))
        lazy = self._holder.hold(self._stage(query, stage, frame, types), last)
        if types is not None and lazy is None:
            return Query(pl.LazyFrame(schema=types))
        if lazy is None or not lazy.collect_schema():
            return Query(pl.LazyFrame(schema=schema), unknown=last, nothing=True)
        return Query(lazy)

    def _stage(self, query: Query, stage: Steps, frame: Frame, types: pl.Schema | None) -> Iterator[pl.DataFrame]:
        schema = query.lazy.collect_schema()
        source = frame.source.name
        match stage[0]:
            case MapBatches() as step:
                return call_on_batches(stream(query), step, schema, source, types)
            case Reduce() as step:
                return reduce_rows(stream(query), step, schema, source)
            case MapWithState() as step:
                ordered = replace(query, lazy=in_time_order(query.lazy, step))
                return call_with_state(stream(ordered), step, source, types)
            case _:
                steps = [step for step in stage if isinstance(step, MapRows | FlatMap)]
                return call_on_rows(stream(query), steps, source, types)

    def _fold(self, query: Query, step: GroupBy | Windowed, frame: Frame) -> Query:
        """Fold users' functions over the lists that a grouping collected for them."""
        if self._dry:
            if any(fold.returns is None for fold in folds(step).values()):
                raise Undeclared
            typed = query.lazy.with_columns(unfolded(name, fold) for name, fold in folds(step).items())
            return Query(typed.clear(), unknown=query.unknown)
        folded = self._holder.hold(fold_lists(stream(query), folds(step), step, frame.source.name), step)
        if folded is None:
            folded = query.lazy.with_columns(unfolded(name, fold) for name, fold in folds(step).items())
        return Query(folded, unknown=query.unknown)


def stream(query: Query) -> Iterator[pl.DataFrame]:
    """The rows of a query in batches, in order, as they are made: a slow reader makes Polars wait."""
    with running(query.steps):
        yield from query.lazy.collect_batches(chunk_size=CHUNK, maintain_order=True, engine="streaming")


def _cast(batches: Iterator[pl.DataFrame], schema: pl.Schema, steps: Steps) -> Iterator[pl.DataFrame]:
    for batch in batches:
        if batch.schema != schema:
            with running(steps):
                batch = batch.cast(schema)
        yield batch


def _apply(lazy: pl.LazyFrame, others: list[pl.LazyFrame], step: Operation) -> pl.LazyFrame:
    match step:
        case GroupBy():
            return group_by(lazy, step)
        case Windowed():
            return windowed(lazy, step)
        case Join() | JoinLookup():
            return join(lazy, others[0], step)
        case JoinAsof():
            return join_asof(lazy, others[0], step)
        case JoinInterval():
            return join_interval(lazy, others[0], step)
        case Unique():
            return unique(lazy, step)
        case Concat():
            return concat(lazy, others)
        case Sink():
            lazy.select(*sink_columns(step)).collect_schema()  # that one is missing is told before a row comes
            return lazy
        case _:
            assert isinstance(step, Stateless), f"no engine for {step.verb}"
            return stateless(lazy, step)


def _end_of_stage(steps: Steps, first: int) -> int:
    """Where the stage that begins at `first` ends: row functions run together, others alone. `first`: no stage.

    What `adds` adds to must be known, so it begins a new stage behind a function that declares nothing.
    """
    if isinstance(steps[first], MapBatches | Reduce | MapWithState):
        return first + 1
    end, known = first, True
    for step in steps[first:]:
        if not isinstance(step, MapRows | FlatMap) or (step.adds is not None and not known):
            break
        known = step.returns is not None or (step.adds is not None and known)
        end += 1
    return end


def _last_stage(steps: Steps) -> int:
    """Where the last stage begins, if the frame ends with functions that may declare what they return."""
    first = 0
    while first < len(steps):
        end = max(_end_of_stage(steps, first), first + 1)
        if end == len(steps) and isinstance(steps[first], Calls):
            return first
        first = end
    return first


def _check(query: Query, step: Operation) -> None:
    """See that rows have the keys and times that functions are called by."""
    if query.nothing:
        return
    with defining(step, query.lazy.collect_schema()):
        if isinstance(step, Reduce):
            check_keys(query.lazy, step, step.by)
        if isinstance(step, MapWithState):
            check_remembering(query.lazy, step)


def _identity(frame: Frame, end: int) -> tuple[int, ...]:
    return (id(frame.source), *map(id, frame.operations[:end]))


def _because_unknown(error: NoSuchColumn, unknown: Operation) -> DefinitionError:
    name = ", ".join(map(function_name, unknown.functions))
    return DefinitionError(
        f"{error.what[:-1]}: {name} got no rows this time and does not declare what it returns.",
        where=place_of(unknown),
        hint=f'f.{unknown.verb}({name}, adds={{"x": "long"}}) declares it, so that a day without rows works too',
    )
