"""`XComArg`: what a task will have returned, as an argument of another task.

It stands for a value that exists only in a run; `flow.resolve` puts the value in its place there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tidemill.authoring.edges import Linked
from tidemill.authoring.place import here
from tidemill.model.errors import DefinitionError
from tidemill.ports.xcoms import RETURNED

if TYPE_CHECKING:
    from tidemill.authoring.task import BaseOperator


class XComArg(Linked):
    """A value that tasks hand over."""

    def operators(self) -> list[BaseOperator]:
        """The tasks whose results it is made of."""
        return []

    def first_tasks(self) -> list[BaseOperator]:
        """See `Linked`."""
        return self.operators()

    def last_tasks(self) -> list[BaseOperator]:
        """See `Linked`."""
        return self.operators()

    def map(self, function: Callable[[Any], Any]) -> XComArg:
        """Each element of it after a function of it, applied in the worker; one that raises SkipTask is skipped."""
        return MappedArg(self, function)

    def filter(self, function: Callable[[Any], Any] | None = None) -> XComArg:
        """The elements of it that a function, applied in the worker, lets pass; None: those that are true.

        A task that is mapped over them has an instance for each element all the same: the others are skipped.
        """
        return FilterArg(self, function or bool)

    def concat(self, *others: XComArg) -> XComArg:
        """Its elements and those of other results, one after the other."""
        if any(isinstance(_beneath(one), ZipArg) for one in (self, *others)):
            raise DefinitionError(
                "What was zipped cannot be followed by others.", where=here(), hint="concat first, zip then in a task"
            )
        return ConcatArg((self, *others))

    def zip(self, *others: XComArg, fillvalue: Any = None, longest: bool = False) -> XComArg:
        """Tuples of elements at the same place of several results: as many as the shortest has.

        Args:
            others: results of other tasks.
            fillvalue: stands where a shorter result has ended; given, the longest counts.
            longest: the longest counts, with None where a shorter one has ended.
        """
        if any(isinstance(_beneath(one), FilterArg | ConcatArg) for one in (self, *others)):
            raise DefinitionError(
                "What was filtered or concatenated cannot be zipped: how long it is shows in the worker only.",
                where=here(),
                hint="zip first, or do it in a task",
            )
        return ZipArg((self, *others), longest or fillvalue is not None, fillvalue)

    def as_setup(self) -> XComArg:
        """See `BaseOperator.as_setup`."""
        for task in self.operators():
            task.as_setup()
        return self

    def as_teardown(self, *, setups: Any = None, on_failure_fail_dagrun: bool | None = None) -> XComArg:
        """See `BaseOperator.as_teardown`."""
        for task in self.operators():
            task.as_teardown(setups=setups, on_failure_fail_dagrun=on_failure_fail_dagrun)
        return self

    def __iter__(self) -> Iterator[Any]:
        raise DefinitionError(
            "What a task returns is not known while the file is read, so it cannot be looped over.",
            where=here(),
            hint="f.expand(x=result) makes a task for each element; result['key'] takes one value",
        )

    def __bool__(self) -> bool:
        raise DefinitionError(
            "What a task returns is not known while the file is read, so it is neither true nor false.",
            where=here(),
            hint="decide in a task: @task.branch or @task.short_circuit",
        )


class PlainArg(XComArg):
    """What a task pushed under a key."""

    def __init__(self, operator: BaseOperator, key: str = RETURNED) -> None:
        self.operator = operator
        self.key = key

    def operators(self) -> list[BaseOperator]:
        """See `XComArg`."""
        return [self.operator]

    def __getitem__(self, key: str) -> PlainArg:
        """What the task pushed under another key: with `multiple_outputs`, one entry of its dictionary."""
        if not isinstance(key, str):
            raise DefinitionError(
                f"A key of a result is a text, not {key!r}.", where=here(), hint="pick the element in a task"
            )
        return PlainArg(self.operator, key)

    def __enter__(self) -> BaseOperator:
        return self.operator.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.operator.__exit__(*error)

    def __str__(self) -> str:
        """As a template, so that it may stand within a text."""
        key = "" if self.key == RETURNED else f", key='{self.key}'"
        return f"{{{{ ti.xcom_pull(task_ids='{self.operator.task_id}'{key}) }}}}"

    def __repr__(self) -> str:
        return f"XComArg({self.operator.task_id}{'' if self.key == RETURNED else '.' + self.key})"


class MappedArg(XComArg):
    """Each element after a function."""

    def __init__(self, of: XComArg, function: Callable[[Any], Any]) -> None:
        self.of = of
        self.function = function

    def operators(self) -> list[BaseOperator]:
        """See `XComArg`."""
        return self.of.operators()


class FilterArg(XComArg):
    """The elements that a function lets pass."""

    def __init__(self, of: XComArg, function: Callable[[Any], Any]) -> None:
        self.of = of
        self.function = function

    def operators(self) -> list[BaseOperator]:
        """See `XComArg`."""
        return self.of.operators()


class ConcatArg(XComArg):
    """The elements of several, one after the other."""

    def __init__(self, of: tuple[XComArg, ...]) -> None:
        self.of = of

    def operators(self) -> list[BaseOperator]:
        """See `XComArg`."""
        return [task for one in self.of for task in one.operators()]


class ZipArg(XComArg):
    """Tuples of elements of several."""

    def __init__(self, of: tuple[XComArg, ...], longest: bool, fill: Any) -> None:
        self.of = of
        self.longest = longest
        self.fill = fill

    def operators(self) -> list[BaseOperator]:
        """See `XComArg`."""
        return [task for one in self.of for task in one.operators()]


class GroupArg(XComArg):
    """Within a mapped group: this index's value of an argument of the group."""

    def __init__(self, group: Any, name: str) -> None:
        self.group = group
        self.name = name

    def operators(self) -> list[BaseOperator]:
        """See `XComArg`."""
        return list(self.group.mapped.operators())

    def first_tasks(self) -> list[BaseOperator]:
        """It is an argument, never a step."""
        return []

    def last_tasks(self) -> list[BaseOperator]:
        """It is an argument, never a step."""
        return []


def _beneath(arg: XComArg) -> XComArg:
    """What functions are mapped over."""
    while isinstance(arg, MappedArg):
        arg = arg.of
    return arg


def args_in(value: Any) -> Iterator[XComArg]:
    """Every XComArg within a value of lists, tuples, sets and dictionaries."""
    if isinstance(value, XComArg):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from args_in(one)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from args_in(one)
