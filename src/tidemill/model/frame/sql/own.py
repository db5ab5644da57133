"""The user's Python functions in a query: steps that call them row by row, before the step that uses their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from sqlglot import exp

from tidemill.model.frame.sql.functions import FUNCTIONS
from tidemill.model.frame.sql.text import Text
from tidemill.model.signature import Slot, signature

if TYPE_CHECKING:
    from tidemill.model.frame.frame import Frame

#: Names of columns that a query makes for itself begin so; they are gone when it ends.
_MADE = "_sql_"


class OwnFunction:
    """One of the user's functions, with the types of its annotations."""

    def __init__(self, text: Text, name: str, function: Callable[..., Any]) -> None:
        if name.lower() in FUNCTIONS:
            text.refuse(name, f'SQL has a function "{name}" already', "give yours another name")
        slots, result = signature(name, function)
        if result.column is not None:
            text.refuse(name, f'"{name}" takes columns, and here functions take single values', "f.map_batches(...)")
        self.name = name
        self.function = function
        self.slots: Sequence[Slot] = slots
        self.returns = str(result.type)
        self._strict = [at for at, slot in enumerate(slots) if not slot.nullable]

    def __call__(self, *values: Any) -> Any:
        """Its result; None without a call where an argument is None that must not be."""
        return None if any(values[at] is None for at in self._strict) else self.function(*values)


class Calls:
    """The calls of users' functions in one query, until a step wants their results."""

    def __init__(self, text: Text, functions: Mapping[str, OwnFunction]) -> None:
        self._text = text
        self._functions = functions
        self._waiting: list[tuple[str, OwnFunction, list[str]]] = []
        self._arguments: dict[str, pl.Expr] = {}
        self._made = 0
        #: The columns of results.
        self.results: list[str] = []

    def name(self) -> str:
        """A name for a column that the query makes for itself."""
        self._made += 1
        return f"{_MADE}{self._made}"

    def call(self, node: exp.Anonymous, values: list[pl.Expr]) -> pl.Expr | None:
        """The column that will hold a call's results; None: there is no such function."""
        own = self._functions.get(str(node.this)) or self._functions.get(str(node.this).lower())
        if own is None:
            return None
        if len(values) != len(own.slots):
            self._text.refuse(
                node, f"{own.name} takes {len(own.slots)} arguments, not {len(values)}", "as it is defined"
            )
        names = [self.name() for _ in values]
        self._arguments.update(zip(names, values, strict=True))
        made = self.name()
        self._waiting.append((made, own, names))
        self.results.append(made)
        return pl.col(made)

    def on(self, frame: Frame) -> Frame:
        """The frame with the results of all calls that wait: those that need others' results come after these."""
        while self._waiting:
            open_names = {made for made, _, _ in self._waiting}
            ready = [
                call
                for call in self._waiting
                if not any(open_names & set(self._arguments[name].meta.root_names()) for name in call[2])
            ]
            self._waiting = [call for call in self._waiting if call not in ready]
            given = {name: self._arguments.pop(name) for _, _, names in ready for name in names}
            if given:
                frame = frame.with_columns(**given)
            types = {made: own.returns for made, own, _ in ready}
            frame = frame.map_rows(_calling(ready), adds=types)
            if given:
                frame = frame.drop(*given)
        return frame


def _calling(calls: Sequence[tuple[str, OwnFunction, list[str]]]) -> Callable[[Any], Any]:
    """A function of a row that makes the calls."""

    def call_all(row: Any) -> Any:
        for made, own, names in calls:
            row[made] = own(*[row[name] for name in names])
        return row

    call_all.__name__ = ", ".join(dict.fromkeys(own.name for _, own, _ in calls))
    return call_all
