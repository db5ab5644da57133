"""Asking for a run of another pipeline, and waiting for its end if that is wanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tidemill.authoring.arguments import as_length
from tidemill.authoring.signals import FailTask, Reschedule
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import RunFailed
from tidemill.model.run import RUN_ENDS, RunState

#: The xcom that holds the run which was asked for, by Airflow's name.
RUN = "trigger_run_id"


class TriggerDagRunOperator(BaseOperator):
    """Asks for a run of another pipeline.

    Args:
        trigger_dag_id: its name.
        conf: parameters of the run.
        logical_date: a moment of its interval; left out, the run has none.
        trigger_run_id: tells the run from others; asked for twice, it is one run. Left out, one for each run and try
            series of this task.
        reset_dag_run: a run that is there already begins anew.
        wait_for_completion: wait until it has ended, giving back the worker in between.
        poke_interval: between looks at it, seconds.
        allowed_states, failed_states: ends that count as good (success), and as bad (failed, cancelled).
        options: those of every task.
    """

    kind = "trigger_dag_run"
    template_fields: Sequence[str] = ("trigger_dag_id", "trigger_run_id", "logical_date", "conf")

    def __init__(
        self,
        *,
        trigger_dag_id: str,
        conf: Mapping[str, Any] | None = None,
        logical_date: str | datetime | None = None,
        trigger_run_id: str | None = None,
        reset_dag_run: bool = False,
        wait_for_completion: bool = False,
        poke_interval: float | timedelta = 60,
        allowed_states: Collection[str] = (RunState.SUCCESS,),
        failed_states: Collection[str] = (RunState.FAILED, RunState.CANCELLED),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.trigger_dag_id = trigger_dag_id
        self.conf = dict(conf or {})
        self.logical_date = logical_date
        self.trigger_run_id = trigger_run_id
        self.reset_dag_run = reset_dag_run
        self.wait_for_completion = wait_for_completion
        self.poke_interval = as_length(poke_interval)
        self.allowed_states = {RunState(state) for state in allowed_states}
        self.failed_states = {RunState(state) for state in failed_states}

    def execute(self, context: TaskContext) -> Any:
        """Ask for the run, the first time; look at it, whenever this is executed again."""
        pipelines, ti = context.services.need_pipelines(), context["ti"]
        asked = ti.xcom_pull(key=RUN, map_indexes=ti.map_index)
        key = f"{self.trigger_run_id or ti.key}"
        run_id = asked[1] if asked and asked[0] == (key, ti.try_number) else None
        if run_id is None:
            moment = self.logical_date
            date = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
            again = self.reset_dag_run or ti.try_number > 1
            run_id = pipelines.trigger(
                self.trigger_dag_id, conf=self.conf, logical_date=date, run_key=None if date else key, again=again
            )
            self.log.info("asked for run %s of %s", run_id, self.trigger_dag_id)
            ti.xcom_push(RUN, ((key, ti.try_number), run_id))
        if not self.wait_for_completion:
            return run_id
        state = pipelines.run_state(run_id)
        if state in self.failed_states:
            raise RunFailed(f"Run {run_id} of {self.trigger_dag_id} ended as {state}.", where=self.place)
        if state in self.allowed_states:
            return run_id
        if state in RUN_ENDS:
            raise FailTask(f"Run {run_id} of {self.trigger_dag_id} ended as {state}, which is neither good nor bad.")
        raise Reschedule(context.services.clock.now() + self.poke_interval)
