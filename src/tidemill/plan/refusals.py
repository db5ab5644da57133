"""What cannot be done on a stream, or not behind the step before it: refused when a stream is planned, with a hint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidemill.model.agg import Aggregate, is_expression
from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import ConditionExpectation
from tidemill.model.frame.operation import (
    Concat,
    Filter,
    GroupBy,
    Join,
    JoinInterval,
    Operation,
    Select,
    Unique,
    Windowed,
    WithColumns,
)
from tidemill.model.frame.topic import Expect, ToTopic
from tidemill.model.frame.window import WINDOW_END, WINDOW_START, Session
from tidemill.plan.elementwise import check_elementwise
from tidemill.plan.stream_steps import (
    goes_by_order,
    in_order_only,
    is_stateful,
    is_stream,
    keeps_rows,
    may_follow_changes,
    place_of,
)

if TYPE_CHECKING:
    from tidemill.plan.topology import Node


def refuse(step: Operation, parents: Sequence[Node], nodes: Sequence[Node]) -> None:
    """Refuse a step behind others. `nodes`: all that are planned, by number.

    Raises:
        DefinitionError: it cannot be done.
    """
    if isinstance(step, Join):
        _refuse_join(step)
    if isinstance(step, GroupBy):
        _refuse_grouping(step)
    _refuse_beyond_rows(step)
    if any(parent.changing is not None for parent in parents) and not may_follow_changes(step):
        raise DefinitionError(
            f"{step.verb}: what comes before it gives results again when they change, so this would count "
            "old ones, too.",
            where=place_of(step),
            hint=".final() instead of .current() gives each window once, when it has closed",
        )
    by_order = in_order_only(step) or (isinstance(step, GroupBy) and goes_by_order(step))
    if by_order and any(_holds_alone(parent, nodes) for parent in parents):
        raise DefinitionError(
            f"{step.verb}: it goes by the order of rows, and right rows that an outer join has met with none have "
            "no place in it.",
            where=place_of(step),
            hint='join_interval(..., how="left"), or a window over time',
        )


def _refuse_join(step: Join) -> None:
    if is_stream(step.other):
        raise DefinitionError(
            "join: two streams would have to remember every row.",
            where=place_of(step),
            hint="f.join_interval(other, on=time, within=...), or f.join_asof(other, on=time)",
        )
    if step.how in ("right", "outer"):
        raise DefinitionError(
            f'join: how="{step.how}" gives rows of the table that no message meets, and a stream has no end at '
            "which that is known.",
            where=place_of(step),
            hint='how="left" gives every message',
        )


#: Aggregates that a group without end cannot have: they need all rows, for ever.
_ENDLESS = ("n_unique", "quantile", "median", "collect", "std", "reduce")


def _refuse_grouping(step: GroupBy) -> None:
    if step.named_keys or not all(isinstance(k, str) for k in step.keys):
        raise DefinitionError(
            "group_by: on a stream keys are columns.",
            where=place_of(step),
            hint='f["hour"] = f["time"].dt.hour(), then f.group_by("hour")',
        )
    for _, aggregate in step.aggregates:
        if isinstance(aggregate, Aggregate) and aggregate.kind == "reduce":
            raise DefinitionError(
                f"group_by: {aggregate} is a verb of its own on a stream.",
                where=place_of(step),
                hint='f.reduce("key", {"total": 0}, function)',
            )
        if not isinstance(aggregate, Aggregate) or aggregate.kind in _ENDLESS:
            raise DefinitionError(
                f"group_by: {aggregate} needs all rows of a group, and on a stream groups have no end.",
                where=place_of(step),
                hint='take a window: f.tumbling_window("1h", on=time, by=key).agg(...).final()',
            )


def refuse_time(step: Operation, column: str, made_at: Node, nodes: Sequence[Node]) -> None:
    """Refuse a time column, which is made at a node, where rows do not come in an order that it can go by.

    Raises:
        DefinitionError: `step` cannot go by it.
    """
    made_by = made_at.step
    if isinstance(made_by, Windowed) and isinstance(made_by.window, Session) and column == WINDOW_START:
        raise DefinitionError(
            f"{step.verb}: sessions do not end in the order of their starts.",
            where=place_of(step),
            hint=f'on="{WINDOW_END}"',
        )
    if _holds_alone(made_at, nodes):
        raise DefinitionError(
            f'{step.verb}: "{column}" is made of right rows, too, that an outer join has met with none, and they have '
            "no place in the order of rows.",
            where=place_of(step),
            hint='join_interval(..., how="left"), or the left frame\'s own time',
        )
    if _is_doubled(made_at, nodes):
        raise DefinitionError(
            f'{step.verb}: "{column}" is made where rows of one partition have come together again by several '
            "ways, which are not in step.",
            where=place_of(step),
            hint="make it earlier: right behind the topic, or in each of the frames before f.concat",
        )


def _holds_alone(node: Node, nodes: Sequence[Node]) -> bool:
    """Whether among its rows are right rows alone, of an outer join."""
    if isinstance(node.step, JoinInterval) and node.step.how == "outer":
        return True
    return _hands_on(node) and any(_holds_alone(nodes[parent], nodes) for parent in _left(node))


def _is_doubled(node: Node, nodes: Sequence[Node]) -> bool:
    """Whether rows of one origin come to it by several ways, so that they are not in their order there."""
    if isinstance(node.step, Concat):
        origins = [_origins(nodes[parent], nodes) for parent in node.parents]
        if sum(map(len, origins)) > len(frozenset[int]().union(*origins)):
            return True
    if node.kind == "exchange" and _is_scattered(nodes[node.parents[0]], nodes):
        return True
    return _hands_on(node) and any(_is_doubled(nodes[parent], nodes) for parent in _left(node))


def _is_scattered(node: Node, nodes: Sequence[Node]) -> bool:
    """Whether rows of one lane are in several tasks there."""
    if node.kind == "exchange" and node.spread.tasks > 1:
        return True
    return _hands_on(node) and any(_is_scattered(nodes[parent], nodes) for parent in _left(node))


def _origins(node: Node, nodes: Sequence[Node]) -> frozenset[int]:
    """The nodes that begin the lanes of its rows."""
    if not _hands_on(node):
        return frozenset({node.number})
    return frozenset[int]().union(*(_origins(nodes[parent], nodes) for parent in _left(node)))


def _hands_on(node: Node) -> bool:
    """Whether its rows are those of its parents, at their places."""
    return bool(node.parents) and (node.step is None or not is_stateful(node.step) or keeps_rows(node.step))


def _left(node: Node) -> tuple[int, ...]:
    """The parents whose places its rows have: of a join the left one."""
    return node.parents if node.step is None or isinstance(node.step, Concat | Unique) else node.parents[:1]


def _refuse_beyond_rows(step: Operation) -> None:
    """Refuse expressions of stateless steps that look at other rows than their own. Raises DefinitionError."""
    match step:
        case Select() | WithColumns():
            expressions = [*step.columns, *step.named.values()]
        case Filter():
            expressions = list(step.conditions)
        case ToTopic():
            expressions = [step.chosen]
        case Expect():
            expressions = [check.condition for check in step.checks if isinstance(check, ConditionExpectation)]
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
