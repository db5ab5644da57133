"""The columns and types of rows at each node: the user's, and our own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import polars as pl

from tidemill.adapters.polars.stream.marks import LANE, OFFSET, order, order_of, side_order, stamp
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame
from tidemill.model.frame.operation import (
    Concat,
    Explode,
    FlatMap,
    GroupBy,
    Join,
    JoinInterval,
    MapWithState,
    Reduce,
    Windowed,
)
from tidemill.plan.topology import Node, Topology

#: The user's columns of a frame; None: a function decides.
Shape = Callable[[Frame], "pl.Schema | None"]


class Shapes:
    """Schemas by node. `of_frame` gives the user's part."""

    def __init__(self, topology: Topology, of_frame: Shape) -> None:
        self._topology = topology
        self._of_frame = of_frame
        self._marks: dict[int, pl.Schema] = {}
        self._user: dict[int, pl.Schema | None] = {}

    def whole(self, number: int, wanted_by: Node) -> pl.Schema:
        """All columns of the rows that a node gives.

        Raises:
            DefinitionError: a function decides; `wanted_by` cannot do without knowing.
        """
        return pl.Schema({**self._user_of(number, wanted_by), **self.marks(number)})

    def known(self, node: Node) -> pl.Schema:
        """The user's columns of the rows that a node gives. Raises DefinitionError as `whole` does."""
        return self._user_of(node.number, node)

    def _user_of(self, number: int, wanted_by: Node) -> pl.Schema:
        user = self.user(number)
        if user is None:
            step = wanted_by.step
            assert step is not None
            raise DefinitionError(
                f"{step.verb}: a function before it does not say which columns it returns.",
                where=None if step.at is None else str(step.at),
                hint='f.map_rows(function, adds={"x": "double"}) says it; adds={} adds none',
            )
        return user

    def user(self, number: int) -> pl.Schema | None:
        """The user's columns."""
        if number not in self._user:
            self._user[number] = self._of_frame(self._topology.frames[number])
        return self._user[number]

    def marks(self, number: int) -> pl.Schema:
        """Our own columns."""
        if number not in self._marks:
            node = self._topology.nodes[number]
            made = dict(self._made(node))
            made.update({stamp(one.number): pl.Int64() for one in node.stamps})
            self._marks[number] = pl.Schema(made)
        return self._marks[number]

    def _made(self, node: Node) -> Iterable[tuple[str, pl.DataType]]:
        if node.kind == "source":
            yield LANE, pl.Int32()
            yield OFFSET, pl.Int64()
            if node.ordered:
                yield from ((order(0), pl.Int64()), (order(1), pl.Int32()), (order(2), pl.Int64()))
            return
        before = self.marks(node.parents[0])
        match node.step:
            case None:
                yield from ((name, kind) for name, kind in before.items() if name != OFFSET)
            case Windowed() as step if step.window.on is None:
                yield from ((name, before[name]) for name in order_of(before.names()))
                yield LANE, pl.Int32()
            case Windowed() as step:
                yield LANE, pl.Int32()
                if node.ordered:
                    keys = self.user(node.parents[0]) or pl.Schema()
                    kinds = [pl.Int64(), pl.Int64(), *(keys[name] for name in step.by)]
                    yield from ((order(place), kind) for place, kind in enumerate(kinds))
            case GroupBy() | Reduce():
                yield LANE, pl.Int32()
            case MapWithState():
                before_it = order_of(before.names())
                yield LANE, pl.Int32()
                yield order(0), pl.Int64()
                yield from ((order(place + 1), before[name]) for place, name in enumerate(before_it))
                yield order(len(before_it) + 1), pl.Int64()
            case Concat():
                yield from self._side_by_side(node).items()
            case Explode() | FlatMap() | JoinInterval() | Join(how="inner" | "left"):
                yield from before.items()
                place = len(order_of(before.names()))
                if place:
                    yield order(place), pl.Int64()
            case _:
                yield from before.items()

    def _side_by_side(self, node: Node) -> dict[str, pl.DataType]:
        inputs = [self.marks(parent) for parent in node.parents]
        found: dict[str, pl.DataType] = {}
        for port, marks in enumerate(inputs):
            orders = order_of(marks.names())
            found.update((name, kind) for name, kind in marks.items() if name not in orders)
            if node.ordered:
                names = side_order(inputs, port)
                found.update((names[name], marks[name]) for name in orders)
        if node.ordered:
            found[order(1)] = pl.Int32()
        return found
