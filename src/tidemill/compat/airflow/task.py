"""`BaseOperator` with Airflow's arguments that ours does not have, and Airflow's steps around `execute`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, NoReturn

from tidemill.authoring.task import WEIGHT_RULES
from tidemill.authoring.task import BaseOperator as Task
from tidemill.authoring.task_context import TaskContext
from tidemill.compat.airflow.assets import addresses_of, outlet_names
from tidemill.compat.airflow.connections import ConnectionsOfTask
from tidemill.compat.airflow.deferring import TaskDeferred, executed
from tidemill.compat.airflow.events import InletEvents, OutletEvents, TriggeringEvents
from tidemill.compat.airflow.listeners import heard_of_task
from tidemill.compat.airflow.moments import in_pendulum
from tidemill.compat.airflow.plugins import MacrosOfPlugins
from tidemill.compat.airflow.retries import RetryPolicy, judge
from tidemill.compat.airflow.states import StatesOfAssets, TaskStates
from tidemill.model.asset import TOLD
from tidemill.model.batch import Interval
from tidemill.operators.branching import skip_all_except
from tidemill.plan.dates import interval_variables
from tidemill.plan.fields import render_field
from tidemill.plan.schedule import moment_of

#: Variables of the context that Airflow hands over as pendulum's.
_TIMES = (
    "logical_date", "execution_date", "data_interval_start", "data_interval_end", "prev_execution_date",
    "next_execution_date", "prev_data_interval_start_success", "prev_data_interval_end_success",
)  # fmt: skip


class BaseOperator(Task):
    """A task. These arguments are beside those of `tidemill.operators.BaseOperator`.

    Args:
        task_id: unique in its DAG.
        pre_execute, post_execute: called with the context before, and with the result too after `execute`.
        weight_rule: a strategy of the user's own counts as "absolute".
        task_concurrency: an older name of `max_active_tis_per_dag`.
        retry_policy: what an exception means for the next try.
        doc_json, doc_yaml, doc_rst: what it is for, where neither `doc` nor `doc_md` says so.
        task_display_name, email, email_on_failure, email_on_retry, start_date, end_date, executor, executor_config,
            run_as_user, sla, resources, ignore_first_depends_on_past, wait_for_past_depends_before_skipping,
            allow_nested_operators, logger_name: accepted, and not heeded.
        options: those of every task.
    """

    #: How Airflow's pages show template fields; subclasses add theirs to it.
    template_fields_renderers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        task_id: str = "",
        *,
        pre_execute: Callable[[Any], Any] | None = None,
        post_execute: Callable[[Any, Any], Any] | None = None,
        weight_rule: Any = "downstream",
        task_concurrency: int | None = None,
        retry_policy: RetryPolicy | None = None,
        doc: str | None = None,
        doc_md: str | None = None,
        doc_json: str | None = None,
        doc_yaml: str | None = None,
        doc_rst: str | None = None,
        task_display_name: str | None = None,
        email: Any = None,
        email_on_failure: bool | None = None,
        email_on_retry: bool | None = None,
        start_date: Any = None,
        end_date: Any = None,
        executor: str | None = None,
        executor_config: Any = None,
        run_as_user: str | None = None,
        sla: Any = None,
        resources: Any = None,
        ignore_first_depends_on_past: bool | None = None,
        wait_for_past_depends_before_skipping: bool | None = None,
        allow_nested_operators: bool | None = None,
        logger_name: str | None = None,
        outlets: Any = (),
        inlets: Any = (),
        **options: Any,
    ) -> None:
        if task_concurrency is not None:
            options.setdefault("max_active_tis_per_dag", task_concurrency)
        rule = str(weight_rule)
        super().__init__(
            task_id=task_id,
            weight_rule=rule if rule in WEIGHT_RULES else "absolute",
            doc=doc or "",
            doc_md=doc_md or doc_rst or doc_yaml or doc_json or "",
            outlets=outlet_names(outlets),
            inlets=outlet_names(inlets),
            **options,
        )
        self.task_display_name = task_display_name or self.task_id
        self.retry_policy = retry_policy
        self._inlet_addresses = addresses_of(inlets)
        #: The addresses of its outlets, by name.
        self.outlet_addresses = addresses_of(outlets)
        #: Values of template fields, as they were before `execute`.
        self._values: dict[str, Any] = {}
        self._asked_before, self._asked_after = pre_execute, post_execute

    @property
    def doc_md(self) -> str:
        """What it is for."""
        return self.doc

    @doc_md.setter
    def doc_md(self, text: str | None) -> None:
        self.doc = text or ""

    @property
    def upstream_task_id_set(self) -> set[str]:
        """Ids of the tasks right before it."""
        return set(self.upstream_task_ids)

    def prepare(self, context: TaskContext) -> None:
        """See `tidemill.operators.BaseOperator.prepare`: times have pendulum's methods."""
        # Whatever else a run was given is among its parameters, too.
        context.add(params={**context["conf"], **context["params"]})
        _give_moment(context)
        context.change(_TIMES, in_pendulum)
        # For Airflow, `dag.test()` is a run like others: it is `airflow tasks test` that this tells of.
        context.add(conn=ConnectionsOfTask(), macros=MacrosOfPlugins(), test_mode=False)
        known, cause = context.services.assets, context["conf"].get("published")
        began = cause.get("assets", ()) if isinstance(cause, Mapping) else ()
        context.add(
            inlet_events=InletEvents(known, self._inlet_addresses),
            outlet_events=OutletEvents(self.task_id, self.outlets),
            triggering_asset_events=TriggeringEvents(known, began),
            task_state_store=TaskStates(context),
            asset_state_store=StatesOfAssets(context, (*self.inlets, *self.outlets)),
        )

    @classmethod
    def listeners(cls, event: str) -> tuple[Callable[..., Any], ...]:
        """See `tidemill.operators.BaseOperator.listeners`: those of plug-ins."""
        return heard_of_task(event)

    def perform(self, context: TaskContext) -> Any:
        """See `tidemill.operators.BaseOperator.perform`."""
        self._values = {name: getattr(self, name, None) for name in self.template_fields}
        self.pre_execute(context)
        if self._asked_before is not None:
            self._asked_before(context)
        try:
            result = executed(self, context)
        except Exception as error:
            if self.retry_policy is not None:
                judge(self.retry_policy, error, context, self.log)
            raise
        self.post_execute(context, result)
        if self._asked_after is not None:
            self._asked_after(context, result)
        if notes := context["outlet_events"].notes():
            context["ti"].xcom_push(TOLD, notes)
        return result

    def render_template(self, content: Any, context: Any, *_options: Any, **_named: Any) -> Any:
        """Texts in a value with their templates rendered.

        Raises:
            UserError: a template is wrong, or uses what is not there.
        """
        return render_field(content, context, sandbox=_sandbox, where=self.place)

    def render_template_fields(self, context: Any, *_options: Any, **_named: Any) -> None:
        """Render the template fields that `execute` has set itself; others are done, and may be results of tasks.

        Raises:
            UserError: a template is wrong, or uses what is not there.
        """
        for name in self.template_fields:
            value = getattr(self, name, None)
            if value is not self._values.get(name):
                setattr(self, name, self.render_template(value, context))

    def defer(
        self, *, trigger: Any, method_name: str, kwargs: Mapping[str, Any] | None = None, timeout: Any = None
    ) -> NoReturn:
        """Wait for a trigger, and go on with a method; the worker waits meanwhile.

        Args:
            trigger: what is awaited; its first event counts.
            method_name: called with the context, `event` and these arguments.
            kwargs: the arguments.
            timeout: seconds, or a length of time; None: as long as the task may take.
        """
        raise TaskDeferred(trigger=trigger, method_name=method_name, kwargs=kwargs, timeout=timeout)

    def resume_execution(self, next_method: str, next_kwargs: Mapping[str, Any] | None, context: Any) -> Any:
        """Go on after what was awaited has come."""
        return getattr(self, next_method)(context, **(next_kwargs or {}))

    def pre_execute(self, context: Any) -> None:
        """Called before `execute`; for subclasses."""

    def post_execute(self, context: Any, result: Any = None) -> None:
        """Called after `execute`; for subclasses."""


def _give_moment(context: TaskContext) -> None:
    """A run without an interval has a `logical_date` all the same, as Airflow's have: see `moment_of`.

    Those before and after it are the same, as there.
    """
    run: Any = context["dag_run"]
    moment = moment_of(run.info)
    if run.info.interval is not None or moment is None:
        return
    instant = Interval(moment, moment + timedelta(microseconds=1))
    made = {**interval_variables(instant), "data_interval_end": moment, "execution_date": moment}
    for name, days in (("prev", 0), ("next", 0), ("yesterday", -1), ("tomorrow", 1)):
        other = interval_variables(Interval(moment + timedelta(days=days), instant.end + timedelta(days=days)))
        made |= {f"{name}_{form}": other[form] for form in ("ds", "ds_nodash")}
    context.add(**made, prev_execution_date=moment, next_execution_date=moment)
    context["ti"].run = replace(run, moment=moment)
    context.add(dag_run=context["ti"].run)


def _sandbox() -> Any:
    from tidemill.plan.template import Sandbox

    return Sandbox()


class BaseBranchOperator(BaseOperator):
    """A task that decides, by `choose_branch`, which of the tasks right after it run."""

    kind = "branch"
    decides = True

    def choose_branch(self, context: Any) -> Any:
        """The id or ids of the tasks that shall run."""
        return None

    def execute(self, context: TaskContext) -> Any:
        """Decide."""
        chosen = self.choose_branch(context)
        skip_all_except(context, chosen)
        return chosen
