"""SQL models: a SELECT in a template that names what it reads, and how its result is kept.

    {{ config(materialized="incremental", key=["carrier"]) }}
    SELECT carrier, avg(dep_delay) AS delay FROM {{ ref("clean_departures") }} GROUP BY ALL

Two passes. `SqlModel.define` collects, once, what the model reads and its configuration: the graph must not depend on
the day, so it looks at all branches. `SqlModel.render` gives the statement of one run, with the names by which an
engine finds the tables.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from tidemill.model.batch import Interval
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.expectation import Scope
from tidemill.model.table import Partition, PublishMode, TableName, TableSpec, WriteMode
from tidemill.plan.sql import literal, quote
from tidemill.plan.template import Moment, Sandbox, template_errors

#: Stands at the end of the name by which a statement calls a table's rows of this run's batch. No table has it in its
#: own name.
BATCH_SUFFIX = "@batch"


class Materialized(StrEnum):
    """What a model's result becomes."""

    #: Nothing is stored: readers run the SELECT.
    VIEW = "view"
    #: A table, replaced by each run.
    TABLE = "table"
    #: A table to which each run adds rows (append), or changes them (upsert, history).
    INCREMENTAL = "incremental"


@dataclass(frozen=True, slots=True)
class Dependency:
    """A table that a model reads: whole, as of the fork, or only the rows of this run's batch."""

    table: TableName
    scope: Scope
    #: Where the model says so.
    where: str | None = field(default=None, compare=False)

    @property
    def relation(self) -> str:
        """The name by which the rendered statement calls it; an engine's inputs have it as their key."""
        return f"{self.table}{BATCH_SUFFIX}" if self.scope is Scope.BATCH else str(self.table)


@dataclass(frozen=True, slots=True)
class RenderedSql:
    """A statement for an engine. `dependencies` are those that this run's text uses, the model's own table included
    where it uses `this`.
    """

    sql: str
    file: str
    dependencies: tuple[Dependency, ...]
    #: (position in `sql`, line of the template), ascending.
    _lines: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def where(self, line: int, column: int) -> str:
        """The place in the template of a place in the statement, as `models/delays.sql:7`."""
        starts = [0]
        for text in self.sql.split("\n"):
            starts.append(starts[-1] + len(text) + 1)
        position = starts[min(line, len(starts) - 1) - 1] + column - 1
        at = bisect_right(self._lines, (position, 1 << 60)) - 1
        return f"{self.file}:{self._lines[at][1] if at >= 0 else line}"


@dataclass(frozen=True, slots=True)
class SqlModel:
    """A model as its file defines it."""

    name: TableName
    file: str
    source: str
    materialized: Materialized
    spec: TableSpec
    dependencies: tuple[Dependency, ...]

    @classmethod
    def define(
        cls,
        source: str,
        *,
        name: TableName,
        file: str,
        params: Mapping[str, Any] | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> SqlModel:
        """Read a model's file.

        Args:
            source: its text.
            name: the table that the model makes; bare names in it are of the same pipeline.
            file: its path, for messages.
            params: the pipeline's parameters with their defaults.
            variables: the project's variables, for `var`.

        Raises:
            UserError: the template is wrong; DefinitionError: its configuration is; UnknownName: a variable is.
        """
        seen: dict[Dependency, Dependency] = {}
        configs = []
        for dependency in _written(source, file, name):
            seen.setdefault(dependency, dependency)
        for incremental in (False, True):
            sample = Moment(_SAMPLE_INTERVAL, batch_id=0, params=params or {})
            words = _Words(name, file, incremental, variables or {})
            _render(_PLAIN, source, file, sample, words)
            configs.append(words.config)
            for dependency in words.used:
                if dependency.table != name:
                    seen.setdefault(dependency, dependency)
        if configs[0] != configs[1]:
            raise DefinitionError("config(...) must not depend on is_incremental().", where=file)
        materialized, spec = _configured(name, configs[0], file)
        return cls(name, file, source, materialized, spec, tuple(d for d in seen if d.table != name))

    def render(
        self, moment: Moment, *, incremental: bool = False, variables: Mapping[str, Any] | None = None
    ) -> RenderedSql:
        """The statement of one run.

        Args:
            moment: the run.
            incremental: the model is an incremental one, its table exists, and it is not to be built anew.
            variables: the project's variables.

        Raises:
            UserError, UnknownName: as for `define`; and for a `ref` that `define` could not foresee.
        """
        words = _Words(self.name, self.file, incremental, variables or {}, frozenset(self.dependencies))
        sql = _render(_PLAIN, self.source, self.file, moment, words)
        marked = _render(_MARKING, self.source, self.file, moment, words)
        clean, lines = _unmarked(marked)
        return RenderedSql(sql, self.file, tuple(dict.fromkeys(words.used)), lines if clean == sql else ())


_SAMPLE_INTERVAL = Interval(datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 2, tzinfo=UTC))


class _This:
    """The model's own table. Using it as text makes it something that the run reads."""

    def __init__(self, table: TableName, use: Callable[[], str]) -> None:
        self._use = use
        self.name = self.identifier = self.table = table.table
        self.schema = self.namespace = table.namespace

    def __str__(self) -> str:
        return self._use()


class _Words:
    """What a model may call, for one rendering; collects what it called."""

    def __init__(
        self,
        name: TableName,
        file: str,
        incremental: bool,
        variables: Mapping[str, Any],
        foreseen: frozenset[Dependency] | None = None,
    ) -> None:
        self.config: dict[str, Any] = {}
        self.used: list[Dependency] = []
        self._name, self._file, self._incremental = name, file, incremental
        self._variables, self._foreseen = variables, foreseen

    def all(self) -> dict[str, Any]:
        """The words by name."""
        return {
            "ref": self.ref,
            "source": self.ref,
            "batch": self.batch,
            "config": self.configure,
            "var": self.var,
            "is_incremental": lambda: self._incremental,
            "this": _This(self._name, lambda: self._use(Dependency(self._name, Scope.WHOLE))),
        }

    def ref(self, *names: str) -> str:
        """A whole table: `ref("t")`, `ref("pipeline.t")` or `ref("pipeline", "t")`."""
        return self._use(_dependency(names, Scope.WHOLE, self._name))

    def batch(self, *names: str) -> str:
        """The rows of a table that are of this run's batch."""
        return self._use(_dependency(names, Scope.BATCH, self._name))

    def configure(self, **values: Any) -> str:
        """Collect the model's configuration."""
        for key, value in values.items():
            if key not in _CONFIG:
                raise UnknownName.of("setting of a model", key, _CONFIG)
            if self.config.setdefault(key, value) != value:
                raise DefinitionError(f'config(...) sets "{key}" twice.')
        return ""

    def var(self, name: str, default: Any = None) -> Any:
        """A variable of the project."""
        if name not in self._variables and default is None:
            raise UnknownName.of("variable of the project", name, self._variables)
        return self._variables.get(name, default)

    def _use(self, dependency: Dependency) -> str:
        if self._foreseen is not None and dependency.table != self._name and dependency not in self._foreseen:
            word = "batch" if dependency.scope is Scope.BATCH else "ref"
            text = f'{word}("{dependency.table}")'
            raise DefinitionError(
                f"The model reads {text}, which could not be foreseen when it was defined.",
                hint=f"name it in a comment: -- depends on {{{{ {text} }}}}",
            )
        self.used.append(dependency)
        return ".".join(quote(part) for part in dependency.relation.split(".", 1))


def _dependency(names: tuple[Any, ...], scope: Scope, model: TableName, where: str | None = None) -> Dependency:
    if not 1 <= len(names) <= 2 or not all(isinstance(n, str) for n in names):
        raise DefinitionError(
            "A table is named by one text, or by its pipeline and its name.", hint='ref("pipeline.t")'
        )
    return Dependency(TableName.parse(".".join(names), model.namespace), scope, where)


def _written(source: str, file: str, model: TableName) -> Iterator[Dependency]:
    """The tables that stand in the text as `ref("...")`, in whatever branch: the graph is the same every day."""
    _PLAIN.compiled(source, file)  # says what is wrong with the syntax
    scopes = {"ref": Scope.WHOLE, "source": Scope.WHOLE, "batch": Scope.BATCH}
    for call in _PLAIN.parse(source, name=file, filename=file).find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in scopes:
            names = tuple(a.value for a in call.args if isinstance(a, nodes.Const))
            if len(names) == len(call.args):
                where = f"{file}:{call.lineno}"
                try:
                    yield _dependency(names, scopes[call.node.name], model, where)
                except DefinitionError as error:
                    error.where = error.where or where
                    raise


def _render(sandbox: Sandbox, source: str, file: str, moment: Moment, words: _Words) -> str:
    variables = moment.variables() | words.all()
    with template_errors(file, variables):
        return sandbox.compiled(source, file).render(variables)


_CONFIG = {
    "materialized": str, "write": str, "key": list, "order": str, "partition": list, "sort": list, "publish": str,
    "delete_flag": str, "surrogate_key": str, "doc": str,
}  # fmt: skip


def _configured(name: TableName, config: Mapping[str, Any], file: str) -> tuple[Materialized, TableSpec]:
    """The kind of the model, and its table, as configured."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        parts = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not all(isinstance(p, str) for p in parts) or (_CONFIG[key] is str and parts != (value,)):
            raise DefinitionError(f"config({key}=...) wants text, and has {value!r}.", where=file)
        values[key] = parts if _CONFIG[key] is list else value
    kind = _one_of(Materialized, "materialized", values.pop("materialized", "table"), file)
    default = {Materialized.INCREMENTAL: "upsert" if values.get("key") else "append"}.get(kind, "replace")
    write = _one_of(WriteMode, "write", values.pop("write", default), file)
    if (write is WriteMode.REPLACE) is (kind is Materialized.INCREMENTAL):
        hint = 'append, upsert or history for materialized="incremental", replace for the others'
        raise DefinitionError(f"A {kind} model is not written by {write}.", where=file, hint=hint)
    if kind is Materialized.VIEW and values.keys() - {"doc"}:
        raise DefinitionError(f"A view stores nothing, so it has no {', '.join(sorted(values))}.", where=file)
    publish = _one_of(PublishMode, "publish", values.pop("publish", "run"), file)
    try:
        partition = tuple(Partition.parse(p) for p in values.pop("partition", ()))
        return kind, TableSpec(name, write, publish=publish, partition=partition, **values)
    except DefinitionError as error:
        error.where = error.where or file
        raise


def _one_of(kind: type[StrEnum], key: str, value: str, file: str) -> Any:
    known = [str(member) for member in kind]
    if value not in known:
        raise UnknownName.of(f"{key} mode", value, known, where=file)
    return kind(value)


_OPEN, _CLOSE = "\ue000", "\ue001"


class _Marks(Extension):
    """Writes its line before each piece of a template's own text, so that places in the result can be traced back."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Mark the lines of text between tags."""
        for token in stream:
            if token.type != "data":
                yield token
                continue
            lines = token.value.split("\n")
            marked = (f"{_OPEN}{token.lineno + at}{_CLOSE}{line}" for at, line in enumerate(lines))
            yield Token(token.lineno, "data", "\n".join(marked))


def _unmarked(marked: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text without its marks, and what they said: (position, line)."""
    first, *rest = marked.split(_OPEN)
    text, lines, length = [first], [], len(first)
    for piece in rest:
        line, _, after = piece.partition(_CLOSE)
        if line.isdigit():
            lines.append((length, int(line)))
        text.append(after)
        length += len(after)
    return "".join(text), tuple(lines)


def _sql_sandbox(*extensions: type[Extension]) -> Sandbox:
    made = Sandbox(extensions)
    made.filters.update({"literal": _literal, "identifier": quote})
    return made


def _literal(value: Any) -> str:
    if isinstance(value, Undefined):
        str(value)  # raises, and names it
    return literal(value)


_PLAIN, _MARKING = _sql_sandbox(), _sql_sandbox(_Marks)
