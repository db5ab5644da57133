"""What a step of a frame is on a stream: what it remembers, by which keys and times it goes, whether order matters."""

from __future__ import annotations

from tidemill.model.agg import Aggregate, Fold
from tidemill.model.frame import Frame
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
    MapWithState,
    Operation,
    Reduce,
    Unique,
    Windowed,
)
from tidemill.model.frame.topic import Expect, Topic
from tidemill.model.frame.window import WINDOW_END, WINDOW_START, Count


def is_stateful(step: Operation) -> bool:
    """Whether it remembers rows or what came of them."""
    return isinstance(step, Windowed | GroupBy | JoinAsof | JoinInterval | Unique | Reduce | MapWithState)


def keeps_rows(step: Operation) -> bool:
    """Whether a stateful step gives out rows that it was given, at their old places in the order."""
    return isinstance(step, JoinAsof | JoinInterval | Unique)


def keys_of(step: Operation) -> tuple[str, ...] | None:
    """The columns whose equal values must be in one task; None: it needs none together."""
    match step:
        case Windowed() | JoinAsof() | JoinInterval() | Reduce() | MapWithState():
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
        case JoinAsof() | JoinInterval() | Unique() | MapWithState():
            return step.on
    return None


def in_order_only(step: Operation) -> bool:
    """Whether it must take rows one after the other in their order."""
    match step:
        case Windowed():
            return isinstance(step.window, Count)
        case Unique():
            return step.within is None
        case Reduce() | MapWithState():
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
    selective = Filter | Explode | FlatMap | MapBatches | Join | Concat | Expect
    return not (is_stateful(step) or isinstance(step, selective))


def is_stream(frame: Frame) -> bool:
    """Whether a frame's rows come from a topic; the other kind is a table that is looked up."""
    return isinstance(frame.source.data, Topic)


def place_of(step: Operation) -> str | None:
    """The user's line that recorded it."""
    return None if step.at is None else str(step.at)
