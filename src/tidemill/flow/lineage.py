"""Column lineage of a project: which columns come from which, near one that is asked about.

pipelines' values, tables' columns -> ColumnGraph -> edges -> API, page, `tidemill data lineage`

It is looked up when somebody asks, of the code as it is now and of the tables as they are, and only as far as the steps
that are asked for. Functions of frames are called with frames that have no rows, as a stream's is when it is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from tidemill.authoring.context import RunContext
from tidemill.flow.stream.defining import frames_of
from tidemill.model.errors import TidemillError, UnknownName
from tidemill.model.frame import Frame, Input, as_frame
from tidemill.model.frame.topic import ToTable, ToTopic
from tidemill.model.lineage import ColumnName, Derivation, Derived, Origin, Origins, joined, unknown_of
from tidemill.model.masking import hide
from tidemill.model.pipeline import PipelineSpec, TransformSpec
from tidemill.model.stream import StreamSpec
from tidemill.model.table import BATCH_ID, LOADED_AT, Schema, TableName
from tidemill.plan.frame_lineage import ColumnsOf, frame_lineage
from tidemill.plan.sql import quote
from tidemill.plan.sql_lineage import sql_lineage
from tidemill.plan.sql_model import SAMPLE, render_model
from tidemill.plan.template import variables_of

Direction = Literal["both", "up", "down"]
#: A neighbourhood has at most so many edges; what would be further away is left out, and that is told.
MOST_EDGES = 4_000

_SYSTEM = (BATCH_ID, LOADED_AT)
#: Gives a table's columns on the ref that is looked at; None: it has no such table.
SchemaOf = Callable[[str], "Schema | None"]
#: Gives what knows the columns of frames, from the schemas of tables by `Input.key`.
ColumnsWith = Callable[[Mapping[str, Schema]], ColumnsOf]


@dataclass(frozen=True, slots=True)
class Edge:
    """One column that comes from another."""

    source: ColumnName
    target: ColumnName
    kind: Origin


@dataclass(frozen=True, slots=True)
class Table:
    """A table, view or topic of a neighbourhood.

    Args:
        name: `pipeline.table`, or a topic's name.
        kind: table, view or topic.
        columns: names with their types; an empty type: it is not known.
        unknown: why it is not known which columns its columns come from; empty: it is, or nothing makes it.
    """

    name: str
    kind: str
    columns: tuple[tuple[str, str], ...]
    unknown: str


@dataclass(frozen=True, slots=True)
class Near:
    """What is near: tables in the order in which they were met, edges, and whether more was left out."""

    tables: tuple[Table, ...]
    edges: tuple[Edge, ...]
    cut: bool


@dataclass(frozen=True, slots=True)
class _Made:
    """Something that makes a table: what it reads, and how."""

    reads: tuple[str, ...]
    derive: Callable[[], Derivation]


class ColumnGraph:
    """Columns of a project's tables, views and topics.

    Args:
        specs: its pipelines.
        schema_of: the columns of tables of the lake.
        columns_with: knows the columns of frames.
        sees: whether the asker may see what belongs to a pipeline.
    """

    def __init__(
        self,
        specs: Iterable[PipelineSpec],
        schema_of: SchemaOf,
        columns_with: ColumnsWith,
        sees: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._schema_of, self._columns_with = schema_of, columns_with
        self._makers: dict[str, list[_Made]] = {}
        self._kinds: dict[str, str] = {}
        #: Of topics: the columns that are declared.
        self._topics: dict[str, tuple[tuple[str, str], ...]] = {}
        self._schemas: dict[str, Schema | None] = {}
        self._derived: dict[str, Derivation] = {}
        self._tables: dict[str, Table] = {}
        for spec in specs:
            if sees(spec.name):
                self._declare(spec)
        for read in [name for makers in self._makers.values() for one in makers for name in one.reads]:
            # Children of flattened records, tables of other pipelines: they are there, if nothing here makes them.
            if read not in self._kinds and sees(read.partition(".")[0]):
                self._kinds[read] = "table"

    @property
    def names(self) -> list[str]:
        """All tables, views and topics that are known."""
        return sorted(self._kinds)

    def table(self, name: str) -> Table:
        """One of them. Raises UnknownName."""
        found = self._known(name)
        if found not in self._tables:
            schema, derived = self._schema(found), self._derivation(found)
            columns = tuple((one.name, "") for one in derived.columns if one.name and one.name not in _SYSTEM)
            if self._topics.get(found):
                columns = self._topics[found]
            elif schema is not None:
                columns = tuple((one.name, str(one.type)) for one in schema)
            made = self._tables[found] = Table(found, self._kinds[found], columns, derived.unknown)
            if schema is None and found not in self._topics:
                # A view has the types of what it copies; others are known when it is read.
                typed = tuple((name, self._copied_type(found, name)) for name, _ in columns)
                self._tables[found] = replace(made, columns=typed)
        return self._tables[found]

    def _copied_type(self, table: str, column: str) -> str:
        """The type of a column whose values are those of others, where they have one; else empty."""
        origins = {one: kind for one, kind in self._origins(table, column).items() if kind is not Origin.DECIDES}
        types = {dict(self.table(one.table).columns).get(one.column, "") for one in origins}
        copied = all(kind is Origin.COPIED for kind in origins.values())
        return types.pop() if copied and len(types) == 1 else ""

    def column(self, text: str) -> ColumnName:
        """The column that is meant by `pipeline.table.column`, in any case. Raises UnknownName."""
        lower = text.lower()
        tables = [name for name in self.names if lower.startswith(f"{name.lower()}.")]
        for table in sorted(tables, key=len, reverse=True):
            for name, _ in self.table(table).columns:
                if name.lower() == lower[len(table) + 1 :]:
                    return ColumnName(table, name)
        if tables:
            given = max(tables, key=len)
            known = [name for name, _ in self.table(given).columns]
            raise UnknownName.of("column", text[len(given) + 1 :], known, where=f'table "{given}"')
        raise UnknownName.of("table or column", text, self.names)

    def near(self, starts: Iterable[ColumnName], depth: int = 1, direction: Direction = "both") -> Near:
        """What is at most so many steps above or below columns."""
        begin = list(starts)
        edges: dict[tuple[ColumnName, ColumnName], Edge] = {}
        for up in (True, False):
            if direction not in ("both", "up" if up else "down"):
                continue
            seen, front = set(begin), begin
            for _ in range(depth):
                found = [edge for one in front for edge in (self._above(one) if up else self._below(one))]
                edges |= {(edge.source, edge.target): edge for edge in found}
                reached = (edge.source if up else edge.target for edge in found)
                front = [one for one in dict.fromkeys(reached) if one not in seen]
                seen.update(front)
                if len(edges) > MOST_EDGES:
                    break
        kept = tuple(edges.values())[:MOST_EDGES]
        met = [one.table for one in begin] + [end.table for edge in kept for end in (edge.source, edge.target)]
        if direction != "up":
            met += [target for target in self._makers if self._is_blank(target, met)]
        tables = tuple(self.table(name) for name in dict.fromkeys(met))
        return Near(tables, kept, len(edges) > MOST_EDGES)

    def _is_blank(self, target: str, met: Collection[str]) -> bool:
        """Whether it is made of one of these and nobody knows a column of it: no edge would show it."""
        if not any(name in met for one in self._makers[target] for name in one.reads):
            return False
        made = self.table(target)
        return bool(made.unknown) and not made.columns

    def _above(self, column: ColumnName) -> list[Edge]:
        found = self._origins(column.table, column.column)
        return [Edge(source, column, kind) for source, kind in found.items()]

    def _below(self, column: ColumnName) -> list[Edge]:
        made = []
        for target, makers in self._makers.items():
            if any(column.table in one.reads for one in makers):
                for name, _ in self.table(target).columns:
                    kind = self._origins(target, name).get(column)
                    if kind is not None:
                        made.append(Edge(column, ColumnName(target, name), kind))
        return made

    def _origins(self, table: str, column: str) -> Origins:
        """What a column comes from; where that is not known, any column of what its table is made of."""
        derivation = self._derivation(table)
        found = derivation.of(column)
        if found is None and self._makers.get(table):
            found = unknown_of(self._all_read(table))
        # A model that reads its own earlier rows, and tables that nobody may see here, are no other columns.
        return {one: kind for one, kind in (found or {}).items() if one.table != table and one.table in self._kinds}

    def _all_read(self, table: str) -> list[ColumnName]:
        reads = dict.fromkeys(name for one in self._makers[table] for name in one.reads if name in self._kinds)
        return [ColumnName(name, column) for name in reads if name != table for column, _ in self.table(name).columns]

    # What there is

    def _declare(self, spec: PipelineSpec) -> None:
        for source in spec.sources.values():
            self._kinds[str(source.table.name)] = "table"
        for transform in spec.transforms.values():
            name = str(transform.table.name)
            self._kinds[name] = "view" if transform.materialized == "view" else "table"
            reads = tuple(str(one.table) for one in transform.inputs)
            self._makers.setdefault(name, []).append(_Made(reads, partial(self._of_table, spec, transform)))
        for stream in spec.streams.values():
            self._declare_stream(stream)

    def _declare_stream(self, stream: StreamSpec) -> None:
        for topic in stream.topics.values():
            self._kinds.setdefault(topic.name, "topic")
            if topic.columns is not None:
                self._topics[topic.name] = tuple((name, str(kind)) for name, kind in topic.columns.items())
        reads = (*(topic.name for topic in stream.topics.values()), *map(str, stream.tables.values()))
        try:
            frames = frames_of(stream)
        except Exception as error:  # a user's function may raise anything
            why = Derivation(unknown=f"The stream {stream.full_name} cannot be planned. {_said(error)}")
            target = f"{stream.pipeline}.{stream.name}" if stream.to is None else stream.to.name
            self._kinds.setdefault(target, "table" if stream.to is None else "topic")
            self._makers.setdefault(target, []).append(_Made(reads, lambda: why))
            if stream.to is not None and stream.to.columns is not None:
                self._topics.setdefault(target, tuple((name, str(kind)) for name, kind in stream.to.columns.items()))
            return
        for frame in frames:
            for at, step in enumerate(frame.operations):
                if isinstance(step, ToTable):
                    target = f"{stream.pipeline}.{step.table}"
                    self._kinds[target] = "table"
                elif isinstance(step, ToTopic) and step.chosen is None:
                    target = step.topic.name
                    self._kinds.setdefault(target, "topic")
                else:
                    continue
                before = Frame(frame.source, frame.operations[:at])
                made = _Made(reads, partial(self._of_frame, before, reads, target))
                self._makers.setdefault(target, []).append(made)

    def _known(self, name: str) -> str:
        if name in self._kinds:
            return name
        found = [one for one in self._kinds if one.lower() == name.lower() or one.partition(".")[2] == name]
        if len(found) == 1:
            return found[0]
        raise UnknownName.of("table", name, self.names)

    def _schema(self, name: str) -> Schema | None:
        """The columns of a table as it is; None: there is none yet, or it is no table."""
        if name not in self._schemas:
            found = None if self._kinds.get(name) == "topic" else self._schema_of(name)
            self._schemas[name] = None if found is None else found.without(_SYSTEM)
        return self._schemas[name]

    def _columns(self, name: str) -> list[str] | None:
        schema = self._schema(name)
        if schema is not None:
            return [one.name for one in schema]
        return [one.name for one in self._derivation(name).columns] or None

    # How it is made

    def _derivation(self, name: str) -> Derivation:
        """What is known of how a table is made: of all that writes it together."""
        if name not in self._derived:
            self._derived[name] = Derivation()  # for tables that read each other in a circle, streams say
            self._derived[name] = _together([one.derive() for one in self._makers.get(name, ())])
        return self._derived[name]

    def _of_table(self, spec: PipelineSpec, transform: TransformSpec) -> Derivation:
        if transform.sql is not None:
            return self._of_sql(spec, transform)
        if not transform.inputs:
            return Derivation()
        if transform.engine != "polars" or transform.function is None:
            return Derivation(unknown=f"A Python function on {transform.engine} frames makes it.")
        reserved: dict[str, Any] = {
            "interval": SAMPLE.key.interval, "batch": SAMPLE, "context": RunContext.of(SAMPLE, spec.params),
        }  # fmt: skip
        given: dict[str, Any] = {
            one.parameter: Frame.of(Input(str(one.table), one.scope.value)) for one in transform.inputs
        }
        given |= {name: reserved[name] for name in transform.wants if name in reserved}
        try:
            frame = as_frame(transform.function(**given), transform.table.name.table)
        except Exception as error:  # a user's function may raise anything
            return Derivation(unknown=f"Its function could not be called without rows. {_said(error)}")
        return self._of_frame(frame, [str(one.table) for one in transform.inputs], str(transform.table.name))

    def _of_frame(self, frame: Frame, reads: Sequence[str], target: str) -> Derivation:
        if all(source.scope == "literal" for source in frame.inputs()):
            return Derivation(unknown="Its function makes the rows itself.")
        known: dict[str, Schema] = {}
        for name in reads:
            if name in self._topics:
                continue  # its columns come with it
            schema = self._schema(name)
            if schema is None:
                return Derivation(unknown=f'The columns of "{name}" are not known.')
            known |= {name: schema, f"whole({name})": schema}
        result = self._schema(target)
        try:
            return frame_lineage(
                frame,
                self._columns_with(known),
                lambda source: None if source.scope == "literal" else source.name,
                [one.name for one in result] if result is not None else [],
            )
        except TidemillError as error:
            return Derivation(unknown=error.what)

    def _of_sql(self, spec: PipelineSpec, transform: TransformSpec) -> Derivation:
        """Of a SQL model: as its first run reads it and as a later one does."""
        assert transform.sql is not None
        own = transform.table.name
        tables = {str(one.table): self._for_sql(str(one.table)) for one in transform.inputs}
        tables[str(own)] = self._for_sql(str(own)) if self._schema(str(own)) is not None else None

        def resolve(name: str, _scope: str) -> str:
            return _relation(TableName.parse(name, spec.name))

        found = []
        for incremental in (False, True):
            try:
                rendered = render_model(
                    transform.sql, variables_of(SAMPLE, spec.params), this=_relation(own), incremental=incremental,
                    resolve=resolve, where=transform.place,
                )  # fmt: skip
            except TidemillError as error:
                return Derivation(unknown=error.what)
            found.append(sql_lineage(rendered.sql, tables))
        made = _together(found)
        return made if made.unknown else self._with_names(made, str(own))

    def _for_sql(self, name: str) -> list[str] | None:
        columns = self._columns(name)
        return None if columns is None else [*columns, *_SYSTEM]

    def _with_names(self, made: Derivation, table: str) -> Derivation:
        """Results without a name are called as the table's columns in their places, where these fit."""
        schema = self._schema(table)
        names = None if schema is None or all(one.name for one in made.columns) else schema.names
        results = [one for one in made.columns if one.name not in _SYSTEM]
        if names is None or len(names) != len(results):
            return Derivation(tuple(results), made.decides)
        pairs = zip(results, names, strict=True)
        return Derivation(tuple(Derived(one.name or name, one.origins) for one, name in pairs), made.decides)


def _together(some: Sequence[Derivation]) -> Derivation:
    """What is known of a table that several things write."""
    if len(some) == 1:
        return some[0]
    unknown = next((one.unknown for one in some if one.unknown), "")
    if unknown:
        return Derivation(unknown=unknown)
    columns: dict[str, Origins] = {}
    for one in some:
        for column in one.columns:
            columns[column.name] = joined(columns.get(column.name, {}), column.origins)
    decides = frozenset(name for one in some for name in one.decides)
    return Derivation(tuple(Derived(name, origins) for name, origins in columns.items()), decides)


def _said(error: Exception) -> str:
    """The first line of what a user's function said, which may be long."""
    what = error.what if isinstance(error, TidemillError) else f"{type(error).__name__}: {error}"
    first = hide(what).strip().partition("\n")[0]
    return first if len(first) <= 300 else f"{first[:299]}…"


def _relation(table: TableName) -> str:
    return f"{quote(table.namespace)}.{quote(table.table)}"
