"""`Frame`: what a table function gets and returns: named input rows and the steps to apply to them, as data.

A frame holds no rows and runs nothing. An engine (`ports/frame_engine.py`) runs it over the files of a table; the
same record can be run over a topic in micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from tidemill.model.duration import Duration, read_duration
from tidemill.model.frame import arguments as read
from tidemill.model.frame.habit import no_data, no_such_item, no_such_verb
from tidemill.model.frame.operation import (
    Cast,
    ColumnType,
    Drop,
    Explode,
    Expression,
    Filter,
    FlatMap,
    IntervalHow,
    Join,
    JoinAsof,
    JoinHow,
    JoinInterval,
    JoinLookup,
    Keep,
    MapBatches,
    MapRows,
    Operation,
    Reduce,
    Rename,
    Select,
    Unique,
    Unnest,
    WithColumns,
)
from tidemill.model.frame.row import Row
from tidemill.model.frame.source import Input
from tidemill.model.frame.topic import ToFunction, Topic, ToTable, ToTopic
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
from tidemill.model.place import Place, user_place

if TYPE_CHECKING:
    import polars


class Frame:
    """Rows to come and what to do with them. Every verb returns a new frame; only `f["x"] = ...` changes this one.

    In expressions `f["x"]` and `tm.col("x")` are the same column.
    """

    __slots__ = ("_input", "_operations")
    _input: Input
    _operations: tuple[Operation, ...]

    def __init__(self, source: Input, operations: Iterable[Operation] = ()) -> None:
        object.__setattr__(self, "_input", source)
        object.__setattr__(self, "_operations", tuple(operations))

    @classmethod
    def of(cls, source: Input) -> Frame:
        """A frame of an input's rows, with nothing done to them yet."""
        return cls(source)

    @classmethod
    def literal(cls, data: Any, name: str = "rows") -> Frame:
        """A frame of rows in memory: a Polars DataFrame or LazyFrame, a pandas DataFrame, an Arrow table."""
        return cls(Input(name, "literal", data))

    # What an engine reads

    @property
    def source(self) -> Input:
        """Where the rows come from."""
        return self._input

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The recorded steps, first one first."""
        return self._operations

    def inputs(self) -> tuple[Input, ...]:
        """Every input that this frame needs, those of joined frames included, each once."""
        found: dict[int, Input] = {}
        for frame in self._frames():
            found.setdefault(id(frame.source), frame.source)
        return tuple(found.values())

    def _frames(self) -> Iterator[Frame]:
        yield self
        for operation in self._operations:
            for other in operation.others:
                yield from other._frames()

    def then(self, make: Callable[[Place | None], Operation]) -> Frame:
        """This frame with one more step, which `make` builds, given the user's line."""
        return Frame(self._input, (*self._operations, make(user_place())))

    def explain(self) -> str:
        """The input and the steps, one per line; joined frames indented below the step that joins them."""
        return "\n".join(self._lines(""))

    def _lines(self, indent: str) -> Iterator[str]:
        yield f"{indent}{self._input}"
        for operation in self._operations:
            yield f"{indent}{operation}"
            for other in operation.others:
                yield from other._lines(indent + "    ")

    def __repr__(self) -> str:
        return self.explain()

    def __reduce__(self) -> tuple[object, ...]:
        return Frame, (self._input, self._operations)

    # Stateless verbs

    def __getitem__(self, name: str) -> polars.Expr:
        if not isinstance(name, str):
            raise no_such_item(name)
        import polars

        return polars.col(name)

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise no_such_item(name)
        if isinstance(value, str):
            raise read.wrong(
                f'f["{name}"] = {value!r} could mean a column or a text.',
                f'f["{name}"] = tm.col({value!r}) or f["{name}"] = tm.lit({value!r})',
            )
        changed = self.with_columns(**{name: value})
        object.__setattr__(self, "_operations", changed._operations)

    def select(self, *columns: Expression | Iterable[Expression], **named: Expression) -> Frame:
        """Only these columns, in this order: names, expressions, or new ones as `name=expression`."""
        positional, keyword = read.read_expressions("select", columns), read.read_named("select", named)
        return self.then(lambda at: Select(at=at, columns=positional, named=keyword))

    def with_columns(self, *columns: Expression | Iterable[Expression], **named: Expression) -> Frame:
        """All columns and these: new ones as `name=expression`, or expressions that replace a column."""
        positional, keyword = read.read_expressions("with_columns", columns), read.read_named("with_columns", named)
        return self.then(lambda at: WithColumns(at=at, columns=positional, named=keyword))

    def filter(self, *conditions: Any) -> Frame:
        """Only the rows for which every condition is true (null is not)."""
        found = read.read_conditions(conditions)
        return self.then(lambda at: Filter(at=at, conditions=found))

    def rename(self, names: Mapping[str, str] | None = None, **more: str) -> Frame:
        """Other names for columns: `{"old": "new"}` or `old="new"`."""
        found = {**(names or {}), **more}
        if not found or not all(isinstance(n, str) for pair in found.items() for n in pair):
            raise read.wrong(f"rename: {found!r} maps no names to names.", 'f.rename({"old": "new"})')
        return self.then(lambda at: Rename(at=at, names=found))

    def drop(self, *columns: str | Sequence[str]) -> Frame:
        """All columns but these."""
        names = read.read_names("drop", "columns", list(read.flat(columns)))
        return self.then(lambda at: Drop(at=at, columns=names))

    def cast(self, types: Mapping[str, ColumnType] | None = None, **more: ColumnType) -> Frame:
        """Other types for columns: `{"x": "long"}`, by Tidemill's names or Polars types."""
        found = read.read_types("cast", "types", {**(types or {}), **more})
        if not found:
            raise read.wrong("cast: there are no types.", 'f.cast({"x": "double"})')
        return self.then(lambda at: Cast(at=at, types=found))

    def explode(self, *columns: str | Sequence[str]) -> Frame:
        """A row for each element of a list column (several columns step together); an empty list gives no row."""
        names = read.read_names("explode", "columns", list(read.flat(columns)))
        return self.then(lambda at: Explode(at=at, columns=names))

    def unnest(self, *columns: str | Sequence[str]) -> Frame:
        """The fields of struct columns as columns in their place."""
        names = read.read_names("unnest", "columns", list(read.flat(columns)))
        return self.then(lambda at: Unnest(at=at, columns=names))

    def map_rows(
        self,
        function: Callable[[Row], Mapping[str, Any]],
        *,
        adds: Mapping[str, ColumnType] | None = None,
        returns: Mapping[str, ColumnType] | None = None,
    ) -> Frame:
        """Your Python function on every row: takes a dict of values, returns the new row as a dict.

        Args:
            function: may change the row that it gets and return it.
            adds: types of the columns that it adds or changes, the others stay as they are.
            returns: types of all columns that it returns. With `adds` or `returns` rows flow on at once, also
                a day without rows has columns; without them types are found once all rows were seen.
        """
        read.read_function("map_rows", function)
        more, all_of = self._declared("map_rows", adds, returns)
        return self.then(lambda at: MapRows(at=at, function=function, adds=more, returns=all_of))

    def flat_map(
        self,
        function: Callable[[Row], Iterable[Mapping[str, Any]]],
        *,
        adds: Mapping[str, ColumnType] | None = None,
        returns: Mapping[str, ColumnType] | None = None,
    ) -> Frame:
        """Your Python function on every row: returns or yields any number of rows. See `map_rows`."""
        read.read_function("flat_map", function)
        more, all_of = self._declared("flat_map", adds, returns)
        return self.then(lambda at: FlatMap(at=at, function=function, adds=more, returns=all_of))

    def map_batches(
        self,
        function: Callable[[polars.DataFrame], polars.DataFrame],
        *,
        adds: Mapping[str, ColumnType] | None = None,
        returns: Mapping[str, ColumnType] | None = None,
    ) -> Frame:
        """Your function on some rows at a time, as a Polars DataFrame. Where rows are cut must not matter to it."""
        read.read_function("map_batches", function)
        more, all_of = self._declared("map_batches", adds, returns)
        return self.then(lambda at: MapBatches(at=at, function=function, adds=more, returns=all_of))

    def _declared(self, verb: str, adds: Any, returns: Any) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        if adds is not None and returns is not None:
            raise read.wrong(f"{verb}: adds= and returns= exclude each other.", "returns= names all columns")
        return read.read_types(verb, "adds", adds), read.read_types(verb, "returns", returns)

    def concat(self, *others: Frame | Sequence[Frame]) -> Frame:
        """This frame's rows, then the others'. Columns match by name; one that is missing is null."""
        from tidemill.model.frame.compose import concat

        return concat(self, *others)

    # Stateful verbs

    def group_by(self, *keys: Expression | Iterable[Expression], **named: Expression) -> GroupOf:
        """Groups of rows with equal keys; go on with `.agg(...)`. Null is a key like any other."""
        positional, keyword = read.read_expressions("group_by", keys), read.read_named("group_by", named)
        if not positional and not keyword:
            raise read.wrong("group_by: there is no key.", 'f.group_by("key").agg(n=tm.agg.count())')
        return GroupOf(self, positional, keyword)

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
        return WindowOf(self, window, keys, read_duration(grace, "grace", where=read.where(), zero=True))

    def join(self, other: Frame, *, on: str | Sequence[str] | Mapping[str, str], how: JoinHow = "inner") -> Frame:
        """Rows of both with equal keys. Over topics use `join_lookup`, `join_asof` or `join_interval`.

        Args:
            other: the right frame.
            on: key columns by name, or a mapping from left names to right names.
            how: inner, left, right, outer, semi (rows with a partner), anti (rows without).
        """
        right, pairs = self._other("join", other), read.read_pairs("join", on)
        chosen = read.read_choice("join", "how", how, ("inner", "left", "right", "outer", "semi", "anti"))
        return self.then(lambda at: Join(at=at, other=right, on=pairs, how=chosen))

    def join_lookup(self, other: Frame, *, on: str | Sequence[str] | Mapping[str, str]) -> Frame:
        """Every row with the columns of the row of `other` that has its key. Two rows of one key are an error."""
        right, pairs = self._other("join_lookup", other), read.read_pairs("join_lookup", on)
        return self.then(lambda at: JoinLookup(at=at, other=right, on=pairs))

    def join_asof(
        self,
        other: Frame,
        *,
        on: str,
        by: str | Sequence[str] | None = None,
        tolerance: Duration | None = None,
    ) -> Frame:
        """Every row with the columns of the latest row of `other` that is not later than it.

        Args:
            other: the right frame.
            on: the time column, of that name in both.
            by: columns that must be equal.
            tolerance: how old the other row may be.
        """
        right, time = self._other("join_asof", other), read.read_name("join_asof", "on", on)
        keys = read.read_names("join_asof", "by", by, empty=True)
        oldest = None
        if tolerance is not None:
            oldest = read_duration(tolerance, "tolerance", where=read.where(), zero=True)
        return self.then(lambda at: JoinAsof(at=at, other=right, on=time, by=keys, tolerance=oldest))

    def join_interval(
        self,
        other: Frame,
        *,
        on: str,
        within: Duration | tuple[Duration, Duration],
        by: str | Sequence[str] | None = None,
        how: IntervalHow = "inner",
    ) -> Frame:
        """Pairs of rows whose times are at most `within` apart.

        Args:
            other: the right frame.
            on: the time column, of that name in both; the right one becomes `<on>_right`.
            within: how far apart, or (how much earlier, how much later) the right row may be.
            by: columns that must be equal.
            how: inner, left (all left rows), outer (all rows of both).
        """
        right, time = self._other("join_interval", other), read.read_name("join_interval", "on", on)
        keys = read.read_names("join_interval", "by", by, empty=True)
        ends = within if isinstance(within, tuple) else (within, within)
        if len(ends) != 2:
            raise read.wrong(f"join_interval: within={within!r} is not (before, after).", 'within=("5m", "1m")')
        before, after = (read_duration(end, "within", where=read.where(), zero=True) for end in ends)
        chosen = read.read_choice("join_interval", "how", how, ("inner", "left", "outer"))
        return self.then(
            lambda at: JoinInterval(at=at, other=right, on=time, by=keys, before=before, after=after, how=chosen)
        )

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

    # Where rows go

    def to_topic(
        self, topic: Topic | str, *, key: str | Sequence[str] | None = None, choose: Expression | None = None
    ) -> Frame:
        """Write every row as a message; this frame goes on with the same rows. On streams.

        Args:
            topic: a name, or `tm.topic(...)`, which also says how messages are written.
            key: the columns that make the message's key; None: the topic's.
            choose: an expression that says for each row to which topic it goes; null: to none.
        """
        where = Topic(topic) if isinstance(topic, str) else topic
        if not isinstance(where, Topic):
            raise read.wrong(f"to_topic: {topic!r} is no topic.", 'f.to_topic("alerts")')
        keys = read.read_names("to_topic", "key", key, empty=True) or where.key
        return self._written(lambda at: ToTopic(at=at, topic=where, key=keys, chosen=choose))

    def to_table(self, table: str, **options: Any) -> Frame:
        """Write every row into a table of the lake; this frame goes on with the same rows. On streams.

        Args:
            table: its name in the pipeline.
            options: as for `@pipeline.table`: left out, rows are appended; `key="id", write="upsert", order="at"` keeps
                the newest row of each key.
        """
        return self._written(
            lambda at: ToTable(at=at, table=read.read_name("to_table", "table", table), options=options)
        )

    def sink(self, function: Callable[[Sequence[Mapping[str, Any]]], object]) -> Frame:
        """Give rows to your function, a list of dicts at a time; after a crash some come again. On streams."""
        taken = read.read_function("sink", function)
        return self._written(lambda at: ToFunction(at=at, function=taken))

    def _written(self, make: Callable[[Place | None], Operation]) -> Frame:
        """This frame with a sink. It is part of this very frame, so that it counts also where only `f` is returned."""
        written = self.then(make)
        object.__setattr__(self, "_operations", written._operations)
        return self

    def _other(self, verb: str, other: Any) -> Frame:
        """The frame to join, as it is now: later `other["x"] = ...` must not reach into this one."""
        if not isinstance(other, Frame):
            raise read.no_frame(verb, other)
        return Frame(other.source, other.operations)

    # Habits

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise no_such_verb(name, VERBS)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise read.wrong(f"f.{name} = ... sets no column.", f'f["{name}"] = ...')

    def __bool__(self) -> NoReturn:
        raise no_data("if f", "`if f is None` asks whether there is a frame at all")

    def __len__(self) -> NoReturn:
        raise no_data("len(f)", 'f.group_by("key").agg(n=tm.agg.count()) counts when it runs')

    def __iter__(self) -> NoReturn:
        raise no_data("for ... in f", "f.map_rows(function) or f.flat_map(function) call you with every row")

    def __contains__(self, name: object) -> NoReturn:
        raise no_data(f"{name!r} in f", "columns are known when it runs; name the ones that you need")


#: The verbs, as "did you mean" and messages list them.
VERBS = (
    "cast", "concat", "count_window", "drop", "explode", "filter", "flat_map", "group_by", "hopping_window", "join",
    "join_asof", "join_interval", "join_lookup", "map_batches", "map_rows", "reduce", "rename", "select",
    "session_window", "sink", "sliding_window", "to_table", "to_topic", "tumbling_window", "unique", "unnest",
    "with_columns",
)  # fmt: skip
