"""`BaseOperator`: a task of a DAG, with Airflow's arguments. The kinds of tasks that users name are in `operators`."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tidemill.authoring import current
from tidemill.authoring.arguments import as_functions, as_length, assets, check_id, exception_classes, one_of
from tidemill.authoring.edges import Linked, several
from tidemill.authoring.place import here
from tidemill.authoring.scopes import Scope
from tidemill.authoring.xcom_arg import PlainArg, args_in
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.graph import Retry, TriggerRule

if TYPE_CHECKING:
    from tidemill.authoring.dag import DAG
    from tidemill.authoring.groups import TaskGroup
    from tidemill.authoring.mapping import Partial

#: Events of a task that its code may want to hear of, and the arguments that take functions for them.
CALLBACKS = {
    "execute": "on_execute_callback",
    "failure": "on_failure_callback",
    "retry": "on_retry_callback",
    "success": "on_success_callback",
    "skipped": "on_skipped_callback",
}
WEIGHT_RULES = ("downstream", "upstream", "absolute")


class OperatorType(type):
    """Makes operators: default arguments of the DAG and its groups are filled in, the task is put in its place."""

    def __call__(cls, *positional: Any, **given: Any) -> Any:
        """Make one, with the place in the user's file, and put it in the DAG that is being written."""
        dag = given.get("dag") or current.dag()
        group = given.pop("task_group", None) or current.group(dag)
        if dag is None and group is not None:
            dag = group.dag
        names = list(_own_parameters(cls))
        given = {**dict(zip(names, positional, strict=False)), **given}
        if len(positional) > len(names):
            raise DefinitionError(f"{cls.__name__} takes arguments by name.", where=here(), hint=f"{names[0]}=...")
        defaults = default_args(dag, group, given.get("default_args"))
        accepted = accepted_arguments(cls)
        given |= {name: value for name, value in defaults.items() if name in accepted and name not in given}
        made: Any = object.__new__(cls)  # type: ignore[arg-type]  # for mypy, `cls` is a metaclass
        made.place, made.task_group = here(), group
        made.__init__(**given)  # what `type.__call__` does, with place and group known before
        made.enter(dag)
        return made


def default_args(dag: DAG | None, group: TaskGroup | None, own: Mapping[str, Any] | None) -> dict[str, Any]:
    """Default arguments that hold for a task: its own before those of its groups, innermost first, and its DAG's."""
    made: dict[str, Any] = dict(dag.default_args) if dag is not None else {}
    for one in group.path() if group is not None else ():
        made |= one.default_args
    return {**made, **(own or {})}


@cache
def _own_parameters(cls: type) -> tuple[str, ...]:
    """Parameters of a class's own `__init__`, in order."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]  # of the class, not an instance
    return tuple(one.name for one in found if one.kind in kinds and one.name != "self")


@cache
def accepted_arguments(cls: type) -> frozenset[str]:
    """Every argument that making one takes: those of each `__init__` up to one that passes nothing on."""
    made: set[str] = set()
    for one in cls.__mro__:
        if "__init__" not in one.__dict__ or one is object:
            continue
        made.update(_own_parameters(one))
        kinds = [p.kind for p in inspect.signature(one.__dict__["__init__"]).parameters.values()]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
    return frozenset(made - {"unknown"})


class BaseOperator(Linked, metaclass=OperatorType):
    """A task. Subclasses say what it does by `execute`, and which of their attributes are templates.

    Args:
        task_id: unique in its DAG; in a group, after the group's id and a dot.
        dag: the DAG; left out, the one whose `with` block this is in.
        retries: further tries after the first that fails.
        retry_delay: the wait before the second try, seconds or a timedelta.
        retry_exponential_backoff: True: each further wait is twice as long; a number: so many times.
        max_retry_delay: no wait is longer.
        jitter: the share of a wait, 0 to 1, by which it may be shorter.
        retry_on: exceptions after which it is tried again; others are final. None: all.
        no_retry_on: exceptions that are final.
        pool: what it takes `pool_slots` slots of.
        priority_weight: among ready tasks the heavier goes first. `weight_rule` says what is added: the weights of
            everything "downstream" (as in Airflow) or "upstream" of it, or nothing ("absolute").
        queue: which workers may have it.
        trigger_rule: when it may run, by how its upstreams ended; see `TriggerRule`.
        depends_on_past: it waits for itself in the run of the interval before.
        wait_for_downstream: and for what is right after itself there.
        execution_timeout: of one try, seconds or a timedelta.
        max_active_tis_per_dag: instances of it at the same time over all runs; `max_active_tis_per_dagrun` in a run.
        on_execute_callback, on_failure_callback, on_retry_callback, on_success_callback, on_skipped_callback:
            functions of the context, one or a list; called in the worker, they never change how the task ended.
        inlets, outlets: assets (tables, `s3://` addresses) that it reads and writes.
        do_xcom_push: keep what it returns. `multiple_outputs`: also each entry of a returned dictionary by its key.
        params: parameters beside those of the DAG.
        default_args: for arguments that are not given.
        doc, doc_md: what it is for.
        owner: whose it is.
        map_index_template: accepted for Airflow's files; instances are shown by their index.

    Raises:
        DefinitionError: an argument has no meaning, or the id is taken.
        UnknownName: there is no such argument.
    """

    #: Attributes that are rendered before it is executed.
    template_fields: Sequence[str] = ()
    #: Endings of file names: a template field that ends so is read from that file of the project.
    template_ext: Sequence[str] = ()
    #: The kind of task, as people see it; by default from the class's name.
    kind: ClassVar[str] = ""
    ui_color: ClassVar[str] = ""
    #: It decides which of the tasks right after it are skipped.
    decides: ClassVar[bool] = False

    place: str
    task_group: TaskGroup | None

    def __init__(
        self,
        task_id: str = "",
        *,
        dag: DAG | None = None,
        retries: int = 0,
        retry_delay: float | timedelta = timedelta(minutes=5),
        retry_exponential_backoff: bool | float = False,
        max_retry_delay: float | timedelta | None = None,
        jitter: float = 0.0,
        retry_on: type[BaseException] | Sequence[type[BaseException]] | None = None,
        no_retry_on: type[BaseException] | Sequence[type[BaseException]] = (),
        pool: str = "default",
        pool_slots: int = 1,
        priority_weight: int = 1,
        weight_rule: str = "downstream",
        queue: str = "default",
        trigger_rule: str = TriggerRule.ALL_SUCCESS,
        depends_on_past: bool = False,
        wait_for_downstream: bool = False,
        execution_timeout: float | timedelta | None = None,
        max_active_tis_per_dag: int | None = None,
        max_active_tis_per_dagrun: int | None = None,
        on_execute_callback: Any = None,
        on_failure_callback: Any = None,
        on_retry_callback: Any = None,
        on_success_callback: Any = None,
        on_skipped_callback: Any = None,
        inlets: Any = (),
        outlets: Any = (),
        do_xcom_push: bool = True,
        multiple_outputs: bool = False,
        params: Mapping[str, Any] | None = None,
        default_args: Mapping[str, Any] | None = None,
        doc: str = "",
        doc_md: str = "",
        owner: str = "",
        map_index_template: str | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            known = accepted_arguments(type(self))
            raise UnknownName.of(f"argument of {type(self).__name__}", next(iter(unknown)), known, where=self.place)
        self.dag: DAG | None = None
        self.label = check_id(task_id, "task")
        self.task_id = self.task_group.child_id(task_id) if self.task_group is not None else task_id
        self.retries = retries or 0
        self.retry_delay = as_length(retry_delay)
        self.retry_exponential_backoff = retry_exponential_backoff
        self.max_retry_delay = None if max_retry_delay is None else as_length(max_retry_delay)
        self.jitter = jitter
        self.retry_on = None if retry_on is None else exception_classes(retry_on)
        self.no_retry_on = exception_classes(no_retry_on)
        self.pool = "default" if pool == "default_pool" else pool
        self.pool_slots = pool_slots
        self.priority_weight = priority_weight
        self.weight_rule = one_of("weight rule", str(weight_rule), WEIGHT_RULES)
        self.queue = queue
        rules = [str(rule) for rule in TriggerRule]
        self.trigger_rule = TriggerRule(one_of("trigger rule", _RENAMED.get(trigger_rule, str(trigger_rule)), rules))
        self.depends_on_past = depends_on_past or wait_for_downstream
        self.wait_for_downstream = wait_for_downstream
        self.execution_timeout = None if execution_timeout is None else as_length(execution_timeout)
        self.max_active_tis_per_dag = max_active_tis_per_dag
        self.max_active_tis_per_dagrun = max_active_tis_per_dagrun
        self.callbacks: dict[str, tuple[Callable[..., Any], ...]] = {
            event: made
            for event, functions in (
                ("execute", on_execute_callback),
                ("failure", on_failure_callback),
                ("retry", on_retry_callback),
                ("success", on_success_callback),
                ("skipped", on_skipped_callback),
            )
            if (made := as_functions(functions))
        }
        self.inlets = assets(inlets)
        self.outlets = assets(outlets)
        self.do_xcom_push = do_xcom_push
        self.multiple_outputs = multiple_outputs
        self.params = dict(params or {})
        self.doc = inspect.cleandoc(doc or doc_md)
        self.owner = owner
        self.is_setup = self.is_teardown = False
        self.on_failure_fail_dagrun = False
        self.upstream_task_ids: dict[str, None] = {}
        self.downstream_task_ids: dict[str, None] = {}
        #: Texts on the edges to tasks right after it.
        self.edge_labels: dict[str, str] = {}

    # -- what it does

    def execute(self, context: Any) -> Any:
        """Do it; what is returned becomes its xcom `return_value`. One that does nothing just stands in the order."""

    def prepare(self, context: Any) -> None:
        """Change what the context gives, before templates are rendered: for those who know other words for it."""

    def perform(self, context: Any) -> Any:
        """What a worker calls: `execute`, and whatever belongs around it."""
        return self.execute(context)

    def hearers(self, event: str) -> tuple[Callable[..., Any], ...]:
        """The functions that are called on an event of a try, by the words of `CALLBACKS`."""
        return (*self.callbacks.get(event, ()), *self.listeners(event))

    @classmethod
    def listeners(cls, event: str) -> tuple[Callable[..., Any], ...]:
        """Those that hear of all tasks of this kind, without being named by them."""
        return ()

    def on_kill(self) -> None:
        """Stop what `execute` has begun elsewhere: called when the task is stopped or its time is over."""

    @property
    def log(self) -> logging.Logger:
        """Where it writes to."""
        return logging.getLogger(f"tidemill.task.{self.task_id}")

    # -- its place in the DAG

    @property
    def task_type(self) -> str:
        """The kind of task, as people see it: `bash`, `python`, `file_sensor`."""
        return kind_of(type(self))

    def enter(self, dag: DAG | None) -> None:
        """Take a place in a DAG, right after the tasks whose results are arguments."""
        if self.task_group is not None:
            self.task_group.add(self)
        if dag is not None:
            dag.add_task(self)
        current.note_task(self)
        for name in self.template_fields:
            for arg in args_in(getattr(self, name, None)):
                for task in arg.operators():
                    task.link(self)

    def link(self, after: BaseOperator, label: str | None = None) -> None:
        """`after` runs after this one.

        Raises:
            DefinitionError: they are of two DAGs, or of none.
        """
        dag = self.dag or after.dag
        if dag is None or (self.dag or dag) is not (after.dag or dag):
            what = "belong to two DAGs" if dag is not None else "belong to no DAG"
            raise DefinitionError(
                f'"{self.task_id}" and "{after.task_id}" {what}.',
                where=here(),
                hint="tasks of one `with DAG(...)` block; ExternalTaskSensor waits for another DAG",
            )
        for task in (self, after):
            if task.dag is None:
                dag.add_task(task)
        self.downstream_task_ids[after.task_id] = None
        after.upstream_task_ids[self.task_id] = None
        if label:
            self.edge_labels[after.task_id] = label

    def first_tasks(self) -> list[BaseOperator]:
        """See `Linked`."""
        return [self]

    def last_tasks(self) -> list[BaseOperator]:
        """See `Linked`."""
        return [self]

    @property
    def upstream_list(self) -> list[BaseOperator]:
        """The tasks right before it."""
        return [self.dag.task_dict[id_] for id_ in self.upstream_task_ids] if self.dag else []

    @property
    def downstream_list(self) -> list[BaseOperator]:
        """The tasks right after it."""
        return [self.dag.task_dict[id_] for id_ in self.downstream_task_ids] if self.dag else []

    @property
    def output(self) -> PlainArg:
        """What it will have returned, to hand to another task."""
        return PlainArg(self)

    @property
    def dag_id(self) -> str:
        """The name of its DAG."""
        return self.dag.name if self.dag else ""

    # -- setup and teardown

    def as_setup(self) -> Self:
        """It prepares something for the tasks after it."""
        self.is_setup = True
        return self

    def as_teardown(self, *, setups: Any = None, on_failure_fail_dagrun: bool | None = None) -> Self:
        """It cleans up: it runs once the work is over, however that ended, if its setup succeeded.

        Args:
            setups: tasks that prepare what this cleans up; they become its upstreams.
            on_failure_fail_dagrun: its own failure fails the run.
        """
        self.is_teardown = True
        self.trigger_rule = TriggerRule.ALL_DONE_SETUP_SUCCESS
        if on_failure_fail_dagrun is not None:
            self.on_failure_fail_dagrun = on_failure_fail_dagrun
        for one in several(setups) if setups is not None else ():
            for task in one.last_tasks():
                task.as_setup()
                task.link(self)
        return self

    def __enter__(self) -> Self:
        if not self.is_setup and not self.is_teardown:
            raise DefinitionError(
                f'"{self.task_id}" is neither setup nor teardown, so nothing can be within it.',
                where=here(),
                hint=f"{self.label}.as_teardown(setups=...)",
            )
        current.open_scope(Scope([self]))
        return self

    def __exit__(self, *error: object) -> None:
        scope = current.close_scope()
        if error[0] is None:
            scope.close()

    def add_task(self, task: Any) -> None:
        """Within `with teardown as scope:`, let a task that was made before belong to the block."""
        for one in several(task):
            for made in one.first_tasks():
                current.note_task(made)

    # -- mapping

    @classmethod
    def partial(cls, **given: Any) -> Partial:
        """Arguments that all instances share; `.expand(name=[...])` then makes one instance for each element."""
        from tidemill.authoring.mapping import Partial

        return Partial(cls, given)

    @classmethod
    def with_values(cls, given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of one instance of a mapped task: those that all share, and its own."""
        return {**given, **values}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.task_id}>"


#: Names that Airflow had before.
_RENAMED = {"none_failed_or_skipped": "none_failed_min_one_success", "dummy": "always"}


def retry_of(task: BaseOperator) -> Retry:
    """A task's policy. Raises DefinitionError."""
    backoff = task.retry_exponential_backoff
    factor = 2.0 if backoff is True else float(backoff or 1.0)
    longest = {} if task.max_retry_delay is None else {"longest": task.max_retry_delay}
    try:
        return Retry(task.retries, task.retry_delay, factor, jitter=task.jitter, **longest)
    except DefinitionError as error:
        error.where = error.where or task.place
        raise


def kind_of(operator: type[BaseOperator]) -> str:
    """What people call a kind of task: `bash` of `BashOperator`, `file_sensor` of `FileSensor`."""
    name = operator.__name__.removesuffix("Operator")
    return operator.kind or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
