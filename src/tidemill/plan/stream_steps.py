"""What a step of a frame is on a stream: what it remembers, by which keys and times it goes, whether order matters."""

from __future__ import annotations

from tidemill.model.agg import Aggregate, Fold, is_expression
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.operation import (
    Concat,
    Explode,
    Filter,
    FlatMap,
    GroupBy,
    Join,
    JoinAsof,
    JoinInterval,
    MapBatches,
    Operation,
    Reduce,
    Select,
    Unique,
    Windowed,
    WithColumns,
)
from tidemill.model.frame.window import WINDOW_END, WINDOW_START, Count
from tidemill.plan.elementwise import check_elementwise


def is_stateful(step: Operation) -> bool:
    """Whether it remembers rows or what came of them."""
    return isinstance(step, Windowed | GroupBy | JoinAsof | JoinInterval | Unique | Reduce)


def keeps_rows(step: Operation) -> bool:
    """Whether a stateful step gives out rows that it was given, at their old places in the order."""
    return isinstance(step, JoinAsof | JoinInterval | Unique)


def keys_of(step: Operation) -> tuple[str, ...] | None:
    """The columns whose equal values must be in one task; None: it needs none together."""
    match step:
        case Windowed() | JoinAsof() | JoinInterval() | Reduce():
            return step.by
        case Unique():
            return step.keys
        case GroupBy():
            return tuple(k for k in step.keys if isinstance(k, str))
    return None


def time_of(step: Operation) -> str | None:
    """The time column that it goes by."""
    match step:
        case Windowed():
            return step.window.on
        case JoinAsof() | JoinInterval() | Unique():
            return step.on
    return None


def in_order_only(step: Operation) -> bool:
    """Whether it must take rows one after the other in their order."""
    match step:
        case Windowed():
            return isinstance(step.window, Count)
        case Unique():
            return step.within is None
        case Reduce():
            return True
        case GroupBy():
            return any(isinstance(a, Fold) for _, a in step.aggregates)
    return False


#: Aggregates that come out the same in any order of rows.
_UNORDERED = frozenset({"sum", "count", "mean", "min", "max", "n_unique", "quantile", "median", "std"})


def goes_by_order(step: Operation) -> bool:
    """Whether its result depends on the order of rows."""
    if in_order_only(step):
        return True
    match step:
        case Windowed() | GroupBy():
            return any(not (isinstance(a, Aggregate) and a.kind in _UNORDERED) for _, a in step.aggregates)
        case JoinAsof() | Unique():
            return True
    return False


def result_keys(step: Operation) -> tuple[str, ...] | None:
    """The columns that identify a result which is given again when it changes; None: it gives results once."""
    match step:
        case Windowed(emit="current"):
            return (*step.by, WINDOW_START, WINDOW_END) if step.window.on else (*step.by, WINDOW_START)
        case GroupBy():
            return tuple(k for k in step.keys if isinstance(k, str))
        case Reduce():
            return step.by
        case Unique(keep="last", within=None):
            return step.keys
    return None


def may_follow_changes(step: Operation) -> bool:
    """Whether it can go on with results that are given again when they change."""
    return not (is_stateful(step) or isinstance(step, Filter | Explode | FlatMap | MapBatches | Join | Concat))


#: Aggregates that a group without end cannot have: they need all rows, for ever.
_ENDLESS = ("n_unique", "quantile", "median", "collect")


def refuse_grouping(step: GroupBy) -> None:
    """Refuse groups that a stream cannot keep. Raises DefinitionError."""
    if step.named_keys or not all(isinstance(k, str) for k in step.keys):
        raise DefinitionError(
            "group_by: on a stream keys are columns.",
            where=place_of(step),
            hint='f["hour"] = f["time"].dt.hour(), then f.group_by("hour")',
        )
    for _, aggregate in step.aggregates:
        if not isinstance(aggregate, Aggregate) or aggregate.kind in _ENDLESS:
            raise DefinitionError(
                f"group_by: {aggregate} needs all rows of a group, and on a stream groups have no end.",
                where=place_of(step),
                hint='take a window: f.tumbling_window("1h", on=time, by=key).agg(...).final()',
            )


def place_of(step: Operation) -> str | None:
    """The user's line that recorded it."""
    return None if step.at is None else str(step.at)


def refuse_beyond_rows(step: Operation) -> None:
    """Refuse expressions of stateless steps that look at other rows than their own. Raises DefinitionError."""
    match step:
        case Select() | WithColumns():
            expressions = [*step.columns, *step.named.values()]
        case Filter():
            expressions = list(step.conditions)
        case _:
            return
    for expression in expressions:
        if isinstance(expression, str) or not is_expression(expression):
            continue
        try:
            check_elementwise(expression)
        except DefinitionError as error:
            error.where = error.where or place_of(step)
            raise
