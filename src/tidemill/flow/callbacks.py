"""Telling a DAG's own code how its run ended: `on_success_callback`, `on_failure_callback`, `on_deadline_callback`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from tidemill.authoring.dag import DAG
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskServices
from tidemill.flow.context import context_of
from tidemill.flow.handing import Handing
from tidemill.flow.perform import call_all
from tidemill.model.asset import Told
from tidemill.model.graph import WHOLE
from tidemill.model.run import RunInfo
from tidemill.ports.executor import Job

#: The state of a run by the event that tells its end.
_ENDS = {"success": "success", "failure": "failed"}


def tell_run(
    dag: DAG, event: str, info: RunInfo, services: TaskServices, task: str | None = None, told: Sequence[Told] = ()
) -> None:
    """Call what a DAG wants to be called on an event of a run. What it raises is logged, and changes nothing.

    Args:
        dag: as its file made it.
        event: begun, success, failure or deadline.
        info: the run.
        services: what the functions can reach.
        task: the one that led to it, which is then `ti` in their context; left out, the first of the DAG.
        told: what a run that ended well has told of assets.
    """
    functions = dag.hearers(event)
    about: BaseOperator | None = dag.task_dict.get(task or next(iter(dag.task_dict), ""))
    if not functions or about is None:
        return
    job = Job(info.id, 0, (about.task_id, WHOLE), 0, "", services.clock.now(), None, info)
    context = context_of(dag, about, job, services, Handing(dag, info.id, services))
    run = context["dag_run"]
    if event in _ENDS:
        run = replace(run, state=_ENDS[event], end_date=services.clock.now())
    context.add(reason=event, dag_run=run, assets_told=told)
    about.prepare(context)
    call_all(functions, context, logging.getLogger(f"tidemill.run.{dag.name}").exception)
