"""Templates of paths and SQL models: Jinja in a sandbox, with Airflow's names for what a run is about.

A SQL model is read twice. At definition, `read_model` runs it with placeholders, only to learn which tables it reads
and how it is configured. At run time, `render_model` puts quoted names in. Both use the same sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tidemill.model.batch import Batch, Interval
from tidemill.model.errors import DefinitionError, Refused, UnknownName, UserError
from tidemill.plan.sql import quote

#: What a template may do at most: a loop over more than this is a mistake.
_MAX_OUTPUT = 1_000_000


def _moment(value: str | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def _ds(value: str | datetime) -> str:
    return _moment(value).strftime("%Y-%m-%d")


def _ds_add(value: str | datetime, days: int) -> str:
    return (_moment(value) + timedelta(days=days)).strftime("%Y-%m-%d")


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)
    made.filters |= {
        "ds": _ds,
        "ds_nodash": lambda v: _ds(v).replace("-", ""),
        "ts": lambda v: _moment(v).isoformat(),
        "ts_nodash": lambda v: _moment(v).strftime("%Y%m%dT%H%M%S"),
    }
    return made


_ENVIRONMENT = _environment()


class Macros:
    """Airflow's `macros`: dates and durations."""

    datetime = datetime
    timedelta = timedelta
    ds_add = staticmethod(_ds_add)

    def ds_format(self, value: str, source: str, target: str) -> str:
        """A date text from one `strftime` format to another."""
        return datetime.strptime(value, source).strftime(target)


def variables_of(batch: Batch, params: Mapping[str, Any]) -> dict[str, Any]:
    """What every template of a run can say: Airflow's names, the batch id, parameters."""
    found: dict[str, Any] = {
        "batch_id": batch.id,
        "params": dict(params),
        "macros": Macros(),
        "pipeline": batch.pipeline,
    }
    interval: Interval | None = batch.key.interval
    if interval is None:
        return {**found, "run_key": batch.key.run_key}
    start, end = interval.start, interval.end
    return {
        **found,
        "interval": interval,
        "data_interval_start": start,
        "data_interval_end": end,
        "logical_date": start,
        "ds": _ds(start),
        "ds_nodash": _ds(start).replace("-", ""),
        "ts": start.isoformat(),
        "ts_nodash": start.strftime("%Y%m%dT%H%M%S"),
    }


def render(template: str, variables: Mapping[str, Any], *, where: str | None = None) -> str:
    """Render a template in the sandbox.

    Raises:
        UnknownName: the template names a variable that does not exist.
        UserError: it cannot be read, or asks for what the sandbox refuses.
    """
    try:
        text = _ENVIRONMENT.from_string(template).render(variables)
    except TemplateSyntaxError as error:
        place = f"{where} (template line {error.lineno})" if where else f"line {error.lineno}"
        raise UserError(f"The template cannot be read: {error.message}.", where=place) from None
    except UndefinedError as error:
        raise _undefined(error, variables, where) from None
    except SecurityError as error:
        raise UserError(f"The template asks for what templates may not do: {error}.", where=where) from None
    except (TemplateError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"The template fails: {error}.", where=where) from None
    if len(text) > _MAX_OUTPUT:
        raise UserError(f"The template makes {len(text):,} characters.", where=where, hint=f"at most {_MAX_OUTPUT:,}")
    return text


def _undefined(error: UndefinedError, variables: Mapping[str, Any], where: str | None) -> UserError:
    found = re.match(r"'(\w+)' is undefined", error.message or "")
    if found is None:
        return UserError(f"The template fails: {error.message}.", where=where)
    if found[1] in ("ds", "interval", "data_interval_start", "data_interval_end", "logical_date", "ts"):
        return UserError(
            f'The template asks for "{found[1]}", and this run has no data interval.',
            where=where,
            hint='give the pipeline a schedule, e.g. schedule="@daily"',
        )
    return UnknownName.of("template variable", found[1], variables, where=where)


def render_path(template: str, batch: Batch, params: Mapping[str, Any], *, where: str | None = None) -> str:
    """Render a path and make sure that it stays relative.

    Raises:
        Refused: the rendered path is absolute or climbs with `..`.
    """
    path = render(template, variables_of(batch, params), where=where)
    parts = PurePosixPath(path).parts
    if not path or path.startswith(("/", "~")) or ".." in parts or "\\" in path or "\0" in path:
        raise Refused(f'The path "{path}" leaves the project.', where=where, hint="a path inside the project")
    return path


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


@dataclass
class _Recorder:
    """The functions that a model's template calls, noting what they were called with."""

    resolve: Callable[[str, str], str]
    incremental: bool
    this: str
    dependencies: dict[tuple[str, str], None] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def _ref(self, *parts: str) -> str:
        """`ref("t")`, `ref("pipeline", "t")`: dbt's two forms."""
        return self._read(".".join(parts), "whole")

    def _batch(self, *parts: str) -> str:
        return self._read(".".join(parts), "batch")

    def _read(self, name: str, scope: str) -> str:
        self.dependencies[(name, scope)] = None
        return self.resolve(name, scope)

    def _config(self, **options: Any) -> str:
        self.config.update(options)
        return ""

    def functions(self) -> dict[str, Any]:
        """What the template sees."""
        return {
            "ref": self._ref,
            "batch": self._batch,
            "source": self._ref,
            "config": self._config,
            "is_incremental": lambda: self.incremental,
            "this": self.this,
        }


class _Anything:
    """Stands for values that a run will bring, while a model is only read: every use gives itself, printed as 0."""

    # The sandbox asks a callable for these before it lets a template call it.
    unsafe_callable = False
    alters_data = False

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> _Anything:
        return self

    def __call__(self, *args: object, **kwargs: object) -> _Anything:
        return self

    def __str__(self) -> str:
        return "0"

    def __add__(self, other: object) -> _Anything:
        return self

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __add__


#: Names that only a run can fill.
RUN_VARIABLES = (
    "batch_id", "params", "macros", "pipeline", "interval", "data_interval_start", "data_interval_end", "logical_date",
    "ds", "ds_nodash", "ts", "ts_nodash", "run_key",
)  # fmt: skip


def read_model(text: str, *, file: str, this: str) -> SqlModel:
    """Learn what a SQL model reads and how it is configured, by rendering it with placeholders, once as a first run
    and once as an incremental one: a branch that only one of them takes counts too.

    Raises:
        UserError: the template cannot be read.
        DefinitionError: it reads itself by `ref`.
    """
    dependencies: dict[tuple[str, str], None] = {}
    config: dict[str, Any] = {}
    filters = dict.fromkeys(("ds", "ds_nodash", "ts", "ts_nodash"), lambda _value: "0")
    reader = _ENVIRONMENT.overlay()
    reader.filters = {**_ENVIRONMENT.filters, **filters}
    for incremental in (False, True):
        recorder = _Recorder(lambda name, _scope: quote(name), incremental, quote(this))
        names = {**dict.fromkeys(RUN_VARIABLES, _Anything()), **recorder.functions()}
        try:
            reader.from_string(text).render(names)
        except TemplateSyntaxError as error:
            raise UserError(f"The template cannot be read: {error.message}.", where=f"{file}:{error.lineno}") from None
        except UndefinedError as error:
            raise _undefined(error, names, file) from None
        except SecurityError as error:
            raise UserError(f"The template asks for what templates may not do: {error}.", where=file) from None
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(f"The template fails: {error}.", where=file) from None
        dependencies |= recorder.dependencies
        config |= recorder.config
    for name, _ in dependencies:
        if name == this or name == this.rpartition(".")[2]:
            raise DefinitionError(
                f'The model reads itself by ref("{name}").', where=file, hint="{{ this }} is the table before this run"
            )
    return SqlModel(tuple(Dependency(n, s) for n, s in dependencies), config)


def render_model(
    text: str,
    variables: Mapping[str, Any],
    *,
    this: str,
    incremental: bool,
    resolve: Callable[[str, str], str],
    where: str,
) -> str:
    """Render a SQL model for a run.

    Args:
        text: the template.
        variables: from `variables_of`.
        this: the SQL name of the model's own table as it is before this run.
        incremental: what `is_incremental()` says: the table exists and the model is incremental.
        resolve: (name as written, scope) -> SQL name of the relation.
        where: file, for errors.
    """
    recorder = _Recorder(resolve, incremental, this)
    return render(text, {**variables, **recorder.functions()}, where=where)
