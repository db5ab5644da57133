"""Aggregates: what to compute over the rows of a group or window, as small values that any engine reads.

`tm.agg.mean("speed")` is data, not a computation: a table run turns it into one column of a query, a stream into
state that takes row after row. "Row order" is the order of rows in the input: of a table's files, of a topic's
offsets. It breaks every tie, so that both give the same answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tidemill.model.errors import DefinitionError
from tidemill.model.place import user_place
from tidemill.model.types import parse_type

if TYPE_CHECKING:
    import polars

#: What is aggregated: a column's name, or a Polars expression over the rows.
Of: TypeAlias = "str | polars.Expr"


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """A value computed over the rows of a group or window.

    `kind` is the name of the function below that made it; `of` None stands for the rows themselves.
    """

    kind: str
    of: Of | None

    def __str__(self) -> str:
        return f"{self.kind}({_shown(self.of)})"


@dataclass(frozen=True, slots=True, eq=False)
class Quantile(Aggregate):
    """The value below which a share `q` of the values lies, interpolated linearly between neighbours."""

    q: float

    def __str__(self) -> str:
        return f"quantile({_shown(self.of)}, {self.q})"


@dataclass(frozen=True, slots=True, eq=False)
class ByTime(Aggregate):
    """A value of the row with the least (earliest) or greatest (latest) time `on`; None: the window's time."""

    on: str | None

    def __str__(self) -> str:
        return f"{self.kind}({_shown(self.of)}, on={self.on})"


@dataclass(frozen=True, slots=True, eq=False)
class Fold(Aggregate):
    """A user's function folded over the values in row order."""

    initial: Any
    function: Callable[[Any, Any], Any]
    #: The type of the last state; None: found from the states.
    returns: Any = None

    def __str__(self) -> str:
        return f"reduce({_shown(self.of)}, {getattr(self.function, '__name__', self.function)})"


def sum(of: Of) -> Aggregate:
    """The sum of the values that are not null; 0 where there is none. Integers are summed exactly."""
    return Aggregate("sum", _of("sum", of))


def count(of: Of | None = None) -> Aggregate:
    """How many rows; with `of`, how many values that are not null."""
    return Aggregate("count", None if of is None else _of("count", of))


def mean(of: Of) -> Aggregate:
    """The mean of the values that are not null."""
    return Aggregate("mean", _of("mean", of))


def min(of: Of) -> Aggregate:
    """The least value."""
    return Aggregate("min", _of("min", of))


def max(of: Of) -> Aggregate:
    """The greatest value."""
    return Aggregate("max", _of("max", of))


def first(of: Of) -> Aggregate:
    """The value of the first row in row order, also when it is null."""
    return Aggregate("first", _of("first", of))


def last(of: Of) -> Aggregate:
    """The value of the last row in row order, also when it is null."""
    return Aggregate("last", _of("last", of))


def earliest(of: Of, on: str | None = None) -> ByTime:
    """The value of the row with the least time; of several, the first in row order. Rows without a time do not count.

    Args:
        of: the value.
        on: the time column; inside a window by default the window's.
    """
    return ByTime("earliest", _of("earliest", of), on)


def latest(of: Of, on: str | None = None) -> ByTime:
    """The value of the row with the greatest time; of several, the last in row order. See `earliest`."""
    return ByTime("latest", _of("latest", of), on)


def n_unique(of: Of) -> Aggregate:
    """How many different values there are; null is none."""
    return Aggregate("n_unique", _of("n_unique", of))


def quantile(of: Of, q: float) -> Quantile:
    """The value below which a share `q` (0 to 1) of the values lies, interpolated linearly."""
    return Quantile("quantile", _of("quantile", of), _share(q))


def median(of: Of) -> Quantile:
    """The value in the middle: `quantile(of, 0.5)`."""
    return Quantile("median", _of("median", of), 0.5)


def std(of: Of) -> Aggregate:
    """The standard deviation of a sample (divided by n - 1); null for fewer than two values."""
    return Aggregate("std", _of("std", of))


def collect(of: Of) -> Aggregate:
    """All values as a list, in row order, nulls included."""
    return Aggregate("collect", _of("collect", of))


def reduce(of: Of, initial: Any, function: Callable[[Any, Any], Any], *, returns: Any = None) -> Fold:
    """Fold your function over the values in row order: `state = function(state, value)`.

    Args:
        of: the value; several columns at once as `pl.struct("a", "b")`, which arrive as a dict.
        initial: the state before the first value (copied for every group), or a function without arguments
            that makes it.
        function: takes the state and a value, returns the new state. The last state is the result.
        returns: its type ("long", "list<string>", a Polars type): with it steps behind can be checked before rows come.
    """
    if not callable(function):
        raise DefinitionError(
            f"reduce: {function!r} is no function.",
            where=_where(),
            hint='tm.agg.reduce("x", 0, lambda state, value: state + value)',
        )
    if isinstance(returns, str):
        try:
            parse_type(returns)
        except DefinitionError as error:
            raise DefinitionError(f"reduce: {error.what}", where=_where(), hint=error.hint) from None
    return Fold("reduce", _of("reduce", of), initial, function, returns)


def is_expression(value: object) -> bool:
    """True for a Polars expression. Does not import Polars: without it nobody can have made one."""
    loaded = sys.modules.get("polars")
    return loaded is not None and isinstance(value, loaded.Expr)


def _of(kind: str, of: Any) -> Any:
    if isinstance(of, str) or is_expression(of):
        return of
    raise DefinitionError(
        f"{kind}: {of!r} is neither a column's name nor an expression.",
        where=_where(),
        hint=f'tm.agg.{kind}("x") or tm.agg.{kind}(tm.col("x") * 2)',
    )


def _share(q: Any) -> float:
    if isinstance(q, int | float) and 0 <= q <= 1:
        return float(q)
    raise DefinitionError(f"quantile: {q!r} is no share.", where=_where(), hint='tm.agg.quantile("x", 0.95)')


def _where() -> str | None:
    place = user_place()
    return None if place is None else str(place)


def _shown(of: Any) -> str:
    return "" if of is None else str(of)
