"""Jobs of AWS Glue as tasks, which give their worker back while the job runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from tidemill.authoring.arguments import as_length
from tidemill.authoring.signals import Reschedule
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.task_context import TaskContext
from tidemill.model.errors import RunFailed, TidemillError
from tidemill.ports.managed_jobs import ManagedJobs

#: The xcom with the run of the job that was begun, and by which try.
RUN = "glue_job_run"
#: Lines of the job's error log that the task's log shows.
_LAST_LINES = 20


class GlueJobOperator(BaseOperator):
    """Begins a run of a Glue job that exists, and waits for its end. The id of that run is what the task returns.

    Args:
        job_name: the job.
        script_args: its arguments: `{"--day": "{{ ds }}"}`.
        run_job_kwargs: further arguments of Glue's StartJobRun: `{"NumberOfWorkers": 10, "WorkerType": "G.1X"}`.
        aws_conn_id: a connection `aws://KEY:SECRET@?region_name=eu-west-1`; left out, AWS is asked by what the
            environment, its files or the machine tells.
        region_name: another region than that of the connection.
        wait_for_completion: False: the task is done when the run has begun.
        poke_interval: between looks, in which no worker is taken; seconds or a timedelta.
        options: those of every task.
    """

    kind = "glue"
    template_fields: Sequence[str] = ("job_name", "script_args", "run_job_kwargs")

    def __init__(
        self,
        *,
        job_name: str,
        script_args: Mapping[str, Any] | None = None,
        run_job_kwargs: Mapping[str, Any] | None = None,
        aws_conn_id: str | None = None,
        region_name: str | None = None,
        wait_for_completion: bool = True,
        poke_interval: float | timedelta = 30,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.job_name = job_name
        self.script_args = dict(script_args or {})
        self.run_job_kwargs = dict(run_job_kwargs or {})
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.wait_for_completion = wait_for_completion
        self.poke_interval = as_length(poke_interval)

    def execute(self, context: TaskContext) -> Any:
        """Begin the run, the first time; look at it, whenever this is executed again."""
        jobs, ti = context.services.need_outside().glue(self.aws_conn_id, self.region_name), context["ti"]
        known = ti.xcom_pull(key=RUN, map_indexes=ti.map_index)
        run = known[1] if known and known[0] == ti.try_number else None
        if run is None:
            arguments = {str(name): str(value) for name, value in self.script_args.items()}
            run = jobs.start(self.job_name, arguments, self.run_job_kwargs)
            self.log.info("began run %s of %s", run, self.job_name)
            ti.xcom_push(RUN, (ti.try_number, run))
        if not self.wait_for_completion:
            return run
        found = jobs.look(self.job_name, run)
        self.log.info("run %s: %s", run, found.state)
        if not found.ended:
            raise Reschedule(context.services.clock.now() + self.poke_interval)
        if not found.good:
            for line in self._last_lines(jobs, run):
                self.log.error("%s", line)
            why = f": {found.error}" if found.error else ""
            raise RunFailed(f"Run {run} of {self.job_name} ended as {found.state}{why}", where=self.place)
        return run

    def _last_lines(self, jobs: ManagedJobs, run: str) -> list[str]:
        try:
            return jobs.last_lines(run, _LAST_LINES)
        except TidemillError as error:  # how the run ended counts for more
            return [f"its log cannot be read: {error}"]
