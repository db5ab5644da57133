"""Calls users' functions that have a state for each key, and gives what they return the key and time of its row."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from tidemill.adapters.polars.building import build
from tidemill.adapters.polars.errors import check_columns, place_of
from tidemill.adapters.polars.grouping import ROW, TIME
from tidemill.adapters.polars.moments import micros, whole
from tidemill.adapters.polars.rows import rows_of
from tidemill.adapters.polars.types import polars_type
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.frame.operation import MapWithState, Operation, function_name
from tidemill.model.frame.row import Row
from tidemill.model.frame.state import State

#: What a state holds: its values, and when they were last written, in microseconds.
Remembered = tuple[int, Mapping[str, Any]]
_NOTHING: Mapping[str, Any] = {}


def check_keys(lazy: pl.LazyFrame, step: Operation, by: Iterable[str]) -> None:
    """Refuse key columns that are not there, or cannot be keys."""
    check_columns(lazy, by)
    schema = lazy.collect_schema()
    for name in by:
        if schema[name].is_nested():
            raise DefinitionError(
                f'{step.verb}: "{name}" is of type {schema[name]}, which cannot be a key.',
                hint="take plain columns as keys; f.unnest(...) makes columns of a struct",
            )


def check_remembering(lazy: pl.LazyFrame, step: MapWithState) -> None:
    """Refuse keys and a time that the rows do not have."""
    check_keys(lazy, step, step.by)
    check_columns(lazy, [step.on])
    micros(lazy, step.on)


def returned(step: MapWithState, schema: pl.Schema) -> pl.Schema | None:
    """The columns that the step declares for rows of a schema; None: it does not, or nothing is known of the rows."""
    declared = step.adds if step.adds is not None else step.returns
    if declared is None or any(name not in schema for name in step.carried):
        return None
    like = schema if step.adds is not None else {name: schema[name] for name in step.carried}
    more = {name: polars_type(kind) for name, kind in declared.items() if name not in step.carried}
    return pl.Schema({**like, **more})


def key_of(values: Iterable[Any]) -> tuple[Any, ...]:
    """A key that is found again: NaN is one key, and so are the two zeros, as in groups."""
    return tuple(value if type(value) is not float else value + 0.0 if value == value else math.nan for value in values)


class Caller:
    """Calls the function of a step."""

    def __init__(self, step: MapWithState) -> None:
        self._step = step
        self._function = step.function
        self._carried = step.carried

    def call(self, row: Row, values: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], State]:
        """What the function makes of a row, and the state as it left it.

        Raises:
            TypeError: it returned something else than rows, or rows of another key or time.
        """
        carried = {name: row[name] for name in self._carried}
        state = State(values)
        result: Any = self._function(row, state)
        if result is None:
            return [], state
        if type(result) is dict or isinstance(result, Mapping):
            return [self._whole(result, carried)], state
        if isinstance(result, str | bytes) or not isinstance(result, Iterable):
            raise TypeError(f"the function returned {type(result).__name__}, not a row, rows or None")
        return [self._whole(one, carried) for one in result], state

    def _whole(self, row: Any, carried: Mapping[str, Any]) -> Mapping[str, Any]:
        """A row with the key and time of the one that it was made of."""
        if type(row) is not dict and not isinstance(row, Mapping):
            raise TypeError(f"the function gave {type(row).__name__}, not a row")
        for name in carried.keys() & row.keys():
            if row[name] != carried[name]:
                raise TypeError(f'the function changed "{name}", which is the key or the time of the row')
        return {**carried, **row}


def in_time_order(lazy: pl.LazyFrame, step: MapWithState) -> pl.LazyFrame:
    """Rows by their times, ties in row order; their numbers and times are with them."""
    return lazy.with_row_index(ROW).with_columns(micros(lazy, step.on).alias(TIME)).sort(TIME, ROW)


def call_with_state(
    batches: Iterator[pl.DataFrame], step: MapWithState, source: str, types: pl.Schema | None
) -> Iterator[pl.DataFrame]:
    """Rows that `in_time_order` gave through the function."""
    ttl = None if step.ttl is None else whole(step.ttl)
    states: OrderedDict[tuple[Any, ...], Remembered] = OrderedDict()
    caller = Caller(step)
    for batch in batches:
        numbers, times = (batch.get_column(name).to_list() for name in (ROW, TIME))
        given = batch.drop(ROW, TIME)
        made: list[Mapping[str, Any]] = []
        for number, now, row in zip(numbers, times, rows_of(given), strict=True):
            if now is None:
                raise no_time(step, f'row {number} of "{source}"')
            _forget(states, ttl, now)
            key = key_of(row[name] for name in step.by)
            try:
                rows, state = caller.call(row, states[key][1] if key in states else _NOTHING)
                after = state.written()
            except Exception as error:
                name = function_name(step.function)
                error.add_note(f'in {step.verb}({name}) at {step.at}, row {number} of "{source}": {row!r:.500}')
                raise
            if after is not None:
                states.pop(key, None)
                if after:
                    states[key] = (now, after)
            made += rows
        yield build(made, types, given.schema, step)


def _forget(states: OrderedDict[tuple[Any, ...], Remembered], ttl: int | None, now: int) -> None:
    """Let states go whose time is over: the one that was written first stands first."""
    while ttl is not None and states and next(iter(states.values()))[0] + ttl < now:
        states.popitem(last=False)


def no_time(step: MapWithState, row: str) -> DataError:
    """The error for a row that has no place among the others."""
    return DataError(
        f'{step.verb}: {row} has no time in "{step.on}".',
        where=place_of(step),
        hint=f'f.filter(f["{step.on}"].is_not_null()) leaves such rows out',
    )
