"""`@task` and its kinds: functions as tasks. Which operator stands behind each is in one table."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.authoring import current
from tidemill.authoring.mapping import Expansion, MappedOperator, Partial, check_expansion, check_rows
from tidemill.authoring.place import here
from tidemill.authoring.task import BaseOperator, accepted_arguments
from tidemill.authoring.xcom_arg import PlainArg, XComArg
from tidemill.model.errors import DefinitionError, UnknownName

#: Kind of a decorated task -> the operator behind it. They are in a layer above, and are found by name at first use.
KINDS = {
    "python": ("tidemill.operators.python", "DecoratedPython"),
    "bash": ("tidemill.operators.bash", "DecoratedBash"),
    "branch": ("tidemill.operators.python", "DecoratedBranch"),
    "short_circuit": ("tidemill.operators.python", "DecoratedShortCircuit"),
    "sensor": ("tidemill.operators.sensors", "DecoratedSensor"),
    "virtualenv": ("tidemill.operators.virtualenv", "DecoratedVirtualenv"),
}


def operator_of(kind: str, kinds: Mapping[str, tuple[str, str]] = KINDS) -> type[BaseOperator]:
    """The operator behind a kind of decorated task."""
    module, name = kinds[kind]
    found: type[BaseOperator] = getattr(importlib.import_module(module), name)
    return found


class TaskMaker:
    """What `@task` makes of a function: calling it in a DAG makes a task and gives its result-to-come."""

    def __init__(
        self,
        function: Callable[..., Any],
        kind: str,
        options: Mapping[str, Any],
        kinds: Mapping[str, tuple[str, str]] = KINDS,
    ) -> None:
        if isinstance(function, staticmethod | classmethod):
            raise DefinitionError("A method cannot be a task.", where=here(), hint="a function outside of the class")
        functools.update_wrapper(self, function)
        self.function = function
        self._kind = kind
        self._kinds = kinds
        self._options = dict(options)
        accepted = accepted_arguments(operator_of(kind, kinds))
        for name in self._options:
            if name not in accepted and name != "task_group":
                raise UnknownName.of(f"argument of @task.{kind}", name, accepted, where=here())

    def __call__(self, *arguments: Any, **named: Any) -> XComArg:
        """Make a task that will call the function with these arguments; results of other tasks may be among them."""
        self._check(arguments, named)
        operator = operator_of(self._kind, self._kinds)
        made: BaseOperator = operator(**self._all_options(), op_args=arguments, op_kwargs=named)
        return PlainArg(made)

    def override(self, **options: Any) -> TaskMaker:
        """The same with other arguments of the task."""
        return TaskMaker(self.function, self._kind, {**self._options, **options}, self._kinds)

    def partial(self, **given: Any) -> MappedMaker:
        """Arguments that all instances share."""
        return MappedMaker(self, given)

    def expand(self, **mapped: Any) -> XComArg:
        """An instance for each combination of elements of `mapped`."""
        return MappedMaker(self, {}).expand(**mapped)

    def expand_kwargs(self, rows: Any) -> XComArg:
        """An instance for each dictionary of arguments."""
        return MappedMaker(self, {}).expand_kwargs(rows)

    def mapped(self, given: Mapping[str, Any], make: Callable[[Partial], MappedOperator]) -> XComArg:
        """A mapped task of it; `make` calls `expand` or `expand_kwargs`."""
        partial = Partial(operator_of(self._kind, self._kinds), {**self._all_options(), "op_kwargs": dict(given)})
        return PlainArg(make(partial))

    def check_names(self, names: Any) -> None:
        """Every argument must be one of the function's. Raises UnknownName."""
        parameters = inspect.signature(self.function).parameters
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            return
        for name in names:
            if name not in parameters:
                raise UnknownName.of(f"parameter of {self.function.__name__}()", name, parameters, where=here())

    def _check(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        try:
            inspect.signature(self.function).bind_partial(*arguments, **named)
        except TypeError as error:
            raise DefinitionError(
                f"{self.function.__name__}(): {error}.",
                where=here(),
                hint=f"{self.function.__name__}{inspect.signature(self.function)}",
            ) from None

    def _all_options(self) -> dict[str, Any]:
        options = {"python_callable": self.function, **self._options}
        options.setdefault("doc", options.get("doc_md") or inspect.getdoc(self.function) or "")
        options["task_id"] = self._free_id(options.get("task_id") or self.function.__name__)
        return options

    def _free_id(self, wanted: str) -> str:
        """`wanted`, or `wanted__1` ... where there is a task of that id: a function may be called more than once."""
        dag = self._options.get("dag") or current.dag()
        group = self._options.get("task_group") or current.group(dag)
        if dag is None:
            return wanted
        made, count = wanted, 0
        stem = re.sub(r"__\d+$", "", wanted)
        while (group.child_id(made) if group is not None else made) in dag.task_dict:
            count += 1
            made = f"{stem}__{count}"
        return made

    def __repr__(self) -> str:
        return f"<@task.{self._kind} {self.function.__name__}>"


class MappedMaker:
    """A decorated function with some arguments given."""

    def __init__(self, of: TaskMaker, given: Mapping[str, Any]) -> None:
        of.check_names(given)
        self._of = of
        self._given = dict(given)

    def partial(self, **given: Any) -> MappedMaker:
        """More arguments that all instances share."""
        return MappedMaker(self._of, {**self._given, **given})

    def expand(self, **mapped: Any) -> XComArg:
        """See `TaskMaker.expand`."""
        self._of.check_names(mapped)
        expansion = Expansion(named=check_expansion(mapped, self._given))
        return self._of.mapped(self._given, lambda partial: partial.made(expansion))

    def expand_kwargs(self, rows: Any) -> XComArg:
        """See `TaskMaker.expand_kwargs`."""
        checked = check_rows(rows)
        for row in checked if isinstance(checked, list) else ():
            self._of.check_names(row if isinstance(row, dict) else ())
        return self._of.mapped(self._given, lambda partial: partial.made(Expansion(rows=checked)))


class TaskDecorator:
    """`@task`, `@task(retries=2)`, and its kinds: `@task.branch`, `@task.bash` ..."""

    #: The operators behind its kinds.
    kinds: Mapping[str, tuple[str, str]] = KINDS

    def __call__(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """A function as a task."""
        return self._made("python", function, options)

    def python(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """The same as `@task`."""
        return self._made("python", function, options)

    def bash(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """The function returns a shell command, which is run."""
        return self._made("bash", function, options)

    def branch(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """The function returns the id or ids of the tasks right after it that shall run; the others are skipped."""
        return self._made("branch", function, options)

    def short_circuit(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """If the function returns something that is false, what is after it is skipped."""
        return self._made("short_circuit", function, options)

    def sensor(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """The function is asked again and again until it returns something that is true, or a `PokeReturnValue`."""
        return self._made("sensor", function, options)

    def virtualenv(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """The function runs in a virtual environment with `requirements=[...]` of its own."""
        return self._made("virtualenv", function, options)

    def _made(self, kind: str, function: Callable[..., Any] | None, options: dict[str, Any]) -> Any:
        if function is None:
            return functools.partial(TaskMaker, kind=kind, options=options, kinds=self.kinds)
        if not callable(function):
            raise DefinitionError(
                f"@task takes arguments by name, not {function!r}.", where=here(), hint='@task(task_id="load")'
            )
        return TaskMaker(function, kind, options, self.kinds)


def setup(function: Any) -> Any:
    """Let what a decorated function makes be a setup: `@setup` above or below `@task`."""
    return _Marked(function, "as_setup")


def teardown(function: Any = None, *, on_failure_fail_dagrun: bool = False) -> Any:
    """Let what a decorated function makes be a teardown: `@teardown` above or below `@task`."""
    if function is None:
        return functools.partial(teardown, on_failure_fail_dagrun=on_failure_fail_dagrun)
    return _Marked(function, "as_teardown", on_failure_fail_dagrun=on_failure_fail_dagrun)


class _Marked:
    """A decorated function whose tasks are setups or teardowns."""

    def __init__(self, function: Any, mark: str, **options: Any) -> None:
        self._made = function if hasattr(function, "override") else TaskMaker(function, "python", {})
        self._mark = mark
        self._marks = options

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Make the task."""
        return getattr(self._made(*arguments, **named), self._mark)(**self._marks)

    def override(self, **options: Any) -> _Marked:
        """The same with other arguments of the task."""
        return _Marked(self._made.override(**options), self._mark, **self._marks)


#: The decorator itself.
task = TaskDecorator()
