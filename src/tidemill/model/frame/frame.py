"""`Frame`: what a table function gets and returns: named input rows and the steps to apply to them, as data.

A frame holds no rows and runs nothing. An engine (`ports/frame_engine.py`) runs it over the files of a table; the
same record can be run over a topic in micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tidemill.model.frame import arguments as read
from tidemill.model.frame.habit import no_data, no_such_item, no_such_verb
from tidemill.model.frame.joins import Joins
from tidemill.model.frame.operation import (
    Cast,
    ColumnType,
    Drop,
    Explode,
    Expression,
    Filter,
    FilterRows,
    FlatMap,
    MapBatches,
    MapRows,
    Rename,
    Select,
    Unnest,
    WithColumns,
)
from tidemill.model.frame.over_rows import OverRows
from tidemill.model.frame.peeking import peek_at
from tidemill.model.frame.row import Row
from tidemill.model.frame.sinks import Sinks
from tidemill.model.frame.source import Input
from tidemill.model.frame.topic import Topic

if TYPE_CHECKING:
    import polars


class Frame(OverRows, Joins, Sinks):
    """Rows to come and what to do with them. Every verb returns a new frame; only `f["x"] = ...` changes this one.

    In expressions `f["x"]` and `tm.col("x")` are the same column.
    """

    __slots__ = ()

    @classmethod
    def of(cls, source: Input | Topic) -> Frame:
        """A frame of the rows of an input or a topic, with nothing done to them yet."""
        return cls(Input(source.name, "topic", source) if isinstance(source, Topic) else source)

    @classmethod
    def literal(cls, data: Any, name: str = "rows") -> Frame:
        """A frame of rows in memory: a Polars DataFrame or LazyFrame, a pandas DataFrame, an Arrow table."""
        return cls(Input(name, "literal", data))

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
        """Only the rows for which every condition is true (null is not), or your Python function returns so.

        Args:
            conditions: expressions; or one function, which takes a row as a dict.
        """
        if len(conditions) == 1 and read.is_function(conditions[0]):
            return self.then(lambda at: FilterRows.by(at, conditions[0]))
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
        more, all_of = read.read_declared("map_rows", adds, returns)
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
        more, all_of = read.read_declared("flat_map", adds, returns)
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
        more, all_of = read.read_declared("map_batches", adds, returns)
        return self.then(lambda at: MapBatches(at=at, function=function, adds=more, returns=all_of))

    def concat(self, *others: Frame | Sequence[Frame]) -> Frame:
        """This frame's rows, then the others'. Columns match by name; one that is missing is null."""
        from tidemill.model.frame.compose import concat

        return concat(self, *others)

    def sql(self, query: str, *, functions: Mapping[str, Callable[..., Any]] | None = None) -> Frame:
        """The steps of a query over this frame: `f.sql("select car, speed * 3.6 as kmh from self where speed > 0")`.

        Args:
            query: SELECT, WHERE, GROUP BY, HAVING and DISTINCT, from `self`; windows in GROUP BY: `tumble`, `hop` and
                `session`. In DuckDB's dialect.
            functions: yours, by the names by which the query calls them. Their parameters and results are annotated:
                `def slug(name: str) -> str`; a row with NULL for a parameter that does not admit None gives NULL.
        """
        from tidemill.model.frame.sql.query import query as steps_of

        if not isinstance(query, str):
            raise read.wrong(f"sql: {query!r} is no text.", 'f.sql("select ... from self")')
        if functions is not None and not isinstance(functions, Mapping):
            raise read.wrong(f"sql: functions={functions!r} is no dict.", 'functions={"slug": slug}')
        return steps_of(self._as_it_is(), query, functions)

    def peek(self, rows: int = 5, *, messages: int = 1_000) -> polars.DataFrame:
        """The last rows that this frame gives of what its topics hold now: for notebooks.

        In memory: no position moves, nothing is written, no sink is called.

        Args:
            rows: how many, at most.
            messages: so many of the last ones of each partition are looked at.
        """
        found: polars.DataFrame = peek_at(self, read.read_count("peek", rows), read.read_count("peek", messages))
        return found

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
    "join_asof", "join_interval", "join_lookup", "map_batches", "map_rows", "map_with_state", "reduce", "rename",
    "select", "session_window", "sink", "sliding_window", "sql", "to", "to_table", "to_topic",
    "tumbling_window", "unique", "unnest", "with_columns",
)  # fmt: skip
