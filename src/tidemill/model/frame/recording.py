"""What every frame is: an input and the steps recorded on it, as data. The verbs stand on it, in files of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tidemill.model.frame import arguments as read
from tidemill.model.frame.operation import Operation
from tidemill.model.frame.source import Input
from tidemill.model.place import Place, user_place

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame


class Recording:
    """An input and steps; `Frame` is the one class of this kind that there is."""

    __slots__ = ("_input", "_operations")
    _input: Input
    _operations: tuple[Operation, ...]

    def __init__(self, source: Input, operations: Iterable[Operation] = ()) -> None:
        object.__setattr__(self, "_input", source)
        object.__setattr__(self, "_operations", tuple(operations))

    # What an engine reads

    @property
    def source(self) -> Input:
        """Where the rows come from."""
        return self._input

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The recorded steps, first one first."""
        return self._operations

    def inputs(self) -> tuple[Input, ...]:
        """Every input that this frame needs, those of joined frames included, each once."""
        found: dict[int, Input] = {}
        for frame in self._frames():
            found.setdefault(id(frame.source), frame.source)
        return tuple(found.values())

    def _frames(self) -> Iterator[Recording]:
        yield self
        for operation in self._operations:
            for other in operation.others:
                yield from other._frames()

    def then(self, make: Callable[[Place | None], Operation]) -> Frame:
        """This frame with one more step, which `make` builds, given the user's line."""
        return self._as_it_is((make(user_place()),))

    def _as_it_is(self, more: tuple[Operation, ...] = ()) -> Frame:
        """A frame that later `f["x"] = ...` does not reach into."""
        from tidemill.model.frame.frame import Frame

        return Frame(self._input, (*self._operations, *more))

    def _other(self, verb: str, other: Any) -> Frame:
        """The frame to join, as it is now."""
        if not isinstance(other, Recording):
            raise read.no_frame(verb, other)
        return other._as_it_is()

    def explain(self) -> str:
        """The input and the steps, one per line; joined frames indented below the step that joins them."""
        return "\n".join(self._lines(""))

    def _lines(self, indent: str) -> Iterator[str]:
        yield f"{indent}{self._input}"
        for operation in self._operations:
            yield f"{indent}{operation}"
            for other in operation.others:
                yield from other._lines(indent + "    ")

    def __repr__(self) -> str:
        return self.explain()

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._input, self._operations)
