"""The steps that a frame records. They are data: an engine runs them over tables, a stream runner over micro-batches.

Stateless steps look at one row at a time (or at rows in any cut); stateful ones (`GroupBy`, `Windowed`, the joins,
`Unique`, `Reduce`, `MapWithState`) look at many. Expressions in them are Polars expressions, nothing else of Polars is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from tidemill.model.agg import Fold
from tidemill.model.duration import duration_text
from tidemill.model.frame.row import Row
from tidemill.model.frame.state import State
from tidemill.model.place import Place

if TYPE_CHECKING:
    import polars

    from tidemill.model.frame.frame import Frame
    from tidemill.model.frame.window import Window

#: A column's type: Tidemill's text ("long", "list<string>"), or a Polars type.
ColumnType: TypeAlias = "str | Any"
#: A column's name, a Polars expression, or (where a name is given) a plain value.
Expression: TypeAlias = "str | polars.Expr | Any"

JoinHow = Literal["inner", "left", "right", "outer", "semi", "anti"]
IntervalHow = Literal["inner", "left", "outer"]
#: Kinds of joins that give nothing where the left frame has nothing.
_LEFT = ("inner", "left", "semi", "anti")

#: Arguments that `explain` prints as one list.
_EXPRESSIONS = ("columns", "named", "conditions", "keys", "named_keys")

Keep = Literal["first", "last"]
Emit = Literal["final", "current"]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Operation:
    """One step. `at` is the line of the user's file that recorded it."""

    at: Place | None

    @property
    def verb(self) -> str:
        """The verb of frames that recorded it; each kind of step has its own."""
        raise AttributeError("verb")

    def __str__(self) -> str:
        shown = {f.name: _shown(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "at"}
        expressions = ", ".join(text for name, text in shown.items() if text and name in _EXPRESSIONS)
        others = (text for name, text in shown.items() if text and name not in _EXPRESSIONS)
        return " ".join(part for part in (self.verb, expressions, *others) if part)

    @property
    def keeps_empty(self) -> bool:
        """True where the result has no rows if the frame has none, whatever is in other frames."""
        return not self.others or getattr(self, "how", None) in _LEFT

    @property
    def others(self) -> tuple[Frame, ...]:
        """The frames that this step brings in beside its own."""
        other = getattr(self, "other", None)
        return getattr(self, "frames", ()) if other is None else (other,)

    @property
    def functions(self) -> tuple[Callable[..., Any], ...]:
        """The user's Python functions that this step calls."""
        holders = (self, *(aggregate for _, aggregate in getattr(self, "aggregates", ())))
        return tuple(h.function for h in holders if isinstance(h, Calls | Reduce | Fold))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Select(Operation):
    """Keep, compute and order columns."""

    verb = "select"
    columns: tuple[Expression, ...]
    named: Mapping[str, Expression]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class WithColumns(Operation):
    """Add or replace columns."""

    verb = "with_columns"
    columns: tuple[Expression, ...]
    named: Mapping[str, Expression]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Filter(Operation):
    """Keep rows for which all conditions hold; null is not true."""

    verb = "filter"
    conditions: tuple[Expression, ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Rename(Operation):
    """Give columns new names (old -> new)."""

    verb = "rename"
    names: Mapping[str, str]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Drop(Operation):
    """Leave columns out."""

    verb = "drop"
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Cast(Operation):
    """Change columns' types. A value that does not fit the new type is an error."""

    verb = "cast"
    types: Mapping[str, ColumnType]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Explode(Operation):
    """One row for each element of a list; an empty list gives none, a null list one with null."""

    verb = "explode"
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Unnest(Operation):
    """The fields of a struct become columns in its place."""

    verb = "unnest"
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Calls(Operation):
    """A step that calls a user's Python function.

    `adds` declares the types of columns beyond the input's, `returns` of all columns. With neither, types are
    found from what the function returned over the whole input, so the result must be held before it goes on.
    """

    function: Callable[..., Any]
    adds: Mapping[str, ColumnType] | None
    returns: Mapping[str, ColumnType] | None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MapRows(Calls):
    """`function(row) -> row`: one row out for each row in."""

    verb = "map_rows"
    function: Callable[[Row], Mapping[str, Any]]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FlatMap(Calls):
    """`function(row) -> rows`: any number of rows out for each row in."""

    verb = "flat_map"
    function: Callable[[Row], Iterable[Mapping[str, Any]]]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FilterRows(FlatMap):
    """The rows for which a user's function returns something true; `function` gives the row, or none."""

    verb = "filter"

    @classmethod
    def by(cls, at: Place | None, decides: Callable[[Row], Any]) -> FilterRows:
        """The step for a function that decides."""

        @wraps(decides)
        def kept(row: Row) -> Iterable[Row]:
            return [row] if decides(Row(row)) else []  # of its own: what it changes there goes no further

        return cls(at=at, function=kept, adds={}, returns=None)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MapBatches(Calls):
    """`function(polars.DataFrame) -> polars.DataFrame`, called on some rows at a time, cut anywhere."""

    verb = "map_batches"
    function: Callable[[polars.DataFrame], polars.DataFrame]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MapWithState(Calls):
    """`function(row, state) -> rows` over the rows of each key by their times, ties by row order.

    A result has the key and the time of the row that it was made of. What was last written more than `ttl` before
    a row's time is not in the state that the function gets with it.
    """

    verb = "map_with_state"
    function: Callable[[Row, State], Mapping[str, Any] | Iterable[Mapping[str, Any]] | None]
    by: tuple[str, ...]
    on: str
    ttl: timedelta | None

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that a result has from its row."""
        return tuple(dict.fromkeys((*self.by, self.on)))


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Concat(Operation):
    """This frame's rows, then the others'. Columns match by name, a missing one is null."""

    verb = "concat"
    frames: tuple[Frame, ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class GroupBy(Operation):
    """One row for each group, in the order in which groups first appear."""

    verb = "group_by"
    keys: tuple[Expression, ...]
    named_keys: Mapping[str, Expression]
    aggregates: tuple[tuple[str | None, Any], ...]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Windowed(Operation):
    """One row for each window and key: the keys, `window_start`, `window_end`, the aggregates.

    `emit` matters on streams only: `final` gives a window once it has closed, `current` whenever it changes.
    On a table both give each window's last result. `grace` is how long a stream waits for late rows; a table
    knows no lateness. Rows without an event time belong to no window.
    """

    window: Window
    by: tuple[str, ...]
    aggregates: tuple[tuple[str | None, Any], ...]
    emit: Emit
    grace: timedelta

    @property
    def verb(self) -> str:
        """By the kind of window."""
        return f"{type(self.window).__name__.lower()}_window"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Join(Operation):
    """Rows of both frames with equal keys. Null equals nothing. Right columns of a taken name get `_right`."""

    verb = "join"
    other: Frame
    on: tuple[tuple[str, str], ...]
    how: JoinHow


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class JoinLookup(Operation):
    """Every row with the columns of the one row of `other` that has its key, nulls where there is none."""

    verb = "join_lookup"
    other: Frame
    on: tuple[tuple[str, str], ...]
    how: ClassVar[JoinHow] = "left"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class JoinAsof(Operation):
    """Every row with the columns of the latest row of `other` that is not later, of the same `by`.

    Of several at one time the last in row order; none that is older than `tolerance`.
    """

    verb = "join_asof"
    other: Frame
    on: str
    by: tuple[str, ...]
    tolerance: timedelta | None
    how: ClassVar[JoinHow] = "left"


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class JoinInterval(Operation):
    """Pairs of rows of the same `by` where the right time is in [left - before, left + after]."""

    verb = "join_interval"
    other: Frame
    on: str
    by: tuple[str, ...]
    before: timedelta
    after: timedelta
    how: IntervalHow


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Unique(Operation):
    """One row for each key: the first or last in row order.

    With `within`, rows of a key whose times `on` follow each other by at most `within` are one event, of which
    the first (last) by time stays, ties by row order; a row without a time always stays.
    """

    verb = "unique"
    keys: tuple[str, ...]
    keep: Keep
    on: str | None
    within: timedelta | None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Reduce(Operation):
    """`state = function(state, row)` over the rows of each key in row order; one row a key: `by`, then the state."""

    verb = "reduce"
    by: tuple[str, ...]
    initial: Any
    function: Callable[[Any, Row], Mapping[str, Any]]


def _shown(name: str, value: Any) -> str:
    """One argument as `explain` prints it."""
    if value is None or (isinstance(value, tuple | Mapping) and not value):  # an expression has no truth
        return ""
    if name in ("other", "frames"):
        return ""  # printed below the step, indented
    if name == "function":
        return function_name(value)
    if name in ("columns", "conditions", "keys", "window"):
        return ", ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
    if name in ("named", "named_keys", "types", "adds", "returns", "names"):
        text = ", ".join(f"{k}={v}" for k, v in value.items())
        return f"{name}({text})" if name in ("adds", "returns") else text
    if name == "aggregates":
        return "-> " + ", ".join(str(a) if n is None else f"{n}={a}" for n, a in value)
    if isinstance(value, timedelta):
        return f"{name}={duration_text(value)}" if value else ""
    if isinstance(value, tuple):
        return f"{name}=" + ",".join(v if isinstance(v, str) else v[0] if v[0] == v[1] else "=".join(v) for v in value)
    return f"{name}={value}"


def function_name(function: Callable[..., Any]) -> str:
    """How messages call a user's function."""
    return getattr(function, "__name__", None) or repr(function)
