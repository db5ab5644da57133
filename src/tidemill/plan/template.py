"""Jinja2 templates in a sandbox: what a path, a parameter or a SQL model may use, and how mistakes are shown.

`variables_of` gives the names that Airflow's users know (`ds`, `data_interval_start`, ...); `render_path` renders
paths, and `plan/sql_model.py` SQL models on the same ground. A template cannot reach Python's insides, load others
than a task's folders have, change what it is given, or ask the clock: the same run renders the same text months later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from jinja2 import FunctionLoader, StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from tidemill.model.batch import Batch
from tidemill.model.errors import Refused, TidemillError, UnknownName, UserError
from tidemill.plan.dates import DATE_FORMS, OF_INTERVALS, Macros, interval_variables

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The longest text or list, or number in digits, that `*` and `**` may make: a template is no place for a bomb.
_MAX_PRODUCT = 1_000_000
_CLOCK = frozenset({"now", "today", "utcnow"})


def variables_of(batch: Batch, params: Mapping[str, Any]) -> dict[str, Any]:
    """What every template of a run can say: Airflow's names, the batch id, parameters.

    What follows from a data interval is missing where the run has none; `run_key` is there instead.
    """
    made: dict[str, Any] = {
        "batch_id": batch.id,
        "params": dict(params),
        "macros": Macros(),
        "pipeline": batch.pipeline,
    }
    interval = batch.key.interval
    if interval is None:
        return {**made, "run_key": batch.key.run_key}
    return {**made, **interval_variables(interval)}


class _Missing(UndefinedError):
    """A name that does not exist was used; `owner` is what lacks the attribute, or None for a variable."""

    def __init__(self, message: str, name: str, owner: Any) -> None:
        super().__init__(message)
        self.name = name
        self.owner = owner


class _Undefined(StrictUndefined):
    """Raises `_Missing`, which knows the name, where Jinja's own raises text."""

    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = UndefinedError
    ) -> None:
        if exc is UndefinedError:
            owner = None if obj is missing else obj

            def exc(message: str) -> _Missing:
                return _Missing(message, str(name), owner)

        super().__init__(hint, obj, name, exc)


def _read_nothing(name: str) -> str:
    raise UserError(f'A template that is no task\'s cannot read another one, as "{name}".')


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of all templates.

    Args:
        extensions: of Jinja.
        read: gives the text of a template that another one includes; None: there are none.
    """

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self, extensions: Iterable[Any] = (), read: Callable[[str], str] | None = None) -> None:
        super().__init__(
            undefined=_Undefined,
            autoescape=False,
            keep_trailing_newline=True,
            extensions=list(extensions),
            loader=FunctionLoader(read or _read_nothing),
            cache_size=0,
        )
        self.filters.update(DATE_FORMS)
        for name in ("lipsum", "cycler", "joiner"):  # random, or of use in web pages only
            del self.globals[name]
        for name in ("random", "pprint", "urlize", "xmlattr"):
            del self.filters[name]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Time comes from the run, never from the clock."""
        if isinstance(obj, date) and attr in _CLOCK:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse products that only serve to fill the memory."""
        if max(_length(left) * _factor(right), _length(right) * _factor(left)) > _MAX_PRODUCT:
            raise SecurityError(f"what {operator} makes here is too large")
        return super().call_binop(context, operator, left, right)

    def compiled(self, text: str, file: str) -> Template:
        """`text` as a template whose errors name `file`.

        Raises:
            UserError: it is no valid template.
        """
        try:
            code = self.compile(text, name=file, filename=file)
        except TemplateSyntaxError as error:
            what = f"Template error: {str(error.message).rstrip('.')}."
            raise UserError(what, where=at_line(file, error.lineno)) from None
        return self.template_class.from_code(self, code, self.make_globals(None))


def _length(value: Any) -> int:
    """How long a text or list is, and about how many digits a number has."""
    if isinstance(value, int):
        return value.bit_length() // 3
    return len(value) if isinstance(value, str | bytes | list | tuple) else 0


def _factor(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 1


@contextmanager
def template_errors(file: str, known: Mapping[str, Any]) -> Iterator[None]:
    """Raise what goes wrong in a template as the user's error, with the template's file and line.

    `known` are the variables that the template had.
    """
    try:
        yield
    except _Missing as error:
        raise _unknown(error, known, _place(error, file)) from None
    except TidemillError as error:
        error.where = error.where or _place(error, file)
        raise
    except SecurityError as error:
        raise UserError(f"A template may not do this: {str(error).rstrip('.')}.", where=_place(error, file)) from None
    except TemplateError as error:
        raise UserError(f"Template error: {str(error).rstrip('.')}.", where=_place(error, file)) from None
    except Exception as error:
        what = f"Template error: {type(error).__name__}: {str(error).rstrip('.')}."
        raise UserError(what, where=_place(error, file)) from error


def _unknown(error: _Missing, known: Mapping[str, Any], where: str) -> UserError:
    owner = error.owner
    if owner is None and error.name in OF_INTERVALS:
        return UserError(
            f'The template asks for "{error.name}", and this run has no data interval.',
            where=where,
            hint='give the pipeline a schedule, e.g. schedule="@daily"',
        )
    if owner is None:
        return UnknownName.of("template variable", error.name, known, where=where)
    if isinstance(owner, Mapping):
        kind = "parameter" if owner == known.get("params") else "entry"
        return UnknownName.of(kind, error.name, map(str, owner), where=where)
    kind = f"attribute of {type(owner).__name__}"
    return UnknownName.of(kind, error.name, (n for n in dir(owner) if n[0] != "_" and n not in _CLOCK), where=where)


def _place(error: BaseException, file: str) -> str:
    """The deepest line of the template in the error's traceback, which Jinja rewrites to the template's lines."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == file:
            line = frame.tb_lineno
        frame = frame.tb_next
    return at_line(file, line) if line else file


def at_line(label: str, line: int) -> str:
    """The place of a line of a template: of a file, or of a text that stands in a Python file at `label`."""
    return f"{label}, line {line} of the template" if _HAS_LINE.search(label) else f"{label}:{line}"


_HAS_LINE = re.compile(r":\d+$")


_SANDBOX = Sandbox()
#: Longer texts are a mistake in a loop.
_MAX_OUTPUT = 1_000_000


def render(template: str, variables: Mapping[str, Any], *, where: str | None = None) -> str:
    """Render a template in the sandbox.

    Args:
        template: such as "feeds/{{ ds }}/flights.csv.gz".
        variables: from `variables_of`.
        where: what the template is, for messages: a file, or `pipelines/flights.py:12`.

    Raises:
        UnknownName: the template names a variable that does not exist.
        UserError: it is wrong, or asks for what the sandbox refuses.
    """
    return render_in(_SANDBOX, template, variables, where or "template")


def render_in(sandbox: Sandbox, template: str, variables: Mapping[str, Any], label: str) -> str:
    """Render in one of several sandboxes; `label` names the template in errors. See `render`."""
    with template_errors(label, variables):
        text = sandbox.compiled(template, label).render(variables)
    if len(text) > _MAX_OUTPUT:
        raise UserError(f"The template makes {len(text):,} characters.", where=label, hint=f"at most {_MAX_OUTPUT:,}")
    return text


def render_path(template: str, batch: Batch, params: Mapping[str, Any], *, where: str | None = None) -> str:
    """Render a path and make sure that it stays below its folder.

    Raises:
        Refused: the rendered path leaves it; see `relative_path`. And what `render` raises.
    """
    return relative_path(render(template, variables_of(batch, params), where=where), where=where)


_DRIVE = re.compile(r"[A-Za-z]:")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def relative_path(path: str, *, where: str | None = None) -> str:
    """A rendered path, `/` between its parts, which stays below the folder that it is taken from.

    Raises:
        Refused: it is empty, absolute, has a drive or a scheme, goes up by `..`, or has control characters.
    """
    reason = None
    if not path.strip():
        reason = "it is empty"
    elif any(ord(c) < 32 or ord(c) == 127 for c in path):
        reason = "it has control characters"
    elif _SCHEME.match(path):
        reason = "it is an address"
    elif path.startswith(("/", "\\", "~")) or _DRIVE.match(path):
        reason = "it is absolute"
    elif "\\" in path:
        reason = "it has a backslash"
    elif ".." in PurePosixPath(path).parts:
        reason = 'it goes up by ".."'
    if reason:
        raise Refused(f'The path "{path}" is refused: {reason}.', where=where, hint="a path below the project's folder")
    return str(PurePosixPath(path))
