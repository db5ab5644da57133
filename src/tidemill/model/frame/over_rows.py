"""The verbs that look at many rows: groups, windows, what keeps one row of several, and functions with a memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tidemill.model.duration import Duration, read_duration
from tidemill.model.frame import arguments as read
from tidemill.model.frame.operation import ColumnType, Expression, Keep, MapWithState, Reduce, Unique
from tidemill.model.frame.recording import Recording
from tidemill.model.frame.row import Row
from tidemill.model.frame.state import State
from tidemill.model.frame.window import (
    WINDOW_END,
    WINDOW_START,
    Count,
    GroupOf,
    Hopping,
    Session,
    Sliding,
    Tumbling,
    Window,
    WindowOf,
)

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame


class OverRows(Recording):
    """Verbs over many rows."""

    __slots__ = ()

    def group_by(self, *keys: Expression | Iterable[Expression], **named: Expression) -> GroupOf:
        """Groups of rows with equal keys; go on with `.agg(...)`. Null is a key like any other."""
        positional, keyword = read.read_expressions("group_by", keys), read.read_named("group_by", named)
        if not positional and not keyword:
            raise read.wrong("group_by: there is no key.", 'f.group_by("key").agg(n=tm.agg.count())')
        return GroupOf(self._as_it_is(), positional, keyword)

    def tumbling_window(
        self, every: Duration, *, on: str, by: str | Sequence[str] | None = None, grace: Duration = "0s"
    ) -> WindowOf:
        """Windows of one length, side by side since 1970-01-01 UTC; go on with `.agg(...).final()`.

        Args:
            every: the length, such as "10s" or "1h".
            on: the column with the event time (a timestamp or date).
            by: the columns that make the key; none: one key for all.
            grace: how long a stream waits for late rows. A table has none.
        """
        window = Tumbling(read.read_name("tumbling_window", "on", on), self._long("every", every))
        return self._window("tumbling_window", window, by, grace)

    def hopping_window(
        self, every: Duration, size: Duration, *, on: str, by: str | Sequence[str] | None = None, grace: Duration = "0s"
    ) -> WindowOf:
        """Windows of length `size` that begin every `every` since 1970-01-01 UTC. See `tumbling_window`."""
        window = Hopping(
            read.read_name("hopping_window", "on", on), self._long("every", every), self._long("size", size)
        )
        return self._window("hopping_window", window, by, grace)

    def sliding_window(
        self, size: Duration, *, on: str, by: str | Sequence[str] | None = None, grace: Duration = "0s"
    ) -> WindowOf:
        """For each different time t of a key the window (t - size, t]. See `tumbling_window`."""
        window = Sliding(read.read_name("sliding_window", "on", on), self._long("size", size))
        return self._window("sliding_window", window, by, grace)

    def session_window(
        self, gap: Duration, *, on: str, by: str | Sequence[str] | None = None, grace: Duration = "0s"
    ) -> WindowOf:
        """Runs of rows of a key that follow each other by at most `gap`, first to last. See `tumbling_window`."""
        window = Session(read.read_name("session_window", "on", on), self._long("gap", gap))
        return self._window("session_window", window, by, grace)

    def count_window(self, size: int, *, by: str | Sequence[str] | None = None) -> WindowOf:
        """Every `size` rows of a key, in row order; start and end are row numbers. The last one may be short."""
        return self._window("count_window", Count(read.read_count("count_window", size)), by, "0s")

    def _long(self, name: str, value: Duration) -> timedelta:
        return read_duration(value, name, where=read.where())

    def _window(self, verb: str, window: Window, by: Any, grace: Duration) -> WindowOf:
        keys = read.read_names(verb, "by", by, empty=True)
        for name in keys:
            if name in (WINDOW_START, WINDOW_END):
                raise read.wrong(
                    f'{verb}: "{name}" cannot be a key, the result has its own.',
                    f'f.rename({{"{name}": "outer_{name}"}})',
                )
        return WindowOf(self._as_it_is(), window, keys, read_duration(grace, "grace", where=read.where(), zero=True))

    def unique(
        self,
        keys: str | Sequence[str],
        *,
        keep: Keep = "first",
        within: Duration | None = None,
        on: str | None = None,
    ) -> Frame:
        """One row for each key.

        Args:
            keys: the columns that make the key.
            keep: the first or the last row of a key, in row order.
            within: rows of a key that follow each other by at most this are one; later ones are new. Streams
                need it, or they would have to remember every key.
            on: the time column, needed with `within`.
        """
        names = read.read_names("unique", "keys", keys)
        chosen = read.read_choice("unique", "keep", keep, ("first", "last"))
        if (within is None) != (on is None):
            raise read.wrong("unique: within= and on= go together.", 'f.unique("id", within="1h", on="time")')
        bound = None if within is None else read_duration(within, "within", where=read.where())
        return self.then(lambda at: Unique(at=at, keys=names, keep=chosen, on=on, within=bound))

    def reduce(self, by: str | Sequence[str], initial: Any, function: Callable[[Any, Row], Mapping[str, Any]]) -> Frame:
        """Fold your function over the rows of each key, in row order: `state = function(state, row)`.

        Args:
            by: the columns that make the key.
            initial: a dict, copied for each key, or a function without arguments that makes one.
            function: takes the state and a row, returns the new state (a dict; may be the same, changed).

        The result has one row for each key: the key's columns and the state's.
        """
        names, folded = read.read_names("reduce", "by", by), read.read_function("reduce", function)
        if not isinstance(initial, Mapping) and not callable(initial):
            raise read.wrong(
                f"reduce: initial={initial!r} is no dict.",
                'f.reduce("key", {"total": 0}, function); for one value: .agg(x=tm.agg.reduce("x", 0, function))',
            )
        return self.then(lambda at: Reduce(at=at, by=names, initial=initial, function=folded))

    def map_with_state(
        self,
        function: Callable[[Row, State], Mapping[str, Any] | Iterable[Mapping[str, Any]] | None],
        *,
        by: str | Sequence[str] | None,
        on: str,
        ttl: Duration | None = None,
        adds: Mapping[str, ColumnType] | None = None,
        returns: Mapping[str, ColumnType] | None = None,
    ) -> Frame:
        """Your Python function on every row of a key, with what it remembers of the key: `function(row, state)`.

        Rows come by their time, those of one time in row order; a stream waits until no earlier one can come.

        Args:
            function: returns a row, a list of rows (or yields them), or None for none. `state` is a mapping that lasts:
                `state["n"] = state.get("n", 0) + 1`. If it raises, the state is as it was.
            by: the columns that make the key; None: one key for all.
            on: the column with the event time. Rows have one.
            ttl: a state that was last written longer ago than this, by the row's time, is empty. Streams need it where
                keys come and go, or they would have to remember every key.
            adds: types of the columns that it adds or changes, as for `map_rows`.
            returns: types of all columns that it returns, beside those of the key and the time.

        A row that comes out has the key and the time of the row that it was made of, also where the function
        leaves them out.
        """
        verb = "map_with_state"
        read.read_function(verb, function)
        names, time = read.read_names(verb, "by", by, empty=True), read.read_name(verb, "on", on)
        if time in names:
            raise read.wrong(f'{verb}: "{time}" is the time and a key.', 'by="key", on="time"')
        more, all_of = read.read_declared(verb, adds, returns)
        kept = None if ttl is None else read_duration(ttl, "ttl", where=read.where())
        return self.then(
            lambda at: MapWithState(at=at, function=function, adds=more, returns=all_of, by=names, on=time, ttl=kept)
        )
