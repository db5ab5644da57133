"""Dynamic mapping: `.partial(...).expand(...)` makes a task an instance for each element of its inputs.

How many there are is known in a run only; the definition says of what (`model.graph.Lengths`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidemill.authoring import current
from tidemill.authoring.place import here
from tidemill.authoring.task import BaseOperator, accepted_arguments, default_args, kind_of
from tidemill.authoring.xcom_arg import (
    ConcatArg,
    FilterArg,
    GroupArg,
    MappedArg,
    PlainArg,
    XComArg,
    ZipArg,
    args_in,
)
from tidemill.model.errors import DefinitionError, UnknownName
from tidemill.model.graph import Lengths
from tidemill.ports.xcoms import RETURNED

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False)
class Expansion:
    """What something is mapped over.

    Args:
        named: values by argument, of `expand`: there is an instance for each combination, the last varying fastest.
        rows: arguments by instance, of `expand_kwargs`.
    """

    named: Mapping[str, Any] | None = None
    rows: Any = None

    def operators(self) -> Iterator[BaseOperator]:
        """The tasks whose results it is mapped over, or whose results are within."""
        for arg in args_in(dict(self.named) if self.named is not None else self.rows):
            yield from arg.operators()

    def lengths(self) -> Lengths:
        """Of what the number of instances is made.

        Raises:
            DefinitionError: something that has no elements.
        """
        parts = list(self.named.items()) if self.named is not None else [("", self.rows)]
        known: list[int] = []
        tasks: list[str] = []
        zipped: list[tuple[str, ...]] = []
        summed: list[tuple[str, ...]] = []
        longest: set[bool] = set()
        for name, value in parts:
            if isinstance(value, XComArg):
                found = _sources(value, longest)
                if _is_concat(value):
                    summed.append(tuple(found))
                elif len(found) == 1:
                    tasks += found
                else:
                    zipped.append(tuple(found))
            elif isinstance(value, list | tuple | dict):
                known.append(len(value))
            else:
                raise _unmappable(name, value)
        if len(longest) > 1:
            raise DefinitionError(
                "A task is mapped over zip() of the shortest and of the longest at once.",
                where=here(),
                hint="zip them in a task before",
            )
        return Lengths(tuple(known), tuple(tasks), tuple(zipped), True in longest, tuple(summed))


def _is_concat(arg: XComArg) -> bool:
    while isinstance(arg, MappedArg | FilterArg):
        arg = arg.of
    return isinstance(arg, ConcatArg)


def _sources(arg: XComArg, longest: set[bool]) -> list[str]:
    """The tasks whose lengths an argument has: several where they are zipped, or come one after the other."""
    if isinstance(arg, MappedArg | FilterArg):
        return _sources(arg.of, longest)
    if isinstance(arg, ConcatArg):
        return list(itertools.chain.from_iterable(_sources(one, longest) for one in arg.of))
    if isinstance(arg, ZipArg):
        longest.add(arg.longest)
        return list(itertools.chain.from_iterable(_sources(one, longest) for one in arg.of))
    if isinstance(arg, GroupArg):
        raise DefinitionError(
            "A task in a mapped group cannot be mapped over the group's argument.",
            where=here(),
            hint="one mapping within another is not possible: flatten the list before the group",
        )
    assert isinstance(arg, PlainArg)
    if arg.key != RETURNED:
        raise DefinitionError(
            f'A task cannot be mapped over the key "{arg.key}" of "{arg.operator.task_id}".',
            where=here(),
            hint="map over what a task returns: let another one return that list",
        )
    return [arg.operator.task_id]


def _unmappable(name: str, value: Any) -> DefinitionError:
    what = f'The argument "{name}"' if name else "expand_kwargs()"
    return DefinitionError(
        f"{what} has {type(value).__name__} {str(value)[:60]!r}, over which nothing can be mapped.",
        where=here(),
        hint="a list, a dictionary, or what a task returns; partial(...) takes what all instances share",
    )


class Partial:
    """An operator with some arguments given; the others come from `expand` or `expand_kwargs`."""

    def __init__(self, kind: type[BaseOperator], given: dict[str, Any]) -> None:
        accepted = accepted_arguments(kind)
        for name in given:
            if name not in accepted and name != "task_group":
                raise UnknownName.of(f"argument of {kind.__name__}", name, accepted, where=here())
        self._kind = kind
        self._given = given

    def expand(self, **mapped: Any) -> MappedOperator:
        """An instance for each combination of elements of `mapped`: lists, dictionaries (their items), results.

        Raises:
            DefinitionError: nothing to map over, or an argument that is given twice.
        """
        accepted, base = accepted_arguments(self._kind), accepted_arguments(BaseOperator)
        for name in mapped:
            if name not in accepted:
                raise UnknownName.of(f"argument of {self._kind.__name__}", name, accepted, where=here())
            if name in base:
                raise DefinitionError(
                    f'Instances cannot differ in "{name}", which belongs to the task.', where=here(), hint="partial()"
                )
        return self.made(Expansion(named=check_expansion(mapped, self._given)))

    def expand_kwargs(self, rows: Any) -> MappedOperator:
        """An instance for each dictionary of arguments in `rows`: a list of them, or a result."""
        return self.made(Expansion(rows=check_rows(rows)))

    def made(self, expansion: Expansion) -> MappedOperator:
        """The mapped task."""
        accepted, base = accepted_arguments(self._kind), accepted_arguments(BaseOperator)
        dag = self._given.get("dag") or current.dag()
        group = self._given.get("task_group") or current.group(dag)
        defaults = default_args(dag, group, self._given.get("default_args"))
        mapped = expansion.named or ()
        filled = {name: value for name, value in defaults.items() if name in accepted and name not in mapped}
        given = {**filled, **self._given}
        options = {name: value for name, value in given.items() if name in base or name == "task_group"}
        made: MappedOperator = MappedOperator(of=self._kind, given=given, expansion=expansion, **options)
        return made


def check_expansion(mapped: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an `expand`. Raises DefinitionError."""
    if not mapped:
        raise DefinitionError("expand() has nothing to map over.", where=here(), hint="expand(x=[1, 2, 3])")
    twice = next((name for name in mapped if name in given), None)
    if twice is not None:
        raise DefinitionError(f'"{twice}" is given in partial() and in expand().', where=here(), hint="leave one out")
    for name, value in mapped.items():
        if not isinstance(value, XComArg | list | tuple | dict):
            raise _unmappable(name, value)
    return dict(mapped)


def check_rows(rows: Any) -> Any:
    """The rows of an `expand_kwargs`. Raises DefinitionError."""
    if isinstance(rows, XComArg):
        return rows
    if not isinstance(rows, list | tuple):
        raise _unmappable("", rows)
    bad = next((row for row in rows if not isinstance(row, dict | XComArg)), None)
    if bad is not None:
        raise DefinitionError(
            f"expand_kwargs() takes dictionaries of arguments, not {bad!r}.", where=here(), hint="[{'x': 1}, {'x': 2}]"
        )
    return list(rows)


class MappedOperator(BaseOperator):
    """A task that is mapped: `unmapped` makes what one instance executes."""

    def __init__(
        self, *, of: type[BaseOperator], given: Mapping[str, Any], expansion: Expansion, **options: Any
    ) -> None:
        super().__init__(**options)
        if self.task_group is not None and self.task_group.mapped_group() is not None:
            raise DefinitionError(
                f'"{self.task_id}" is mapped within a mapped group.',
                where=self.place,
                hint="one mapping within another is not possible: flatten the list before the group",
            )
        self.of = of
        self.given = {name: value for name, value in given.items() if name not in ("dag", "task_group")}
        self.expansion = expansion
        self.lengths = expansion.lengths()

    @property
    def task_type(self) -> str:
        """Of what it is mapped."""
        return kind_of(self.of)

    def hearers(self, event: str) -> tuple[Callable[..., Any], ...]:
        """See `BaseOperator.hearers`."""
        return (*self.callbacks.get(event, ()), *self.of.listeners(event))

    def enter(self, dag: Any) -> None:
        """See `BaseOperator.enter`."""
        super().enter(dag)
        for arg in args_in(self.given):
            for task in arg.operators():
                task.link(self)
        for task in self.expansion.operators():
            task.link(self)

    def unmapped(self, values: Mapping[str, Any]) -> BaseOperator:
        """What one instance executes, with its own values."""
        made: Any = object.__new__(self.of)
        made.place, made.task_group = self.place, None
        made.__init__(**self.of.with_values(self.given, values))  # as the metaclass does; it enters no DAG
        made.task_group, made.task_id, made.dag = self.task_group, self.task_id, self.dag
        made.upstream_task_ids, made.downstream_task_ids = self.upstream_task_ids, self.downstream_task_ids
        ready: BaseOperator = made
        return ready
