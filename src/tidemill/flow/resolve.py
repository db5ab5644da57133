"""Putting values in the place of what stood for them: results of other tasks, elements of mapped inputs, parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidemill.authoring.mapping import Expansion, MappedOperator
from tidemill.authoring.params import ParamArg
from tidemill.authoring.signals import SkipTask
from tidemill.authoring.xcom_arg import ConcatArg, FilterArg, GroupArg, MappedArg, PlainArg, XComArg, ZipArg
from tidemill.model.errors import UserError

if TYPE_CHECKING:
    from tidemill.authoring.task import BaseOperator
    from tidemill.authoring.task_context import TaskContext
    from tidemill.flow.context import TryView
    from tidemill.flow.handing import Handing


class Resolver:
    """Finds values for one try."""

    def __init__(self, context: TaskContext, handing: Handing) -> None:
        self._context = context
        self._handing = handing
        self._ti: TryView = context["ti"]
        #: Identities of values that came from other tasks: they are data, and are not rendered.
        self.found: dict[int, Any] = {}

    def instance(self, task: BaseOperator) -> BaseOperator:
        """What this try executes of a task: of a mapped one, the instance of its index, with its own values."""
        if not isinstance(task, MappedOperator):
            return task
        return task.unmapped(self.own_values(task.expansion, task))

    def own_values(self, expansion: Expansion, owner: Any) -> dict[str, Any]:
        """The values that an index has of what is mapped over.

        Raises:
            UserError: a row of `expand_kwargs` is no dictionary.
        """
        if expansion.named is None:
            row = self._own(expansion.rows, self._ti.map_index)
            if not isinstance(row, dict):
                raise UserError(
                    f"expand_kwargs() got {type(row).__name__} {str(row)[:60]!r} for instance {self._ti.map_index}.",
                    where=owner.place,
                    hint="a dictionary of arguments for each instance",
                )
            return dict(row)
        made: dict[str, Any] = {}
        at = self._ti.map_index
        # The last argument varies fastest, as in Airflow.
        for name, value in reversed(list(expansion.named.items())):
            length = self._length(value) or 1
            made[name] = self._own(value, at % length)
            at //= length
        return {name: made[name] for name in expansion.named}

    def _own(self, value: Any, at: int) -> Any:
        made = self._element(value, at)
        if isinstance(value, XComArg):
            self._note(made)
        return made

    def _note(self, value: Any) -> None:
        """That a value, and whatever is in it, came from another task: an operator may pack it anew."""
        self.found[id(value)] = value
        if isinstance(value, list | tuple | set | dict):
            for one in value.values() if isinstance(value, dict) else value:
                self._note(one)

    def resolved(self, value: Any) -> Any:
        """A value with everything that stands for another replaced, in lists, sets and dictionaries too."""
        if isinstance(value, XComArg):
            return self._value(value)
        if isinstance(value, ParamArg):
            return self._context["params"].get(value.name)
        if type(value) in (list, tuple, set, frozenset):
            return type(value)(self.resolved(one) for one in value)
        if type(value) is dict:
            return {key: self.resolved(one) for key, one in value.items()}
        return value

    def _value(self, arg: XComArg) -> Any:
        if isinstance(arg, PlainArg):
            task = arg.operator.task_id
            if self._handing.same_index(self._ti, task):
                return self._handing.value(task, arg.key, self._ti.map_index)
            if self._handing.is_mapped(task):
                return self._handing.values(task, arg.key)
            return self._handing.value(task, arg.key)
        if isinstance(arg, GroupArg):
            assert arg.group.mapped is not None
            return self.resolved(self.own_values(arg.group.mapped, arg.group).get(arg.name))
        if isinstance(arg, MappedArg):
            return [arg.function(one) for one in _elements(self._value(arg.of))]
        if isinstance(arg, FilterArg):
            return [one for one in _elements(self._value(arg.of)) if arg.function(one)]
        if isinstance(arg, ConcatArg):
            return [one for part in arg.of for one in _elements(self._value(part))]
        assert isinstance(arg, ZipArg)
        lists = [_elements(self._value(one)) for one in arg.of]
        size = max(map(len, lists)) if arg.longest else min(map(len, lists))
        return [tuple(one[at] if at < len(one) else arg.fill for one in lists) for at in range(size)]

    def _length(self, value: Any) -> int | None:
        """How many elements something has that is mapped over."""
        if isinstance(value, PlainArg):
            return self._handing.count(value.operator.task_id)
        if isinstance(value, MappedArg | FilterArg):
            return self._length(value.of)
        if isinstance(value, ConcatArg):
            return sum(self._length(one) or 0 for one in value.of)
        if isinstance(value, ZipArg):
            sizes = [self._length(one) or 0 for one in value.of]
            return max(sizes) if value.longest else min(sizes)
        return len(value)

    def _element(self, value: Any, at: int) -> Any:
        """One element of something that is mapped over; of a dictionary, a pair of key and value."""
        if isinstance(value, PlainArg):
            return self._handing.element(value.operator.task_id, at)
        if isinstance(value, MappedArg):
            return value.function(self._element(value.of, at))
        if isinstance(value, FilterArg):
            found = self._element(value.of, at)
            if not value.function(found):
                raise SkipTask("its element does not pass the filter")
            return found
        if isinstance(value, ConcatArg):
            for part in value.of:
                length = self._length(part) or 0
                if at < length:
                    return self._element(part, at)
                at -= length
        if isinstance(value, ZipArg):
            return tuple(self._element(one, at) if at < (self._length(one) or 0) else value.fill for one in value.of)
        return list(value.items())[at] if isinstance(value, dict) else value[at]


def _elements(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(value)
    raise UserError(f"{type(value).__name__} {str(value)[:60]!r} has no elements to go through.", hint="return a list")
