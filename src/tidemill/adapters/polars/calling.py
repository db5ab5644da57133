"""Runs users' Python functions on rows and batches, in the thread that reads the result.

So a breakpoint stops where it is set, whichever debugger set it: Polars would call from threads of its own. What a
function returns is typed from its values, unless the step declares the types.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from tidemill.adapters.polars.building import build
from tidemill.adapters.polars.errors import place_of
from tidemill.adapters.polars.types import polars_type
from tidemill.model.agg import Fold
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.operation import Calls, FlatMap, MapBatches, MapRows, Operation, Reduce, function_name
from tidemill.model.frame.row import Row

#: A stage takes batches of rows and gives batches of rows.
Batches = Iterator[pl.DataFrame]


def declared(step: Calls, schema: pl.Schema) -> pl.Schema | None:
    """The columns that a step says it returns, given its input's; None where it does not say."""
    if step.returns is not None:
        return pl.Schema({name: polars_type(kind) for name, kind in step.returns.items()})
    if step.adds is not None:
        return pl.Schema({**schema, **{name: polars_type(kind) for name, kind in step.adds.items()}})
    return None


def call_on_rows(batches: Batches, steps: Sequence[MapRows | FlatMap], source: str, types: pl.Schema | None) -> Batches:
    """Each row through all `steps`, one row after the other; an output batch for each input batch.

    Args:
        batches: the input.
        steps: neighbouring steps, run as one loop.
        source: how messages call the input.
        types: the columns that the last step declares; None: found from the values, columns that the
            input has keep its types where the values fit them.
    """
    before = 0
    for batch in batches:
        if batch.height == 0:
            continue
        made: list[Mapping[str, Any]] = []
        for number, values in enumerate(batch.iter_rows(), before):
            rows: list[Mapping[str, Any]] = [Row(zip(batch.columns, values, strict=True))]
            for step in steps:
                rows = _through(step, rows, number, source)
            made.extend(rows)
        yield build(made, types, batch.schema, steps[-1])
        before += batch.height


def _through(
    step: MapRows | FlatMap, rows: list[Mapping[str, Any]], number: int, source: str
) -> list[Mapping[str, Any]]:
    made: list[Mapping[str, Any]] = []
    for row in rows:
        taken = row if isinstance(row, Row) else Row(row)
        try:
            result = step.function(taken)
            if isinstance(step, FlatMap):
                made.extend(_rows(step, result))
            else:
                made.append(_row(step, result))
        except Exception as error:
            error.add_note(_note(step, f'row {number} of "{source}"', taken))
            raise
    return made


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


def _rows(step: FlatMap, result: object) -> Iterator[Mapping[str, Any]]:
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
    columns = list(schema)
    at = [columns.index(name) for name in step.by]
    states: dict[tuple[Any, ...], Any] = {}
    number = 0
    for batch in batches:
        for values in batch.iter_rows():
            key = tuple(values[i] for i in at)
            row = Row(zip(columns, values, strict=True))
            try:
                states[key] = _row(step, step.function(states[key] if key in states else start(step), row))
            except Exception as error:
                error.add_note(_note(step, f'row {number} of "{source}"', row))
                raise
            number += 1
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
            column = build([{name: r} for r in results], None, pl.Schema(), step) if results else None
            made = made.with_columns(column[name] if column is not None else pl.lit(None).alias(name))
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


def _note(step: Operation, rows: str, value: object) -> str:
    """What Python prints below the user's traceback."""
    where = f" at {step.at}" if step.at else ""
    shown = "" if value is None else f": {_short(value)}"
    return f"in {step.verb}({', '.join(map(function_name, step.functions))}){where}, {rows}{shown}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 500 else text[:497] + "..."
