"""SQL models: a SELECT in a template that names what it reads, and how its result is kept.

    {{ config(materialized="incremental", key=["carrier"]) }}
    SELECT carrier, avg(dep_delay) AS delay FROM {{ ref("clean_departures") }} GROUP BY ALL

A model is read twice. `read_model` learns, once, which tables it reads and how it is configured: the graph must not
depend on the day, so it looks at all branches. `render_model` gives the statement of one run, quoted names put in.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from jinja2 import Undefined, nodes
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from tidemill.model.batch import Batch, BatchKey, BatchState, Interval
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.table import TableName
from tidemill.plan.sql import literal, quote
from tidemill.plan.template import Sandbox, at_line, render_in, variables_of


@dataclass(frozen=True, slots=True)
class Dependency:
    """A table that a SQL model reads: its name as written, and "batch" or "whole"."""

    name: str
    scope: str


@dataclass(frozen=True, slots=True)
class SqlModel:
    """What a SQL model's template says at definition: what it reads, and its `config(...)`."""

    dependencies: tuple[Dependency, ...]
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RenderedSql:
    """The statement of one run."""

    sql: str
    label: str
    #: (position in `sql`, line of the template), ascending.
    lines: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def where(self, line: int, column: int) -> str:
        """The place in the template of a place in the statement, both counted from 1: `models/delays.sql:7`."""
        starts = [0]
        for text in self.sql.split("\n"):
            starts.append(starts[-1] + len(text) + 1)
        position = starts[min(line, len(starts) - 1) - 1] + column - 1
        at = bisect_right(self.lines, (position, 1 << 60)) - 1
        return at_line(self.label, self.lines[at][1] if at >= 0 else line)


def read_model(text: str, *, file: str, this: str, params: Mapping[str, Any] | None = None) -> SqlModel:
    """Learn what a SQL model reads and how it is configured.

    Tables count that stand in the text as `ref("...")` in whatever branch, and those whose names the template computes
    when it is rendered for a sample day, once as a first run and once as an incremental one.

    Args:
        text: the template.
        file: its place, for errors.
        this: the model's own table.
        params: the pipeline's parameters with their defaults.

    Raises:
        UserError: the template is wrong; UnknownName: it uses a variable or parameter that does not exist.
        DefinitionError: it reads itself by `ref`, or its `config(...)` contradicts itself.
    """
    found = dict.fromkeys(_written(text, file))
    configs = []
    for incremental in (False, True):
        variables = variables_of(SAMPLE, params or {})
        words = _Words(variables["params"], lambda name, _scope: quote(name), incremental, quote(this))
        render_in(_PLAIN, text, {**variables, **words.all()}, file)
        found |= dict.fromkeys(words.used)
        configs.append(words.config)
    if configs[0] != configs[1]:
        raise DefinitionError("config(...) must not depend on is_incremental().", where=file)
    for dependency in found:
        if dependency.name in (this, this.rpartition(".")[2]):
            raise DefinitionError(
                f"The model reads itself by {_shown(dependency)}.",
                where=file,
                hint="{{ this }} is the table before this run",
            )
    return SqlModel(tuple(found), configs[0])


def render_model(
    text: str,
    variables: Mapping[str, Any],
    *,
    this: str,
    incremental: bool,
    resolve: Callable[[str, str], str],
    where: str,
    foreseen: Collection[Dependency] | None = None,
) -> RenderedSql:
    """Render a SQL model for a run.

    Args:
        text: the template.
        variables: from `variables_of`.
        this: the SQL name of the model's own table as it is before this run.
        incremental: what `is_incremental()` says: the table exists and the model is incremental.
        resolve: (name as written, scope) -> SQL name of the relation.
        where: file, for errors.
        foreseen: what `read_model` found; another table is then an error, for the run may not have waited for it.
    """
    words = _Words(variables.get("params", {}), resolve, incremental, this, foreseen)
    names = {**variables, **words.all()}
    sql = render_in(_PLAIN, text, names, where)
    clean, lines = _unmarked(render_in(_MARKING, text, names, where))
    return RenderedSql(sql, where, lines if clean == sql else ())


def sample_statements(text: str, *, own: TableName, where: str, params: Mapping[str, Any]) -> Iterator[RenderedSql]:
    """The statements of a model for a sample day, as a first run and as an incremental one: to look at its syntax.

    Args:
        text: the template.
        own: its table.
        where: file, for errors.
        params: the pipeline's parameters.
    """

    def relation(name: str, _scope: str = "") -> str:
        meant = name if "." in name else f"{own.namespace}.{name}"
        return ".".join(map(quote, meant.split(".")))

    for incremental in (False, True):
        yield render_model(
            text,
            variables_of(SAMPLE, params),
            this=relation(str(own)),
            incremental=incremental,
            resolve=relation,
            where=where,
        )


SAMPLE = Batch(
    0,
    BatchKey("sample", Interval(datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 2, tzinfo=UTC))),
    BatchState.OPEN,
    datetime(2000, 1, 2, tzinfo=UTC),
)


class _Words:
    """What a model may call, for one rendering; collects what it called."""

    def __init__(
        self,
        params: Mapping[str, Any],
        resolve: Callable[[str, str], str],
        incremental: bool,
        this: str,
        foreseen: Collection[Dependency] | None = None,
    ) -> None:
        self.config: dict[str, Any] = {}
        #: Each table that was named, and the SQL name that it got.
        self.used: dict[Dependency, str] = {}
        self._params = params
        self._resolve, self._incremental, self._this, self._foreseen = resolve, incremental, this, foreseen

    def all(self) -> dict[str, Any]:
        """The words by name."""
        return {
            "ref": self.ref,
            "source": self.ref,
            "batch": self.batch,
            "config": self.configure,
            "var": self.var,
            "is_incremental": lambda: self._incremental,
            "this": self._this,
        }

    def ref(self, *names: str) -> str:
        """A whole table: `ref("t")`, `ref("pipeline.t")` or `ref("pipeline", "t")`."""
        return self._use(_dependency(names, "whole"))

    def batch(self, *names: str) -> str:
        """The rows of a table that are of this run's batch."""
        return self._use(_dependency(names, "batch"))

    def configure(self, **values: Any) -> str:
        """Collect the model's configuration."""
        for key, value in values.items():
            if self.config.setdefault(key, value) != value:
                raise DefinitionError(f'config(...) sets "{key}" twice.')
        return ""

    def var(self, name: str, default: Any = None) -> Any:
        """A parameter of the pipeline, by dbt's word: `var("limit", 10)`."""
        if name not in self._params and default is None:
            raise UnknownName.of("parameter", name, self._params)
        return self._params.get(name, default)

    def _use(self, dependency: Dependency) -> str:
        if self._foreseen is not None and dependency not in self._foreseen:
            raise DefinitionError(
                f"The model reads {_shown(dependency)}, which could not be foreseen when it was defined.",
                hint=f"name it in a comment: -- depends on {{{{ {_shown(dependency)} }}}}",
            )
        if dependency not in self.used:
            self.used[dependency] = self._resolve(dependency.name, dependency.scope)
        return self.used[dependency]


#: What a template calls a table by -> what it reads of it.
_SCOPES = {"ref": "whole", "source": "whole", "batch": "batch"}


def _shown(dependency: Dependency) -> str:
    return f'{"batch" if dependency.scope == "batch" else "ref"}("{dependency.name}")'


def _dependency(names: tuple[Any, ...], scope: str) -> Dependency:
    if not 1 <= len(names) <= 2 or not all(isinstance(n, str) for n in names):
        raise DefinitionError(
            "A table is named by one text, or by its pipeline and its name.", hint='ref("pipeline.t")'
        )
    return Dependency(".".join(names), scope)


def _written(source: str, file: str) -> Iterator[Dependency]:
    """The tables that stand in the text as `ref("...")`, in whatever branch."""
    _PLAIN.compiled(source, file)  # says what is wrong with the syntax
    for call in _PLAIN.parse(source, name=file, filename=file).find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in _SCOPES:
            names = tuple(a.value for a in call.args if isinstance(a, nodes.Const))
            if len(names) == len(call.args):
                try:
                    yield _dependency(names, _SCOPES[call.node.name])
                except DefinitionError as error:
                    error.where = at_line(file, call.lineno)
                    raise


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
