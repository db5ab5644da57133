"""`DAG`: tasks and their order, with Airflow's arguments, and what a scheduler needs to know of them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from tidemill.authoring import current, registry
from tidemill.authoring.arguments import as_functions, as_length, check_id
from tidemill.authoring.dag_definition import definition_of
from tidemill.authoring.groups import TaskGroup
from tidemill.authoring.params import ParamArg, schemas_of
from tidemill.authoring.place import here
from tidemill.authoring.schedules import read_moment, read_schedule
from tidemill.authoring.task import BaseOperator
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.table import check_pipeline_name

if TYPE_CHECKING:
    from tidemill.model.batch import Interval
    from tidemill.model.definition import Definition

#: Airflow's words, and those that mean the same here.
SYNONYMS = {
    "dag_id": "name",
    "start_date": "start",
    "end_date": "end",
    "schedule_interval": "schedule",
    "timetable": "schedule",
    "concurrency": "max_active_tasks",
    "dagrun_timeout": "run_timeout",
    "doc_md": "doc",
    "is_paused_upon_creation": "paused",
    "render_template_as_native_obj": "native",
    "user_defined_macros": "macros",
    "user_defined_filters": "filters",
}


def renamed(given: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Arguments of a DAG by our own words.

    Raises:
        UnknownName: one that is neither ours nor Airflow's.
        DefinitionError: one that is given twice.
    """
    made: dict[str, Any] = {}
    for name, value in given.items():
        word = SYNONYMS.get(name, name)
        if word not in own:
            raise UnknownName.of("argument of DAG", name, [*own, *SYNONYMS], where=here())
        if word in made and made[word] != value:
            raise DefinitionError(f'"{name}" and "{word}" are the same argument.', where=here(), hint="leave one out")
        made[word] = value
    return made


def _with_synonyms(init: Callable[..., None]) -> Callable[..., None]:
    """Let `DAG(...)` take Airflow's words, too."""
    own = frozenset(inspect.signature(init).parameters) - {"self"}

    @functools.wraps(init)
    def with_synonyms(self: DAG, *positional: Any, **given: Any) -> None:
        init(self, *positional, **renamed(given, own))

    return with_synonyms


class DAG:
    """Tasks and their order: `with DAG("nightly", schedule="@daily"): ...`.

    Args:
        name: letters, digits, `_`, `-` and `.` (Airflow: `dag_id`).
        schedule: `@daily`, a cron expression or a list of them, a step such as `15m`, a timedelta; `@once` (at the
            start); `@continuous` (whenever the run before has ended, one at a time, for the time since its interval);
            `published("pipeline.table")`, combined by `&` and `|`; `FilesArrive("in/*.csv")`; an object with a method
            `next_interval(after) -> Interval | None`; or None: it is run by hand.
        start: no interval begins before (`start_date`); `end`: none ends after (`end_date`).
        catchup: also run intervals that were missed.
        zone: the IANA zone in which the schedule ticks; by default that of `start`, else UTC.
        default_args: for arguments of its tasks that are not given.
        max_active_runs: at the same time.
        max_active_tasks: instances of its tasks at the same time.
        run_timeout: a run that takes longer is stopped (`dagrun_timeout`).
        deadline: a run that has not ended so long after its interval's end is told of.
        deadline_from: what that counts from instead: "start" of the interval, "created" (when the run was asked for),
            or a moment.
        params: parameters of runs: `Param` or defaults.
        tags, owner: for people who look for it.
        doc: what it is for, as Markdown (`doc_md`); `description` is its first line.
        on_failure_callback, on_success_callback, on_deadline_callback: functions of the context of a run.
        paused: its schedule begins nothing before somebody resumes it (`is_paused_upon_creation`).
        native: a template that is nothing but an expression gives its value instead of a text
            (`render_template_as_native_obj`).
        macros, filters: names for templates (`user_defined_macros`, `user_defined_filters`).
        template_searchpath: folders of the project in which files of templates are looked for.

    Raises:
        DefinitionError: an argument has no meaning, or there is another pipeline of that name.
    """

    #: Runs may be given other parameters than those that it has.
    any_params: ClassVar[bool] = False

    @_with_synonyms
    def __init__(
        self,
        name: str = "",
        description: str = "",
        schedule: Any = None,
        *,
        start: str | datetime | None = None,
        end: str | datetime | None = None,
        catchup: bool = False,
        zone: str | None = None,
        default_args: Mapping[str, Any] | None = None,
        max_active_runs: int = 16,
        max_active_tasks: int | None = None,
        run_timeout: float | str | timedelta | None = None,
        deadline: float | str | timedelta | None = None,
        deadline_from: str | datetime = "end",
        params: Mapping[str, Any] | None = None,
        tags: Collection[str] = (),
        owner: str = "",
        doc: str = "",
        on_failure_callback: Any = None,
        on_success_callback: Any = None,
        on_deadline_callback: Any = None,
        paused: bool | None = None,
        native: bool = False,
        macros: Mapping[str, Any] | None = None,
        filters: Mapping[str, Callable[..., Any]] | None = None,
        template_searchpath: str | Collection[str] = (),
    ) -> None:
        self.place = here()
        self.name = _checked_name(name)
        self.default_args = dict(default_args or {})
        self.start, self.zone = read_moment(start or self.default_args.get("start_date"), zone)
        self.end, _ = read_moment(end or self.default_args.get("end_date"), self.zone)
        self.schedule = read_schedule(schedule, self.zone, self.start, catchup=catchup)
        self.catchup = catchup
        self.max_active_runs = max_active_runs
        self.max_active_tasks = max_active_tasks
        self.run_timeout = None if run_timeout is None else as_length(run_timeout)
        self.deadline = None if deadline is None else as_length(deadline)
        self.deadline_from = _whence(deadline_from, self.zone)
        self.params = schemas_of(params)
        self.tags = tuple(str(tag) for tag in tags)
        self.owner = owner or str(self.default_args.get("owner", ""))
        self.doc = inspect.cleandoc("\n\n".join(text for text in (description, doc) if text))
        self.paused = bool(paused)
        self.native = native
        self.macros = dict(macros or {})
        self.filters = dict(filters or {})
        found = [template_searchpath] if isinstance(template_searchpath, str) else template_searchpath
        self.template_searchpath = tuple(found)
        self.callbacks = {
            event: made
            for event, functions in (
                ("failure", on_failure_callback),
                ("success", on_success_callback),
                ("deadline", on_deadline_callback),
            )
            if (made := as_functions(functions))
        }
        self.task_dict: dict[str, BaseOperator] = {}
        self.groups: dict[str, TaskGroup] = {}
        self.task_group = TaskGroup(None, dag=self)
        registry.add(self)

    # -- tasks

    @property
    def dag_id(self) -> str:
        """Its name."""
        return self.name

    @property
    def tasks(self) -> list[BaseOperator]:
        """Its tasks, in the order in which they were made."""
        return list(self.task_dict.values())

    @property
    def task_ids(self) -> list[str]:
        """Their ids."""
        return list(self.task_dict)

    def add_task(self, task: BaseOperator) -> None:
        """Take in a task that was made outside of its `with` block.

        Raises:
            DefinitionError: there is one of that id, or it is in another DAG.
        """
        older = self.task_dict.get(task.task_id) or self.groups.get(task.task_id)
        if older is task:
            return
        if older is not None:
            raise DefinitionError(
                f'"{task.task_id}" exists already in DAG "{self.name}".',
                where=task.place,
                hint=f"another task_id; the first one is at {older.place}",
            )
        if task.dag is not None:
            raise DefinitionError(f'"{task.task_id}" is in DAG "{task.dag.name}" already.', where=here())
        task.dag = self
        self.task_dict[task.task_id] = task

    def get_task(self, task_id: str) -> BaseOperator:
        """One task. Raises UnknownName."""
        if task_id not in self.task_dict:
            raise UnknownName.of("task", task_id, self.task_dict, where=self.place)
        return self.task_dict[task_id]

    def has_task(self, task_id: str) -> bool:
        """Whether there is a task of that id."""
        return task_id in self.task_dict

    def below(self, task: BaseOperator) -> dict[str, BaseOperator]:
        """Everything that depends, near or far, on a task, by id."""
        found: dict[str, BaseOperator] = {}
        todo = task.downstream_list
        while todo:
            one = todo.pop()
            if one.task_id not in found:
                found[one.task_id] = one
                todo += one.downstream_list
        return found

    def __enter__(self) -> Self:
        current.open_dag(self)
        return self

    def __exit__(self, *error: object) -> None:
        current.close_dag()

    # -- what others do with it

    def hearers(self, event: str) -> tuple[Callable[..., Any], ...]:
        """The functions that are called on an event of a run: failure, success, deadline."""
        return self.callbacks.get(event, ())

    def definition(self) -> Definition:
        """What a scheduler and a web page know of it; no user's code is in it.

        Raises:
            DefinitionError: tasks wait for each other in a circle, or a parameter's default does not fit its schema.
        """
        return definition_of(self)

    def test(
        self,
        interval: str | datetime | Interval | None = None,
        params: Mapping[str, Any] | None = None,
        tasks: Collection[str] | None = None,
        answers: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run it in this process, without a database, waiting or workers; breakpoints work.

        Args:
            interval: the data interval, or a date in it; left out, the newest that is over, if it has a schedule.
            params: parameters of this run.
            tasks: only these tasks; what is before them counts as done.
            answers: to what tasks ask people, by task: an option, a list of them, or `{"chosen": ..., "form": {...}}`.

        Returns:
            A `Trial`: states, results and errors by task.
        """
        return registry.trials().test(self, interval, params, tasks, answers)

    def __repr__(self) -> str:
        return f"<DAG {self.name}: {len(self.task_dict)} tasks>"


def _whence(given: str | datetime, zone: str) -> str:
    """What a deadline counts from, as definitions have it. Raises DefinitionError."""
    if given in ("end", "start", "created"):
        return "" if given == "end" else str(given)
    moment, _ = read_moment(given, zone)
    assert moment is not None
    return moment.isoformat()


def _checked_name(name: str) -> str:
    if not name:
        raise DefinitionError("This DAG has no name.", where=here(), hint='tm.DAG("nightly")')
    try:
        # Names that no schema of SQL may have: tables that its tasks write are `<name>.<table>`.
        if name.replace("-", "_").replace(".", "_").isidentifier():
            check_pipeline_name(name.replace("-", "_").replace(".", "_"))
    except DefinitionError as error:
        error.where = error.where or here()
        raise
    return check_id(name, "DAG")


class DagMaker:
    """What `@dag` makes of a function: calling it makes the DAG of the tasks that the function makes."""

    #: What it makes.
    made: type[DAG] = DAG

    def __init__(self, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = dict(options)

    def __call__(self, *arguments: Any, **named: Any) -> DAG:
        """Make it. Parameters of the function become parameters of its runs, with their defaults."""
        signature = inspect.signature(self._function)
        bound = signature.bind_partial(*arguments, **named)
        bound.apply_defaults()
        named_so = {"name": self._function.__name__, "doc": inspect.getdoc(self._function) or ""}
        given = {SYNONYMS.get(word, word) for word in self._options}
        options = {word: value for word, value in named_so.items() if word not in given} | self._options
        options["params"] = {**dict(bound.arguments), **(options.get("params") or {})}
        with self.made(**options) as made:
            values = {name: ParamArg(name) for name in signature.parameters}
            self._function(**values)
        return made


def dag(function: Callable[..., Any] | str | None = None, **options: Any) -> Any:
    """Make a DAG by a function: `@dag(schedule="@daily")`; the arguments are those of `DAG`.

    The function is called once, when the file calls the decorated name; its parameters become parameters of runs.
    """
    if isinstance(function, str):
        options = {"name": function, **options}
        function = None
    if function is None:
        return functools.partial(DagMaker, options=options)
    return DagMaker(function, options)
