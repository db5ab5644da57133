"""What is being written at this moment: the DAG and the group whose `with` block the user's file is in.

One file is loaded at a time in a process, so plain stacks do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidemill.authoring.dag import DAG
    from tidemill.authoring.groups import TaskGroup
    from tidemill.authoring.scopes import Scope
    from tidemill.authoring.task import BaseOperator

_dags: list[DAG] = []
_groups: list[TaskGroup] = []
_scopes: list[Scope] = []


def dag() -> DAG | None:
    """The innermost DAG that is open."""
    return _dags[-1] if _dags else None


def group(of: DAG | None) -> TaskGroup | None:
    """The innermost open group of a DAG; its root where none is open."""
    if of is None:
        return None
    return next((one for one in reversed(_groups) if one.dag is of), of.task_group)


def open_dag(made: DAG) -> None:
    """A `with` block of a DAG begins."""
    _dags.append(made)


def close_dag() -> None:
    """It ends."""
    _dags.pop()


def open_group(made: TaskGroup) -> None:
    """A `with` block of a group begins."""
    _groups.append(made)


def close_group() -> None:
    """It ends."""
    _groups.pop()


def open_scope(made: Scope) -> None:
    """A `with` block of a setup or teardown begins."""
    _scopes.append(made)


def close_scope() -> Scope:
    """It ends."""
    return _scopes.pop()


def note_task(task: BaseOperator) -> None:
    """A task was made: the innermost setup's or teardown's block is around it."""
    if _scopes:
        _scopes[-1].add_task(task)


def forget() -> None:
    """Close everything: a file that was being loaded has failed in the middle of a block."""
    _dags.clear()
    _groups.clear()
    _scopes.clear()
