"""Kinds of `@task` that packages of providers bring (`@task.sql`), and what they are made with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from tidemill.authoring.decorators import TaskMaker
from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.task import BaseOperator
from tidemill.operators import python

#: Operators behind such kinds, by their paths: one may be of a DAG file, which nobody can import by its name.
_operators: dict[str, type] = {}


def __getattr__(name: str) -> type:
    """What a maker of tasks asks for by name. Raises AttributeError."""
    try:
        return _operators[name]
    except KeyError:
        raise AttributeError(name) from None


class DecoratedOperator(python.Decorated, BaseOperator):
    """Base of operators that get what they do from a function, before another base: they call it, and do that.

    Args:
        python_callable: the function.
        op_args, op_kwargs: its arguments; variables of the context come by name.
        kwargs_to_upstream: arguments of the next base that would be taken here otherwise.
        options: those of the next base.
    """

    template_fields: Sequence[str] = ("op_args", "op_kwargs")
    template_fields_renderers: ClassVar[Mapping[str, str]] = {"op_args": "py", "op_kwargs": "py"}
    custom_operator_name = ""

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Sequence[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        kwargs_to_upstream: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options, **(kwargs_to_upstream or {}))
        self.python_callable = python_callable
        self.op_args = tuple(op_args or ())
        self.op_kwargs = dict(op_kwargs or {})


def task_decorator_factory(
    python_callable: Callable[..., Any] | None = None,
    *,
    decorated_operator_class: type,
    multiple_outputs: bool | None = None,
    **options: Any,
) -> Any:
    """What a kind of `@task` does: it makes of a function what makes tasks.

    Args:
        python_callable: the function; None: it comes later, as in `@task.sql(conn_id="shop")`.
        decorated_operator_class: the operator behind it.
        multiple_outputs: of its tasks.
        options: the same.
    """
    made = decorated_operator_class
    kind = str(getattr(made, "custom_operator_name", "")).removeprefix("@task.") or made.__name__
    path = f"{made.__module__}.{made.__qualname__}"
    _operators[path] = made
    given = options if multiple_outputs is None else {**options, "multiple_outputs": multiple_outputs}
    maker = functools.partial(TaskMaker, kind=kind, options=given, kinds={kind: (__name__, path)})
    return maker if python_callable is None else maker(python_callable)


def context_merge(context: TaskContext, *given: Any, **named: Any) -> None:
    """More variables of the context."""
    context.add(**{name: value for one in given for name, value in dict(one).items()}, **named)
