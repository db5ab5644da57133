"""The order of tasks: `>>` and `<<` between tasks, groups, results and lists of them; `chain`; labels on edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from tidemill.authoring.place import here
from tidemill.model.errors import DefinitionError

if TYPE_CHECKING:
    from tidemill.authoring.task import BaseOperator

#: What may stand beside `>>`: a task, a group, a task's result, a label, or several of them.
Linkable: TypeAlias = "Linked | Sequence[Linked]"


class Linked:
    """Has a place in the order of tasks."""

    #: The tasks at which it begins and ends; a task is both itself.
    def first_tasks(self) -> list[BaseOperator]:
        """The tasks before which what is upstream of it must end."""
        return []

    def last_tasks(self) -> list[BaseOperator]:
        """The tasks after which what is downstream of it may begin."""
        return []

    def set_downstream(self, others: Linkable, edge_modifier: Label | None = None) -> None:
        """`others` run after this."""
        for other in several(others):
            _connect(self, other, edge_modifier)

    def set_upstream(self, others: Linkable, edge_modifier: Label | None = None) -> None:
        """`others` run before this."""
        for other in several(others):
            _connect(other, self, edge_modifier)

    def __rshift__(self, other: Any) -> Any:
        self.set_downstream(other)
        return other

    def __lshift__(self, other: Any) -> Any:
        self.set_upstream(other)
        return other

    def __rrshift__(self, other: Any) -> Any:
        """`[a, b] >> self`: a list has no `>>` of its own."""
        self.set_upstream(other)
        return self

    def __rlshift__(self, other: Any) -> Any:
        self.set_downstream(other)
        return self


class Label(Linked):
    """A text on the edges between what is before and what is after it: `a >> Label("empty") >> b`."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._above: list[Linked] = []
        self._below: list[Linked] = []

    def attach(self, other: Linked, *, above: bool) -> None:
        """Take one side; edges are made once both are known."""
        (self._above if above else self._below).append(other)
        pairs = [(other, b) for b in self._below] if above else [(a, other) for a in self._above]
        for before, after in pairs:
            _connect(before, after, self)


def several(found: Any) -> list[Linked]:
    """One or several things as a list, nested ones flattened.

    Raises:
        DefinitionError: something that has no place in an order of tasks.
    """
    if isinstance(found, Linked):
        return [found]
    if isinstance(found, Iterable) and not isinstance(found, str | bytes | dict):
        return [one for part in found for one in several(part)]
    hint = "call the function: `a() >> b()`" if callable(found) else "tasks, task groups, results of tasks, lists"
    raise DefinitionError(f"{_named(found)} has no place in the order of tasks.", where=here(), hint=hint)


def _named(found: Any) -> str:
    name = getattr(found, "__name__", None)
    return f'"{name}"' if name else f"A {type(found).__name__}"


def _connect(above: Linked, below: Linked, label: Label | None) -> None:
    if isinstance(below, Label):
        below.attach(above, above=True)
        return
    if isinstance(above, Label):
        above.attach(below, above=False)
        return
    for before in above.last_tasks():
        for after in below.first_tasks():
            before.link(after, label.label if label else None)


def chain(*steps: Any) -> None:
    """Let each step run after the one before it: `chain(a, [b, c], [d, e], f)`.

    Between two lists the tasks run in pairs (`b >> d`, `c >> e`); they must be of one length. A label between them
    stands on every edge.

    Raises:
        DefinitionError: two lists of different lengths.
    """
    for above, below in pairwise(steps):
        if isinstance(above, list | tuple) and isinstance(below, list | tuple):
            if len(above) != len(below):
                raise DefinitionError(
                    f"chain() cannot pair {len(above)} tasks with {len(below)}.",
                    where=here(),
                    hint="cross_downstream(a, b) lets every one of b follow every one of a",
                )
            for one, other in zip(above, below, strict=True):
                several(one)[0].set_downstream(other)
        else:
            for one in several(above):
                one.set_downstream(below)


def cross_downstream(above: Any, below: Any) -> None:
    """Let each of `below` run after every one of `above`."""
    for one in several(above):
        one.set_downstream(below)
