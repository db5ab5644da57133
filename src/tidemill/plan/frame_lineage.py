"""Which columns a frame's columns come from, by its recorded steps.

    frame, its columns after each step -> Derivation

The steps are data, so nothing is run. Where a user's Python function gets whole rows, what it does with them is unknown
and told as such: what it gives may come from every column that it got.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tidemill.model.agg import Aggregate, ByTime
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.operation import (
    Cast,
    Concat,
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
from tidemill.model.frame.window import WINDOW_END, WINDOW_START
from tidemill.model.lineage import (
    ColumnName,
    Derivation,
    Derived,
    Origin,
    Origins,
    computed,
    deciding,
    joined,
    unknown_of,
)
from tidemill.plan.columns import plain
from tidemill.plan.elementwise import selectors_of, uses_of

#: Gives a frame's columns in order; None: a user's function decides.
ColumnsOf: TypeAlias = "Callable[[Frame], Sequence[str] | None]"
#: The table or topic that an input is; None: none (rows in memory).
TableOf: TypeAlias = "Callable[[Input], str | None]"

_Right: TypeAlias = "Join | JoinLookup | JoinAsof | JoinInterval"


def frame_lineage(frame: Frame, columns_of: ColumnsOf, table_of: TableOf, result: Sequence[str] = ()) -> Derivation:
    """Which columns each column of a frame's result comes from.

    Args:
        frame: its steps.
        columns_of: gives the columns of frames over the same inputs.
        table_of: the table or topic that an input is; None: it is none.
        result: the columns that the result is known to have, where a function decides on them.

    Raises:
        UserError: a step names a column that is not there.
    """
    state = _Walk(columns_of, table_of).through(frame)
    if state.fog is not None:
        return Derivation(tuple(Derived(name, state.fog) for name in result), unknown=_PYTHON if not result else "")
    columns = tuple(Derived(name, origins) for name, origins in state.columns.items())
    return Derivation(columns, frozenset(state.decides))


_PYTHON = "A Python function decides which columns there are."


@dataclass
class _State:
    """What is known after a step.

    Args:
        columns: by name, in order.
        decides: what steers the rows.
        fog: what everything may come from, where a function decided which columns there are.
    """

    columns: dict[str, Origins] = field(default_factory=dict)
    decides: Origins = field(default_factory=dict)
    fog: Origins | None = None

    @property
    def everything(self) -> Origins:
        """All that may be in it, as what a function of whole rows gives."""
        return unknown_of(joined(self.fog or {}, self.decides, *self.columns.values()))

    def get(self, name: str) -> Origins:
        """What a column comes from."""
        return self.columns.get(name, {}) if self.fog is None else self.fog

    def all(self, names: Iterable[str]) -> dict[ColumnName, Origin]:
        """What several come from together."""
        return joined(*(self.get(name) for name in names))

    def steered(self, *by: Origins) -> Origins:
        """What steers its rows, with more that does."""
        return joined(self.decides, deciding(*by))


class _Walk:
    def __init__(self, columns_of: ColumnsOf, table_of: TableOf) -> None:
        self._columns_of, self._table_of = columns_of, table_of

    def through(self, frame: Frame) -> _State:
        """What is known after the last step."""
        state = self._start(frame)
        for at, step in enumerate(frame.operations, start=1):
            before = Frame(frame.source, frame.operations[: at - 1])
            names = self._columns_of(Frame(frame.source, frame.operations[:at]))
            state = self._after(step, state, before, names)
            if names is None:
                others = [self.through(other).everything for other in step.others]
                state = _State(fog=joined(state.everything, *others))
            elif state.fog is None:
                state.columns = {name: state.columns.get(name, {}) for name in names}
        return state

    def _start(self, frame: Frame) -> _State:
        alone = Frame(frame.source)
        names, table = self._columns_of(alone), self._table_of(frame.source)
        if names is None:
            return _State(fog={})
        if table is None:
            return _State({name: {} for name in names})
        return _State({name: {ColumnName(table, name): Origin.COPIED} for name in names})

    def _after(self, step: Operation, state: _State, before: Frame, names: Sequence[str] | None) -> _State:
        columns = state.columns
        match step:
            case Sink():
                return state
            case Filter():
                going = [self._value(one, state, before) for one in step.conditions]
                return _State(columns, state.steered(*going), state.fog)
            case FilterRows():  # any column may decide, and each stays what it is
                return _State(columns, state.steered(state.everything), state.fog)
            case Expect():
                going = [state.get(name) for check in step.checks for name in _names_of(check)] if step.drops else []
                return _State(columns, state.steered(*going), state.fog)
            case Unique():
                keys = [*step.keys, *([step.on] if step.on is not None else [])] or list(columns)
                return _State(columns, state.steered(state.all(keys)), state.fog)
            case Rename():
                older = {new: old for old, new in step.names.items()}
                return _State({name: state.get(older.get(name, name)) for name in names or ()}, state.decides)
            case Drop():
                return state
            case Cast():
                cast = {name: computed(state.get(name)) for name in step.types}
                return _State({**columns, **cast}, state.decides, state.fog)
            case Explode():
                of = computed(state.all(step.columns))
                made = {**columns, **{name: computed(state.get(name)) for name in step.columns}}
                return _State(made, state.steered(of), state.fog)
            case Unnest():
                of = computed(state.all(step.columns))
                kept = {name: found for name, found in columns.items() if name not in step.columns}
                return _State({name: kept.get(name, of) for name in names or ()}, state.decides, state.fog)
            case Select() | WithColumns():
                made = {} if isinstance(step, Select) else dict(columns)
                made |= self._made(step.columns, state, before)
                made |= {name: self._value(one, state, before) for name, one in step.named.items()}
                return _State(made, state.decides, state.fog)
            case GroupBy():
                return self._grouped(step, state, before)
            case Windowed():
                on = {} if step.window.on is None else state.get(step.window.on)
                made = {name: state.get(name) for name in step.by}
                made |= {WINDOW_START: computed(on), WINDOW_END: computed(on)}
                made |= self._aggregated(step.aggregates, state, before, step.window.on)
                return _State(made, state.steered(state.all(step.by), on))
            case Concat():
                parts = [state, *map(self.through, step.frames)]
                made = {name: joined(*(part.get(name) for part in parts)) for name in names or ()}
                return _State(made, joined(*(part.decides for part in parts)))
            case Join() | JoinLookup() | JoinAsof() | JoinInterval():
                return self._joined(step, state, names or ())
            case MapWithState():
                made = dict.fromkeys(names or (), state.everything)
                made |= {name: state.get(name) for name in step.carried}
                return _State(made, state.steered(state.everything), None if names is not None else state.everything)
            case Reduce():
                made = dict.fromkeys(names or (), state.everything)
                made |= {name: state.get(name) for name in step.by}
                return _State(made, state.steered(state.all(step.by)), None if names is not None else state.everything)
        # `Calls`, and whatever is not known here.
        made = dict.fromkeys(names or (), state.everything)
        return _State(made, {}, state.everything if names is None else None)

    # Expressions

    def _value(self, expression: Any, state: _State, before: Frame) -> Origins:
        """What one value comes from: columns that are named, and all of those that are chosen."""
        found = _named(expression, state)
        if getattr(expression, "meta", None) is None or not _several(expression):
            return found
        chosen = [self._columns_of(before.select(one)) or () for one in selectors_of(expression)]
        return computed(found, *(state.all(some) for some in chosen))

    def _made(self, expressions: Iterable[Any], state: _State, before: Frame) -> dict[str, Origins]:
        """Columns that expressions make, under the names that they give themselves."""
        made: dict[str, Origins] = {}
        for one in expressions:
            if isinstance(one, str):
                made[one] = state.get(one)
            elif not _several(one):
                made[str(one.meta.output_name())] = self._value(one, state, before)
            else:
                made |= self._many(one, state, before)
        return made

    def _many(self, expression: Any, state: _State, before: Frame) -> dict[str, Origins]:
        """Columns of one expression of several, `cs.numeric() * 2`: each of the one in its place, where they pair."""
        names = self._columns_of(before.select(expression)) or ()
        plainly = _named(expression, state)
        chosen = [self._columns_of(before.select(one)) or () for one in selectors_of(expression)]
        alone = uses_of(expression).bare
        made: dict[str, Origins] = {}
        for at, name in enumerate(names):
            taken = [state.get(some[at]) for some in chosen if len(some) == len(names)]
            taken += [state.all(some) for some in chosen if len(some) != len(names)]
            made[name] = joined(plainly, *taken) if alone else computed(plainly, *taken)
        return made

    # Steps of many rows

    def _grouped(self, step: GroupBy, state: _State, before: Frame) -> _State:
        made = self._made(step.keys, state, before)
        made |= {name: self._value(one, state, before) for name, one in step.named_keys.items()}
        keys = list(made.values())
        made |= self._aggregated(step.aggregates, state, before, None)
        return _State(made, state.steered(*keys))

    def _aggregated(
        self, aggregates: Iterable[tuple[str | None, Any]], state: _State, before: Frame, on: str | None
    ) -> dict[str, Origins]:
        made: dict[str, Origins] = {}
        for name, one in aggregates:
            if isinstance(one, Aggregate):
                steers: Origins = {}
                if isinstance(one, ByTime):
                    time = one.on or on
                    steers = {} if time is None else deciding(state.get(time))
                value = {} if one.of is None else computed(self._value(one.of, state, before))
                made[str(name)] = joined(value, steers)
            elif name is not None:
                made[name] = computed(self._value(one, state, before))
            else:
                made |= {given: computed(of) for given, of in self._made([one], state, before).items()}
        return made

    def _joined(self, step: _Right, left: _State, names: Sequence[str]) -> _State:
        right = self.through(step.other)
        if left.fog is not None or right.fog is not None:
            fog = joined(left.everything, right.everything)
            return _State(dict.fromkeys(names, fog), {}, fog)
        match step:
            case JoinAsof() | JoinInterval():
                pairs = tuple((name, name) for name in step.by)
                times = [left.get(step.on), right.get(step.on)]
            case _:
                pairs, times = step.on, []
        keys = deciding(left.all(a for a, _ in pairs), right.all(b for _, b in pairs), *times)
        if step.how in ("semi", "anti"):
            return _State(left.columns, joined(left.decides, deciding(right.decides), keys))
        made: dict[str, Origins] = {}
        one_each = isinstance(step, JoinLookup | JoinAsof)
        for name in names:
            of, from_right = _side(step, name, left, right, dict(pairs))
            # A lookup leaves the rows as they are: it steers only what it brings.
            made[name] = joined(of, keys, deciding(right.decides)) if one_each and from_right else of
        if one_each:
            return _State(made, left.decides)
        return _State(made, joined(left.decides, right.decides, keys))


def _side(step: _Right, name: str, left: _State, right: _State, on: Mapping[str, str]) -> tuple[Origins, bool]:
    """What a column of a join comes from, and whether it is the right frame's. Right ones of a taken name have it with
    `_right`; a key is there once, under the left name, or the right one's in a right join.
    """
    if step.how == "right":
        kept = {one: of for one, of in left.columns.items() if one not in on}
        brought = right.columns
    else:
        kept = left.columns
        brought = {one: of for one, of in right.columns.items() if one not in on.values()}
        if isinstance(step, JoinAsof):
            brought.pop(step.on, None)
    if name in kept:
        if step.how == "outer" and name in on:
            return computed(kept[name], right.get(on[name])), False
        return kept[name], False
    if name in brought:
        return brought[name], True
    return brought.get(name.removesuffix("_right"), {}), True


def _several(expression: Any) -> bool:
    return bool(expression.meta.has_multiple_outputs() or expression.meta.is_regex_projection())


def _named(expression: Any, state: _State) -> Origins:
    """What an expression comes from, by the columns that it names; a text is a column's name."""
    if isinstance(expression, str):
        return state.get(expression)
    if getattr(expression, "meta", None) is None:
        return {}  # a plain value
    name = plain(expression)
    if name is not None:
        return state.get(name)
    uses = uses_of(expression)
    return joined(computed(state.all(uses.values)), deciding(state.all(uses.steers)))


def _names_of(check: Any) -> Sequence[str]:
    return tuple(check.columns)
