"""Kinds of windows, and the half-said sentences `f.tumbling_window(...)` and `.agg(...)` on the way to a frame."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

from tidemill.model.duration import duration_text
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.arguments import read_aggregates, where
from tidemill.model.frame.operation import Emit, GroupBy, Windowed

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame

#: Columns of every window's result.
WINDOW_START = "window_start"
WINDOW_END = "window_end"


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows [k * every, (k + 1) * every) since 1970-01-01 UTC: each row is in exactly one."""

    on: str
    every: timedelta

    def __str__(self) -> str:
        return f"on={self.on} every={duration_text(self.every)}"


@dataclass(frozen=True, slots=True)
class Hopping:
    """Windows [k * every, k * every + size) since 1970-01-01 UTC: a row may be in several, or in none."""

    on: str
    every: timedelta
    size: timedelta

    def __str__(self) -> str:
        return f"on={self.on} every={duration_text(self.every)} size={duration_text(self.size)}"


@dataclass(frozen=True, slots=True)
class Sliding:
    """A window (t - size, t] for each different time t of a key: what was seen in the last `size`."""

    on: str
    size: timedelta

    def __str__(self) -> str:
        return f"on={self.on} size={duration_text(self.size)}"


@dataclass(frozen=True, slots=True)
class Session:
    """Rows of a key that follow each other by at most `gap`; from the first row's time to the last row's."""

    on: str
    gap: timedelta

    def __str__(self) -> str:
        return f"on={self.on} gap={duration_text(self.gap)}"


@dataclass(frozen=True, slots=True)
class Count:
    """Every `size` rows of a key in row order; start and end are row numbers, [start, end). The last may be short."""

    size: int

    def __str__(self) -> str:
        return f"size={self.size}"

    @property
    def on(self) -> None:
        """Count windows know no time."""
        return


Window: TypeAlias = "Tumbling | Hopping | Sliding | Session | Count"


class HalfSaid:
    """Something that is no frame yet; says what is missing when it is used as one."""

    __slots__ = ()
    #: What to say next, for messages.
    missing: ClassVar[str]

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise IncompleteFrame(self._used(f".{name}"), where=where(), hint=self.missing)

    def __getitem__(self, name: object) -> NoReturn:
        raise IncompleteFrame(self._used(f"[{name!r}]"), where=where(), hint=self.missing)

    def _used(self, used: str) -> str:
        return f"This is no frame yet, so {used} cannot follow."


class IncompleteFrame(DefinitionError, AttributeError):
    """A verb was called on a grouping or window that is not finished; also an AttributeError for `hasattr`."""

    __str__ = DefinitionError.__str__


class WindowOf(HalfSaid):
    """A frame cut into windows, before it is said what to compute over them."""

    __slots__ = ("_by", "_frame", "_grace", "_window")
    missing = 'say what to compute: .agg(n=tm.agg.count(), mean_x=tm.agg.mean("x")).final()'

    def __init__(self, frame: Frame, window: Window, by: tuple[str, ...], grace: timedelta) -> None:
        self._frame = frame
        self._window = window
        self._by = by
        self._grace = grace

    def agg(self, *aggregates: Any, **named: Any) -> WindowResults:
        """Say what to compute over each window's rows: `tm.agg` values by name, or Polars aggregate expressions."""
        taken = (*self._by, WINDOW_START, WINDOW_END)
        read = read_aggregates("agg", aggregates, named, taken=taken, on=self._window.on)
        return WindowResults(self._frame, self._window, self._by, self._grace, read)


class WindowResults(HalfSaid):
    """Windows with aggregates, before it is said when a stream gives them out."""

    __slots__ = ("_aggregates", "_by", "_frame", "_grace", "_window")
    missing = "say when results are given: .final() (a closed window, once) or .current() (at every change)"

    def __init__(
        self,
        frame: Frame,
        window: Window,
        by: tuple[str, ...],
        grace: timedelta,
        aggregates: tuple[tuple[str | None, Any], ...],
    ) -> None:
        self._frame = frame
        self._window = window
        self._by = by
        self._grace = grace
        self._aggregates = aggregates

    def final(self) -> Frame:
        """Each window once, with its last result."""
        return self._emit("final")

    def current(self) -> Frame:
        """On a stream a window's result whenever it changes; on a table the same as `final`."""
        return self._emit("current")

    def _emit(self, emit: Emit) -> Frame:
        return self._frame.then(
            lambda at: Windowed(
                at=at, window=self._window, by=self._by, aggregates=self._aggregates, emit=emit, grace=self._grace
            )
        )


class GroupOf(HalfSaid):
    """A frame grouped by keys, before it is said what to compute."""

    __slots__ = ("_frame", "_keys", "_named")
    missing = 'say what to compute: .agg(n=tm.agg.count(), mean_x=tm.agg.mean("x"))'

    def __init__(self, frame: Frame, keys: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._frame = frame
        self._keys = keys
        self._named = named

    def agg(self, *aggregates: Any, **named: Any) -> Frame:
        """One row for each group: `tm.agg` values by name, or Polars aggregate expressions."""
        taken = (*(k for k in self._keys if isinstance(k, str)), *self._named)
        read = read_aggregates("agg", aggregates, named, taken=taken, on=None)
        return self._frame.then(lambda at: GroupBy(at=at, keys=self._keys, named_keys=self._named, aggregates=read))
