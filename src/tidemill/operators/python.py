"""Functions as tasks: `PythonOperator`, branches and short circuits; and what stands behind `@task`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError
from tidemill.operators.branching import skip_all_except, skip_everything_after


class PythonOperator(BaseOperator):
    """Calls a function.

    Args:
        python_callable: the function. Parameters that it has by the names of the context's variables (`ds`, `ti`,
            `params`, `context` ...) get their values; `**kwargs` gets all of them.
        op_args, op_kwargs: its other arguments; templates, and results of other tasks.
        templates_dict: texts that are rendered, for its parameter of that name.
        show_return_value_in_logs: write what it returns to the log.
        options: those of every task; see `BaseOperator`.
    """

    kind = "python"
    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        templates_dict: Mapping[str, Any] | None = None,
        show_return_value_in_logs: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not callable(python_callable):
            raise DefinitionError(
                f'"{self.task_id}" calls {python_callable!r}, which is no function.',
                where=self.place,
                hint="python_callable=function, without parentheses",
            )
        self.python_callable = python_callable
        self.op_args = tuple(op_args or ())
        self.op_kwargs = dict(op_kwargs or {})
        self.templates_dict = dict(templates_dict or {})
        self.show_return_value_in_logs = show_return_value_in_logs

    def execute(self, context: TaskContext) -> Any:
        """Call the function."""
        result = self.call(context)
        if result is not None and self.show_return_value_in_logs:
            text = repr(result)
            self.log.info("returned %s", text if len(text) <= 1000 else f"{text[:1000]}... ({len(text):,} characters)")
        return result

    def call(self, context: TaskContext) -> Any:
        """Call the function with what its parameters ask for."""
        if self.templates_dict:
            context.add(templates_dict=self.templates_dict)
        return self.python_callable(
            *self.op_args, **arguments_for(self.python_callable, self.op_args, self.op_kwargs, context)
        )


def arguments_for(
    function: Callable[..., Any], given: Sequence[Any], named: Mapping[str, Any], context: TaskContext
) -> dict[str, Any]:
    """Arguments by name of a call: those that were given, and variables of the context that the function asks for."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function of C without a signature
        return dict(named)
    made = dict(named)
    kinds = [one.kind for one in parameters.values()]
    if inspect.Parameter.VAR_KEYWORD in kinds:
        taken = list(parameters)[: len(given)]
        return {**{name: context[name] for name in context if name not in taken}, **made}
    for at, (name, one) in enumerate(parameters.items()):
        by_place = one.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL) or at < len(given)
        if by_place or name in made:
            continue
        # A parameter with a default gets the variable all the same, as in Airflow: `def f(ds=None)`.
        if name == "context":
            made[name] = context
        elif name in context:
            made[name] = context[name]
    return made


class BranchPythonOperator(PythonOperator):
    """Calls a function that returns the id or ids of the tasks (or groups) that shall run; what else is right after it
    is skipped. None skips everything.
    """

    kind = "branch"
    decides = True

    def execute(self, context: TaskContext) -> Any:
        """Decide."""
        chosen = super().execute(context)
        skip_all_except(context, chosen)
        return chosen


class ShortCircuitOperator(PythonOperator):
    """Calls a function; if it returns something that is false, what is after it is skipped.

    Args:
        ignore_downstream_trigger_rules: skip all that follows, near or far; False: only what is right after it, and
            whatever follows by its own trigger rule.
        options: those of `PythonOperator`.
    """

    kind = "short_circuit"
    decides = True

    def __init__(self, *, ignore_downstream_trigger_rules: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.ignore_downstream_trigger_rules = ignore_downstream_trigger_rules

    def execute(self, context: TaskContext) -> Any:
        """Decide."""
        result = super().execute(context)
        if not result:
            self.log.info("what follows is skipped")
            skip_everything_after(context, whatever_its_rule=self.ignore_downstream_trigger_rules)
        return result


class Decorated(BaseOperator):
    """What a decorated function's task has: its arguments are those of the call, and instances differ in them."""

    @classmethod
    def with_values(cls, given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """See `BaseOperator.with_values`."""
        return {**given, "op_kwargs": {**given.get("op_kwargs", {}), **values}}


class DecoratedPython(Decorated, PythonOperator):
    """`@task`. A function that says that it returns a dictionary hands over its entries one by one, too."""

    def __init__(self, *, python_callable: Callable[..., Any], multiple_outputs: bool | None = None, **options: Any):
        if multiple_outputs is None:
            multiple_outputs = _returns_mapping(python_callable)
        super().__init__(python_callable=python_callable, multiple_outputs=multiple_outputs, **options)


class DecoratedBranch(Decorated, BranchPythonOperator):
    """`@task.branch`."""


class DecoratedShortCircuit(Decorated, ShortCircuitOperator):
    """`@task.short_circuit`."""


def _returns_mapping(function: Callable[..., Any]) -> bool:
    try:
        kind = get_type_hints(function).get("return")
    except Exception:  # annotations may name what is not there at run time
        return False
    kind = getattr(kind, "__origin__", None) or kind
    return isinstance(kind, type) and issubclass(kind, Mapping)
