"""Rendering a task's template fields: the sandbox of its DAG, and files of templates within the project."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tidemill.authoring.dag import DAG
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import Refused, UserError
from tidemill.plan.fields import native_sandbox, render_field

if TYPE_CHECKING:
    from tidemill.plan.template import Sandbox

_sandboxes: WeakKeyDictionary[DAG, Sandbox] = WeakKeyDictionary()


def render_task(dag: DAG, task: BaseOperator, context: TaskContext, root: Path, done: Collection[int]) -> None:
    """Render a task's template fields in their places, but for values (by identity) that came from other tasks.

    Raises:
        UserError: a template is wrong, uses what is not there, or its file is not there.
        Refused: a file leaves the project.
    """
    where = task.place
    read = partial(_read, root=root, near=Path(dag.place.rpartition(":")[0]).parent, search=dag.template_searchpath)
    for name in task.template_fields:
        value = render_field(
            getattr(task, name, None),
            context,
            sandbox=lambda: _sandbox(dag, read),
            where=where,
            endings=tuple(task.template_ext),
            read=read,
            done=done,
        )
        setattr(task, name, value)


def _sandbox(dag: DAG, read: Callable[[str], str]) -> Sandbox:
    """The environment of a DAG's templates, made once."""
    if dag not in _sandboxes:
        from tidemill.plan.template import Sandbox

        made = native_sandbox(read) if dag.native else Sandbox(read=read)
        made.filters.update(dag.filters)
        _sandboxes[dag] = made
    return _sandboxes[dag]


def _read(name: str, *, root: Path, near: Path, search: tuple[str, ...]) -> str:
    """A file of a template: beside the DAG's own file, in its search path, or in the project; never outside of that."""
    top = root.resolve()
    folders = [near, *(root / one for one in search), root]
    for folder in folders:
        path = (folder / name).resolve()
        if not path.is_file():
            continue
        if not path.is_relative_to(top) and not path.is_relative_to(near.resolve()):
            raise Refused(f'The template "{name}" is outside of the project.', hint="a file below the project's folder")
        return path.read_text("utf-8")
    raise UserError(f'There is no template "{name}".', hint="a path beside the DAG's file, or in the project")
