"""What becomes of a column in a step: the same values under a name, or others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tidemill.model.frame.operation import (
    Calls,
    Cast,
    Drop,
    Explode,
    Filter,
    FilterRows,
    GroupBy,
    Join,
    JoinAsof,
    JoinInterval,
    JoinLookup,
    MapWithState,
    Operation,
    Reduce,
    Rename,
    Select,
    Unique,
    Unnest,
    Windowed,
    WithColumns,
)
from tidemill.model.frame.topic import Expect, Sink


def passes(step: Operation, column: str, before: Sequence[str] | None) -> str | None:
    """Which column of the step's input is `column` of its result; None: the step makes it.

    Args:
        step: what is done.
        column: a column of the result.
        before: the input's columns, where they are known.
    """
    match step:
        case Filter() | FilterRows() | Drop() | Unique() | Sink():
            return column
        case Expect():
            # Time goes by the rows that are left: one that fails, of the year 9999 say, must make no other late.
            return None if step.drops else column
        case Rename():
            older = {new: old for old, new in step.names.items()}
            return older.get(column, None if column in step.names else column)
        case Select():
            return _made_by(step.columns, step.named, column)
        case WithColumns():
            written = _written(step.columns, step.named)
            if written is None:
                return None
            return _made_by(step.columns, step.named, column) if column in written else column
        case Cast():
            return None if column in step.types else column
        case Explode():
            return None if column in step.columns else column
        case Unnest() | Join() | JoinLookup() | JoinAsof() | JoinInterval():
            taken = isinstance(step, Unnest) and column in step.columns
            return column if before is not None and column in before and not taken else None
        case Calls() | GroupBy() | Windowed() | Reduce():
            return None
    return None


def renamed(step: Operation, column: str) -> str | None:
    """Under which name the step's result has the values of its input's `column`; None: it may not have them."""
    match step:
        case Filter() | FilterRows() | Unique() | JoinLookup() | JoinAsof() | JoinInterval() | Expect() | Sink():
            return column
        case Join():
            return column if step.how in ("inner", "left", "semi", "anti") else None
        case Drop():
            return None if column in step.columns else column
        case Rename():
            return step.names.get(column, None if column in step.names.values() else column)
        case Select():
            return _kept_by(step.columns, step.named, column)
        case WithColumns():
            written = _written(step.columns, step.named)
            return None if written is None or column in written else column
        case Cast():
            return None if column in step.types else column
        case Explode() | Unnest():
            return None if column in step.columns else column
        case Windowed() | Reduce() | MapWithState():
            return column if column in step.by else None
        case GroupBy():
            return column if column in step.keys else None
    return None


def plain(value: Any) -> str | None:
    """The column that an expression or name stands for unchanged; None: it computes something."""
    if isinstance(value, str):
        return value
    meta = getattr(value, "meta", None)
    if meta is None:
        return None
    bare = meta.undo_aliases()
    return str(bare.meta.output_name()) if bare.meta.is_column() else None


def _outputs(columns: Iterable[Any]) -> dict[str, Any] | None:
    """Results' names of positional expressions; None where one gives several that cannot be told."""
    found: dict[str, Any] = {}
    for value in columns:
        if isinstance(value, str):
            found[value] = value
            continue
        if value.meta.has_multiple_outputs() or value.meta.is_regex_projection():
            return None
        found[str(value.meta.output_name())] = value
    return found


def _written(columns: Iterable[Any], named: Mapping[str, Any]) -> set[str] | None:
    """The columns that `with_columns` sets to something else; None: it cannot be told."""
    outputs = _outputs(columns)
    if outputs is None:
        return None
    everything = {**outputs, **named}
    return {name for name, value in everything.items() if plain(value) != name}


def _made_by(columns: Iterable[Any], named: Mapping[str, Any], column: str) -> str | None:
    outputs = _outputs(columns)
    if outputs is None:
        return None
    everything = {**outputs, **named}
    return plain(everything[column]) if column in everything else None


def _kept_by(columns: Iterable[Any], named: Mapping[str, Any], column: str) -> str | None:
    outputs = _outputs(columns)
    if outputs is None:
        return None
    for name, value in {**outputs, **named}.items():
        if plain(value) == column:
            return name
    return None
