"""A DAG's definition: nodes for the scheduler, and what people see of its tasks. No user's code is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.authoring.groups import TaskGroup
from tidemill.authoring.mapping import MappedOperator
from tidemill.authoring.task import BaseOperator, retry_of
from tidemill.model.definition import Definition, Kind, TaskInfo
from tidemill.model.errors import DefinitionError
from tidemill.model.graph import Graph, Node
from tidemill.plan.params import check_schemas

if TYPE_CHECKING:
    from tidemill.authoring.dag import DAG


def definition_of(dag: DAG) -> Definition:
    """See `DAG.definition`."""
    check_schemas(dag.params, where=dag.place)
    weights = weights_of(dag)
    return Definition(
        name=dag.name,
        kind=Kind.TASKS,
        graph=Graph((_node(task, weights[task.task_id]) for task in dag.tasks), place=dag.place),
        tasks={task.task_id: _info(task) for task in dag.tasks},
        schedule=dag.schedule,
        zone=dag.zone,
        start=dag.start,
        end=dag.end,
        catchup=dag.catchup,
        max_active_runs=dag.max_active_runs,
        max_active_tasks=dag.max_active_tasks,
        run_timeout=dag.run_timeout,
        deadline=dag.deadline,
        deadline_from=dag.deadline_from,
        paused=dag.paused,
        params=dag.params,
        file=dag.place.rpartition(":")[0],
        place=dag.place,
        doc=dag.doc,
        tags=dag.tags,
        owner=dag.owner,
        callbacks=tuple(dag.callbacks),
        any_params=dag.any_params,
    )


def _node(task: BaseOperator, weight: int) -> Node:
    group = task.task_group.mapped_group() if task.task_group is not None else None
    lengths = task.lengths if isinstance(task, MappedOperator) else None
    if group is not None and group.mapped is not None:
        lengths = group.mapped.lengths()
    if task.pool_slots < 1:
        raise DefinitionError(f'"{task.task_id}" takes {task.pool_slots} slots.', where=task.place, hint="pool_slots=1")
    return Node(
        id=task.task_id,
        upstream=tuple(task.upstream_task_ids),
        rule=task.trigger_rule,
        retry=retry_of(task),
        mapped=lengths,
        scope=group.group_id if group is not None else None,
        pool=task.pool,
        slots=task.pool_slots,
        weight=weight,
        queue=task.queue,
        limit=task.max_active_tis_per_dag,
        limit_in_run=task.max_active_tis_per_dagrun,
        timeout=task.execution_timeout,
        setup=task.is_setup,
        teardown=task.is_teardown,
        strict=task.is_teardown and task.on_failure_fail_dagrun,
        waits_for_past=task.depends_on_past,
        waits_for_downstream=task.wait_for_downstream,
    )


def _info(task: BaseOperator) -> TaskInfo:
    groups: list[TaskGroup] = task.task_group.path() if task.task_group is not None else []
    return TaskInfo(
        operator=task.task_type,
        group=tuple(str(group.group_id) for group in groups),
        doc=task.doc,
        place=task.place,
        inlets=task.inlets,
        outlets=task.outlets,
        labels=dict(task.edge_labels),
        callbacks=tuple(task.callbacks),
        color=task.ui_color,
    )


def weights_of(dag: DAG) -> dict[str, int]:
    """How heavy each task is, with what its weight rule adds.

    Everything below a task is a set of bits in one number: 10,000 tasks in a chain take 12 MB and some milliseconds,
    where sets would take gigabytes.
    """
    order = _in_order(dag)
    bits = {id_: 1 << at for at, id_ in enumerate(order)}
    same: dict[int, int] = {}
    for task in dag.tasks:
        same[task.priority_weight] = same.get(task.priority_weight, 0) | bits[task.task_id]
    below = _reached(dag, order[::-1], downstream=True) if _has_rule(dag, "downstream") else {}
    above = _reached(dag, order, downstream=False) if _has_rule(dag, "upstream") else {}
    made: dict[str, int] = {}
    for task in dag.tasks:
        reach = {"downstream": below, "upstream": above}.get(task.weight_rule, {}).get(task.task_id, 0)
        more = sum(weight * (reach & those).bit_count() for weight, those in same.items())
        made[task.task_id] = task.priority_weight + more
    return made


def _has_rule(dag: DAG, rule: str) -> bool:
    return any(task.weight_rule == rule for task in dag.tasks)


def _reached(dag: DAG, order: list[str], *, downstream: bool) -> dict[str, int]:
    bits = {id_: 1 << at for at, id_ in enumerate(order[::-1] if downstream else order)}
    found: dict[str, int] = {}
    for id_ in order:
        task, reach = dag.task_dict[id_], 0
        for near in task.downstream_task_ids if downstream else task.upstream_task_ids:
            reach |= bits[near] | found.get(near, 0)
        found[id_] = reach
    return found


def _in_order(dag: DAG) -> list[str]:
    """Ids, upstreams first; tasks in a circle, which the graph complains of, come last."""
    waiting = {task.task_id: len(task.upstream_task_ids) for task in dag.tasks}
    ready = [id_ for id_, count in waiting.items() if not count]
    made: list[str] = []
    while ready:
        id_ = ready.pop()
        made.append(id_)
        for below in dag.task_dict[id_].downstream_task_ids:
            waiting[below] -= 1
            if not waiting[below]:
                ready.append(below)
    seen = set(made)
    return made + [id_ for id_ in dag.task_dict if id_ not in seen]
