"""Runs users' Python functions on rows and batches, in the thread that reads the result.

So a breakpoint stops where it is set, whichever debugger set it: Polars would call from threads of its own. What a
function returns is typed from its values, unless the step declares the types.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import polars as pl

from tidemill.adapters.polars.building import build
from tidemill.adapters.polars.errors import place_of
from tidemill.adapters.polars.remembering import key_of, returned
from tidemill.adapters.polars.rows import rows_of
from tidemill.adapters.polars.types import polars_type
from tidemill.model.agg import Fold
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.operation import (
    Calls,
    FlatMap,
    MapBatches,
    MapRows,
    MapWithState,
    Operation,
    Reduce,
    function_name,
)
from tidemill.model.frame.row import Row

#: A stage takes batches of rows and gives batches of rows.
Batches = Iterator[pl.DataFrame]


def declared(steps: Sequence[Operation], schema: pl.Schema) -> pl.Schema | None:
    """The columns that steps one after the other say they return, given the first one's input; None: not said."""
    found: pl.Schema | None = schema
    for step in steps:
        assert isinstance(step, Calls), "only calls declare columns"
        if isinstance(step, MapWithState):
            found = None if found is None else returned(step, found)
        elif step.returns is not None:
            found = pl.Schema({name: polars_type(kind) for name, kind in step.returns.items()})
        elif step.adds is None or found is None:
            found = None
        else:
            found = pl.Schema({**found, **{name: polars_type(kind) for name, kind in step.adds.items()}})
    return found


def call_on_rows(batches: Batches, steps: Sequence[MapRows | FlatMap], source: str, types: pl.Schema | None) -> Batches:
    """Each row through all `steps`, one row after the other; an output batch for each input batch.

    Args:
        batches: the input.
        steps: neighbouring steps, run as one loop.
        source: how messages call the input.
        types: the columns that the steps declare; None: found from the values, columns that the
            input has keep its types where the values fit them.
    """
    at = _Position(source)
    for batch in batches:
        if batch.height == 0:
            continue
        rows: Iterator[Mapping[str, Any]] = _rows_of(batch, at)
        for step in steps:
            rows = _flat_mapped(rows, step, at) if isinstance(step, FlatMap) else _mapped(rows, step, at)
        yield build(list(rows), types, batch.schema, steps[-1])


@dataclass(slots=True)
class _Position:
    """How far the loop over rows is, for messages."""

    source: str
    number: int = -1

    def __str__(self) -> str:
        return f'row {self.number} of "{self.source}"'


def _rows_of(batch: pl.DataFrame, at: _Position) -> Iterator[Row]:
    for row in rows_of(batch):
        at.number += 1
        yield row


def _mapped(rows: Iterator[Mapping[str, Any]], step: MapRows, at: _Position) -> Iterator[Mapping[str, Any]]:
    function = step.function
    for row in rows:
        taken = row if type(row) is Row else Row(row)
        try:
            result = function(taken)
        except Exception as error:
            error.add_note(_note(step, str(at), taken))
            raise
        yield result if type(result) is Row or type(result) is dict else _row(step, result)


def _flat_mapped(rows: Iterator[Mapping[str, Any]], step: FlatMap, at: _Position) -> Iterator[Mapping[str, Any]]:
    for row in rows:
        taken = row if type(row) is Row else Row(row)
        try:
            # A copy of each: `for x in ...: row["x"] = x; yield row` yields one and the same dict.
            made = [Row(one) for one in _made(step, step.function(taken))]
        except Exception as error:
            error.add_note(_note(step, str(at), taken))
            raise
        yield from made


def _row(step: Operation, result: object) -> Mapping[str, Any]:
    if isinstance(result, Mapping):
        return result
    name = function_name(step.functions[0])
    if result is None:
        hint = f"end it with: return row; to leave rows out: f.filter(condition) or f.flat_map({name})"
        raise DefinitionError(f"{step.verb}: {name} returned nothing for a row.", where=place_of(step), hint=hint)
    raise DefinitionError(
        f"{step.verb}: {name} returned {type(result).__name__}, not a row.",
        where=place_of(step),
        hint='a row is a dict: return {**row, "x": 1}',
    )


def _made(step: FlatMap, result: object) -> Iterator[Mapping[str, Any]]:
    name = function_name(step.function)
    if isinstance(result, Mapping) or not isinstance(result, Iterable):
        raise DefinitionError(
            f"flat_map: {name} returned {type(result).__name__}, not rows.",
            where=place_of(step),
            hint="return a list of rows ([] for none), or yield each row",
        )
    for row in result:
        yield _row(step, row)


def call_on_batches(
    batches: Batches, step: MapBatches, schema: pl.Schema, source: str, types: pl.Schema | None
) -> Batches:
    """Each batch through the function; without any rows it is called once with none, to learn its columns."""
    before, called = 0, False
    for batch in batches:
        if batch.height:
            yield _batch(step, batch, before, source, types)
            before, called = before + batch.height, True
    if not called:
        yield _batch(step, pl.DataFrame(schema=schema), 0, source, types)


def _batch(step: MapBatches, batch: pl.DataFrame, before: int, source: str, types: pl.Schema | None) -> pl.DataFrame:
    try:
        result: object = step.function(batch)
    except Exception as error:
        rows = f"rows {before} to {before + batch.height - 1}" if batch.height else "no rows"
        error.add_note(_note(step, f'{rows} of "{source}"', None))
        raise
    if isinstance(result, pl.LazyFrame):
        result = result.collect()
    if not isinstance(result, pl.DataFrame):
        raise DefinitionError(
            f"map_batches: {function_name(step.function)} returned {type(result).__name__}, not a DataFrame.",
            where=place_of(step),
            hint="return a polars.DataFrame",
        )
    return result if types is None else _conform(step, result, types)


def _conform(step: MapBatches, batch: pl.DataFrame, types: pl.Schema) -> pl.DataFrame:
    lacking = [name for name in types if name not in batch.columns]
    extra = [name for name in batch.columns if name not in types]
    if lacking or extra:
        what = f"lacks {', '.join(lacking)}" if lacking else f"has {', '.join(extra)}, which is not declared"
        raise DefinitionError(
            f"map_batches: what {function_name(step.function)} returned {what}.",
            where=place_of(step),
            hint="declare what it returns: returns={...}, or adds={...} for columns beyond the input's",
        )
    return batch.select(pl.col(name).cast(dtype) for name, dtype in types.items())


def reduce_rows(batches: Batches, step: Reduce, schema: pl.Schema, source: str) -> Batches:
    """Every row into the state of its key; one row for each key, in the order of their first rows."""
    states: dict[tuple[Any, ...], Any] = {}
    at = _Position(source)
    for row in chain.from_iterable(_rows_of(batch, at) for batch in batches):
        key = key_of(row[name] for name in step.by)
        try:
            states[key] = _row(step, step.function(states[key] if key in states else start(step), row))
        except Exception as error:
            error.add_note(_note(step, str(at), row))
            raise
    made = [{**dict(zip(step.by, key, strict=True)), **state} for key, state in states.items()]
    if made:
        yield build(made, None, schema, step)
    else:
        yield pl.DataFrame(schema=_initial_types(step, schema))


def _initial_types(step: Reduce, schema: pl.Schema) -> pl.Schema:
    """Columns of a reduction of no rows: the keys', and the initial state's as far as its values tell."""
    state = _row(step, start(step))
    return pl.Schema({**{name: schema[name] for name in step.by}, **build([state], None, pl.Schema(), step).schema})


def start(step: Reduce | Fold) -> Any:
    """A fresh initial state."""
    return step.initial() if callable(step.initial) else copy.deepcopy(step.initial)


def fold_lists(batches: Batches, folds: Mapping[str, Fold], step: Operation, source: str) -> Batches:
    """Replace each list of values by what the user's function makes of it, value after value."""
    for batch in batches:
        made = batch
        for name, fold in folds.items():
            results = [_fold(fold, values, step, source) for values in batch[name].to_list()]
            types = None if fold.returns is None else pl.Schema({name: polars_type(fold.returns)})
            column = build([{name: r} for r in results], types, pl.Schema(), step) if results else None
            made = made.with_columns(column[name] if column is not None else unfolded(name, fold))
        yield made


def _fold(fold: Fold, values: list[Any], step: Operation, source: str) -> Any:
    state = start(fold)
    for value in values:
        try:
            state = fold.function(state, value)
        except Exception as error:
            error.add_note(_note(step, f'a group of "{source}"', value))
            raise
    return state


def unfolded(name: str, fold: Fold) -> pl.Expr:
    """The column of a fold over nothing."""
    return pl.lit(None, dtype=None if fold.returns is None else polars_type(fold.returns)).alias(name)


def _note(step: Operation, rows: str, value: object) -> str:
    """What Python prints below the user's traceback."""
    where = f" at {step.at}" if step.at else ""
    shown = "" if value is None else f": {_short(value)}"
    return f"in {step.verb}({', '.join(map(function_name, step.functions))}){where}, {rows}{shown}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 500 else text[:497] + "..."
