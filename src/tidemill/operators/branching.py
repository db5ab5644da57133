"""Deciding which of the tasks right after a task shall run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import DefinitionError, UnknownName


def skip_all_except(context: TaskContext, chosen: Any) -> list[str]:
    """Decide for some of the tasks right after this one, by the ids of tasks or groups; the others are skipped.

    As in Airflow: what is also reached through a chosen task is not skipped, and neither are teardowns.

    Returns:
        The ids that were chosen.

    Raises:
        DefinitionError: what was chosen is no id. UnknownName: there is no such task.
    """
    task: BaseOperator = context["task"]
    assert task.dag is not None
    wanted = _chosen(task, chosen)
    kept = set(wanted)
    for id_ in wanted:
        kept |= task.dag.below(task.dag.task_dict[id_]).keys()
    skipped = [below for below in task.downstream_list if below.task_id not in kept and not below.is_teardown]
    context.skip(below.task_id for below in skipped)
    if skipped:
        task.log.info("skips %s", ", ".join(below.task_id for below in skipped))
    return wanted


def _chosen(task: BaseOperator, chosen: Any) -> list[str]:
    """Ids of tasks; those of groups stand for their first tasks."""
    assert task.dag is not None
    if chosen is None:
        return []
    if not isinstance(chosen, str | Iterable):
        raise DefinitionError(
            f'"{task.task_id}" chose {chosen!r}, which is no task.',
            where=task.place,
            hint="return ids of tasks, or None",
        )
    made: list[str] = []
    for id_ in [chosen] if isinstance(chosen, str) else chosen:
        if id_ in task.dag.task_dict:
            made.append(id_)
        elif id_ in task.dag.groups:
            made += [first.task_id for first in task.dag.groups[id_].get_roots()]
        else:
            known = [*task.downstream_task_ids, *task.dag.groups]
            raise UnknownName.of("task", str(id_), known, where=task.place)
    return made


def skip_everything_after(context: TaskContext, *, whatever_its_rule: bool) -> None:
    """Decide against what is after this task: all of it, or only what is right after it, which then decides on."""
    task: BaseOperator = context["task"]
    assert task.dag is not None
    after = list(task.dag.below(task).values()) if whatever_its_rule else task.downstream_list
    context.skip(below.task_id for below in after if not below.is_teardown)
