"""Task groups: tasks that stand together in the graph, are put in order together, and may be mapped together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from tidemill.authoring import current
from tidemill.authoring.arguments import check_id
from tidemill.authoring.edges import Linked
from tidemill.authoring.mapping import Expansion, check_expansion, check_rows
from tidemill.authoring.place import here
from tidemill.authoring.task import BaseOperator
from tidemill.authoring.xcom_arg import GroupArg, XComArg
from tidemill.model.errors import DefinitionError

if TYPE_CHECKING:
    from tidemill.authoring.dag import DAG


class TaskGroup(Linked):
    """Tasks that belong together: `with TaskGroup("load"): ...`.

    Args:
        group_id: unique in its DAG; None only for the DAG's own group.
        prefix_group_id: the tasks' ids begin with the group's: `load.extract`.
        parent_group: the group that it is in; left out, the one whose `with` block this is in.
        dag: the DAG; left out, the one whose `with` block this is in.
        default_args: for arguments of its tasks that are not given.
        tooltip: what it is for.
        ui_color: of its box.
        add_suffix_on_collision: a second group of that id gets `__1` after it.

    Raises:
        DefinitionError: there is no DAG, or the id is taken.
    """

    def __init__(
        self,
        group_id: str | None,
        prefix_group_id: bool = True,
        parent_group: TaskGroup | None = None,
        dag: DAG | None = None,
        default_args: Mapping[str, Any] | None = None,
        tooltip: str = "",
        ui_color: str = "",
        add_suffix_on_collision: bool = False,
    ) -> None:
        made_in = dag or (parent_group.dag if parent_group is not None else current.dag())
        if made_in is None:
            raise DefinitionError(f'The group "{group_id}" is in no DAG.', where=here(), hint="with tm.DAG(...):")
        self.dag: DAG = made_in
        self.parent: TaskGroup | None = parent_group or (current.group(made_in) if group_id is not None else None)
        self.prefix = prefix_group_id
        self.default_args = dict(default_args or {})
        self.tooltip = tooltip
        self.ui_color = ui_color
        self.place = here()
        self.children: list[BaseOperator | TaskGroup] = []
        #: What it is mapped over, where it is.
        self.mapped: Expansion | None = None
        self.group_id = self._named(group_id, suffix=add_suffix_on_collision) if group_id is not None else None
        if self.parent is not None:
            self.parent.children.append(self)

    def _named(self, group_id: str, *, suffix: bool) -> str:
        check_id(group_id, "task group")
        plain = self.parent.child_id(group_id) if self.parent is not None else group_id
        made, count = plain, 0
        while suffix and made in self.dag.groups:
            count += 1
            made = f"{plain}__{count}"
        other = self.dag.groups.get(made) or self.dag.task_dict.get(made)
        if other is not None:
            raise DefinitionError(
                f'"{made}" exists already in DAG "{self.dag.name}".',
                where=here(),
                hint=f"another id; the first one is at {other.place}",
            )
        self.dag.groups[made] = self
        return made

    # -- what is in it

    def add(self, task: BaseOperator) -> None:
        """A task was made in it."""
        self.children.append(task)

    def child_id(self, label: str) -> str:
        """The id of something in it that is called `label`."""
        outer = self.prefix_of()
        return f"{outer}.{label}" if outer else label

    def prefix_of(self) -> str:
        """What the ids of its tasks begin with."""
        if self.group_id is not None and self.prefix:
            return self.group_id
        return self.parent.prefix_of() if self.parent is not None else ""

    def path(self) -> list[TaskGroup]:
        """The groups around its tasks, outermost first, itself last; the DAG's own is not among them."""
        outer = self.parent.path() if self.parent is not None else []
        return [*outer, self] if self.group_id is not None else outer

    def mapped_group(self) -> TaskGroup | None:
        """The mapped group that its tasks are in."""
        return next((one for one in self.path() if one.mapped is not None), None)

    def iter_tasks(self) -> Iterator[BaseOperator]:
        """Its tasks, those of groups within too."""
        for child in self.children:
            if isinstance(child, TaskGroup):
                yield from child.iter_tasks()
            else:
                yield child

    def get_roots(self) -> list[BaseOperator]:
        """Its tasks without an upstream among them."""
        tasks = list(self.iter_tasks())
        inside = {task.task_id for task in tasks}
        return [task for task in tasks if not inside.intersection(task.upstream_task_ids)]

    def get_leaves(self) -> list[BaseOperator]:
        """Its tasks without a downstream among them; what follows the group does not wait for its teardowns."""
        tasks = [task for task in self.iter_tasks() if not task.is_teardown]
        inside = {task.task_id for task in tasks}
        leaves = [task for task in tasks if not inside.intersection(task.downstream_task_ids)]
        work = [task for task in leaves if not task.is_setup]
        return work or leaves or list(self.iter_tasks())

    def first_tasks(self) -> list[BaseOperator]:
        """See `Linked`."""
        return self.get_roots()

    def last_tasks(self) -> list[BaseOperator]:
        """See `Linked`."""
        return self.get_leaves()

    def __enter__(self) -> Self:
        current.open_group(self)
        return self

    def __exit__(self, *error: object) -> None:
        current.close_group()

    def __repr__(self) -> str:
        return f"<TaskGroup {self.group_id}>"


class GroupMaker:
    """What `@task_group` makes of a function: calling it makes a group of the tasks that the function makes."""

    def __init__(
        self, function: Callable[..., Any], options: Mapping[str, Any], given: Mapping[str, Any] | None = None
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = dict(options)
        self._given = dict(given or {})

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Make the group; returns what the function returns, or the group where that is nothing."""
        return self._make(None, arguments, {**self._given, **named})

    def override(self, **options: Any) -> GroupMaker:
        """The same with other arguments of the group."""
        return GroupMaker(self._function, {**self._options, **options}, self._given)

    def partial(self, **given: Any) -> GroupMaker:
        """Arguments that all instances share."""
        return GroupMaker(self._function, self._options, {**self._given, **given})

    def expand(self, **mapped: Any) -> Any:
        """An instance of the group for each combination of elements; its tasks follow each other index by index."""
        expansion = Expansion(named=check_expansion(mapped, self._given))
        return self._make(expansion, (), self._given, tuple(mapped))

    def expand_kwargs(self, rows: Any) -> Any:
        """An instance of the whole group for each dictionary of arguments."""
        wanted = tuple(name for name in inspect.signature(self._function).parameters if name not in self._given)
        return self._make(Expansion(rows=check_rows(rows)), (), self._given, wanted)

    def _make(
        self,
        expansion: Expansion | None,
        arguments: tuple[Any, ...],
        named: Mapping[str, Any],
        mapped: tuple[str, ...] = (),
    ) -> Any:
        options = {"group_id": self._function.__name__, "add_suffix_on_collision": True, **self._options}
        options.setdefault("tooltip", inspect.getdoc(self._function) or "")
        group = TaskGroup(**options)
        if expansion is not None:
            if group.mapped_group() is not None:
                raise DefinitionError(
                    f'The group "{group.group_id}" is mapped within a mapped group.',
                    where=group.place,
                    hint="one mapping within another is not possible: flatten the list before the outer group",
                )
            expansion.lengths()
            group.mapped = expansion
        values = {**named, **{name: GroupArg(group, name) for name in mapped}}
        with group:
            made = self._function(*arguments, **values)
        for task in expansion.operators() if expansion is not None else ():
            for root in group.get_roots():
                task.link(root)
        return _result(made, group)


def _result(made: Any, group: TaskGroup) -> Any:
    """What a call of a group gives: its function's result where other tasks can use it, else the group."""
    if isinstance(made, XComArg | dict | list | tuple):
        return made
    return group


def task_group(function: Callable[..., Any] | str | None = None, **options: Any) -> Any:
    """Make groups by a function: `@task_group`, or `@task_group(group_id="load")`.

    Calling the function makes the group; its tasks are those made within. `.expand(x=[...])` maps the whole group.
    """
    if isinstance(function, str):
        options = {"group_id": function, **options}
        function = None
    if function is None:
        return functools.partial(GroupMaker, options=options)
    return GroupMaker(function, options)
