"""Frames over topics as a topology: nodes, the stages they run in, and what is known of the rows at each node.

A stage is what one task can do with partition n of its inputs, without rows of other partitions. Where a step needs
rows of equal keys together and they are not, an exchange sends them through a topic, and a new stage begins.

What is planned here is what makes results independent of how the input is cut:

- **Stamps.** A row's stamp is the greatest event time of its source partition (its lane) so far, less the lateness
  that is allowed. Stamps are made where the time column is made, and travel with the row. A row is late for what
  its own stamp has passed, so lateness is a property of the row, not of the moment.
- **Order.** Rows have a fixed order: by stamp, then lane, then offset. What depends on order either sorts by it, or
  (`Node.gated`) takes a row only when no earlier one can come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.operation import (
    Concat,
    Join,
    JoinAsof,
    JoinInterval,
    JoinLookup,
    MapWithState,
    Operation,
    Windowed,
)
from tidemill.model.frame.topic import Sink, Topic
from tidemill.plan.columns import passes, renamed
from tidemill.plan.refusals import refuse, refuse_time
from tidemill.plan.stream_steps import (
    goes_by_order,
    in_order_only,
    is_stateful,
    is_stream,
    keeps_rows,
    keys_of,
    place_of,
    result_keys,
    time_of,
)

Kind = Literal["source", "step", "exchange"]

#: Gives a frame's columns in order; None: a user's function decides.
ColumnsOf = Callable[[Frame], "Sequence[str] | None"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How rows are spread over tasks: equal values of `by` are in one task (None: nothing is known)."""

    tasks: int
    by: tuple[str, ...] | None = None
    #: Who spread them: two inputs are spread alike only if the same did.
    hashed: str = "message keys"

    def gathers(self, keys: Sequence[str]) -> bool:
        """Whether rows with equal `keys` are in one task."""
        return self.tasks == 1 or (bool(self.by) and set(self.by or ()) <= set(keys))


@dataclass(frozen=True, slots=True)
class Stamp:
    """To be made at a node: the stamp `number` of the time column `column`."""

    number: int
    column: str
    lateness: timedelta


@dataclass(frozen=True, slots=True)
class Node:
    """One place of the topology.

    Args:
        number: its place; parents have lower ones.
        name: of its state; only stateful nodes and exchanges have one that lasts.
        kind: a `source`, a `step`, or an `exchange` that begins a stage with rows of another.
        parents: numbers; of an exchange the node in the other stage.
        stage: where it runs.
        spread: how its rows are spread over the stage's tasks.
        step: what it does. `source`: what it reads.
        by: an exchange's key.
        columns: of its rows, where they are known.
        stamps: to be made here. `uses`: the stamp that a stateful step goes by.
        lanes: whether rows of several lanes meet here.
        ordered: whether something here or below depends on the order of rows.
        gated: whether it takes rows in their order only.
        changing: the columns that identify a result which is given again when it changes; None: results are final.
    """

    number: int
    name: str
    kind: Kind
    parents: tuple[int, ...]
    stage: int
    spread: Spread
    step: Operation | None = None
    source: Input | None = None
    by: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    stamps: tuple[Stamp, ...] = ()
    uses: int | None = None
    lanes: bool = False
    ordered: bool = False
    gated: bool = False
    changing: tuple[str, ...] | None = None

    @property
    def topic(self) -> Topic:
        """What a source reads."""
        assert self.source is not None
        assert isinstance(self.source.data, Topic)
        return self.source.data


@dataclass(frozen=True, slots=True)
class Topology:
    """A stream's plan: nodes in an order in which parents come first."""

    name: str
    nodes: tuple[Node, ...]
    frames: Mapping[int, Frame] = field(repr=False)

    @property
    def stages(self) -> tuple[int, ...]:
        """Their numbers."""
        return tuple(sorted({node.stage for node in self.nodes}))

    def of_stage(self, stage: int) -> tuple[Node, ...]:
        """The nodes that run in a stage."""
        return tuple(node for node in self.nodes if node.stage == stage)

    def tasks(self, stage: int) -> int:
        """How many tasks a stage has."""
        return max(node.spread.tasks for node in self.of_stage(stage))

    def exchanges_from(self, stage: int) -> tuple[Node, ...]:
        """Exchanges that take rows out of a stage."""
        return tuple(n for n in self.nodes if n.kind == "exchange" and self.nodes[n.parents[0]].stage == stage)

    def children(self, number: int) -> tuple[Node, ...]:
        """The nodes that take a node's rows."""
        return tuple(node for node in self.nodes if number in node.parents)


def plan_topology(name: str, frames: Iterable[Frame], columns_of: ColumnsOf, partitions: Mapping[str, int]) -> Topology:
    """Plan a stream.

    Args:
        name: of the stream.
        frames: each ends with a sink.
        columns_of: gives the columns of frames over the same inputs.
        partitions: of each topic that is read, by name.

    Raises:
        DefinitionError: a step cannot be done on a stream, or not behind the one before it.
    """
    planner = _Planner(name, columns_of, partitions)
    for frame in frames:
        planner.add(frame)
    return planner.topology()


class _Planner:
    def __init__(self, name: str, columns_of: ColumnsOf, partitions: Mapping[str, int]) -> None:
        self._name = name
        self._columns_of = columns_of
        self._partitions = partitions
        self._nodes: list[Node] = []
        self._frames: dict[int, Frame] = {}
        #: Nodes by the identities of input and steps: a frame used twice is one node with two children.
        self._known: dict[tuple[int, ...], int] = {}
        self._exchanged: dict[tuple[int, tuple[str, ...], int], int] = {}
        #: Stages that turned out to be one: stage -> the stage that it is part of.
        self._joined: dict[int, int] = {}
        self._stages = 0
        self._stamps = 0
        #: Names by their verb: how many have been given.
        self._named: dict[str, int] = {}

    # Nodes

    def add(self, frame: Frame) -> int:
        """The node of a frame's last step, made with all before it."""
        key = (id(frame.source), *map(id, frame.operations))
        if key not in self._known:
            self._known[key] = self._make(frame)
        return self._known[key]

    def _make(self, frame: Frame) -> int:
        columns = self._columns_of(frame)
        names = None if columns is None else tuple(columns)
        if not frame.operations:
            return self._source(frame, names)
        step = frame.operations[-1]
        before = Frame(frame.source, frame.operations[:-1])
        parents = [self.add(before)]
        parents += [self.add(other) for other in step.others if is_stream(other)]
        refuse(step, [self._nodes[p] for p in parents], self._nodes)
        keys = keys_of(step)
        if keys is not None or len(parents) > 1:
            parents = self._gather(parents, keys, step)
        stage = self._unite([self._nodes[p].stage for p in parents])
        nodes = [self._nodes[p] for p in parents]
        first = nodes[0]
        stateful = is_stateful(step)
        node = self._put(
            Node(
                number=len(self._nodes),
                name=self._name_of(step.verb) if stateful else step.verb,
                kind="step",
                parents=tuple(parents),
                stage=stage,
                spread=_spread_after(step, nodes, first.columns, names),
                step=step,
                columns=names,
                lanes=(len(nodes) > 1 or first.lanes) and not _one_lane(step),
                gated=in_order_only(step) and any(n.lanes for n in nodes),
                changing=self._changing(step, first),
            ),
            frame,
        )
        time = time_of(step)
        if time is not None:
            self._nodes[node] = replace(self._nodes[node], uses=self._stamp(parents, time, step))
        return node

    def _source(self, frame: Frame, columns: tuple[str, ...] | None) -> int:
        source = frame.source
        if not isinstance(source.data, Topic):
            raise DefinitionError(
                f'"{source.name}" is a table: a stream begins with a topic.',
                hint="join the table to it: f.join_lookup(other, on=...)",
            )
        topic = source.data
        spread = Spread(self._partitions[topic.name], topic.key or None, _hashed(topic))
        self._stages += 1
        return self._put(
            Node(len(self._nodes), topic.name, "source", (), self._stages, spread, source=source, columns=columns),
            frame,
        )

    def _put(self, node: Node, frame: Frame) -> int:
        self._nodes.append(node)
        self._frames[node.number] = frame
        return node.number

    def _name_of(self, verb: str) -> str:
        self._named[verb] = self._named.get(verb, 0) + 1
        return f"{verb}{self._named[verb]}"

    # Stages

    def _gather(self, parents: list[int], keys: tuple[str, ...] | None, step: Operation) -> list[int]:
        """The parents, or exchanges behind them, so that rows of equal keys meet."""
        nodes = [self._nodes[p] for p in parents]
        if keys is None:  # rows are put side by side, wherever they are
            return parents
        spreads = [node.spread for node in nodes]
        alone = len(spreads) == 1 or all(s == spreads[0] for s in spreads) or all(s.tasks == 1 for s in spreads)
        if alone and all(s.gathers(keys) for s in spreads):
            return parents
        for node in nodes:
            if node.columns is not None:
                for key in keys:
                    if key not in node.columns:
                        raise DefinitionError(f'{step.verb}: there is no column "{key}".', where=place_of(step))
        tasks = max(s.tasks for s in spreads) if keys else 1
        return [self._exchange(p, keys, tasks) for p in parents]

    def _exchange(self, parent: int, keys: tuple[str, ...], tasks: int) -> int:
        known = (parent, keys, tasks)
        if known not in self._exchanged:
            before = self._nodes[parent]
            self._stages += 1
            node = Node(
                number=len(self._nodes),
                name=self._name_of("exchange"),
                kind="exchange",
                parents=(parent,),
                stage=self._stages,
                spread=Spread(tasks, keys, "exchange"),
                by=keys,
                columns=before.columns,
                lanes=before.lanes or before.spread.tasks > 1,
                changing=before.changing,
            )
            self._exchanged[known] = self._put(node, self._frames[parent])
        return self._exchanged[known]

    def _unite(self, stages: list[int]) -> int:
        found = [self._stage(stage) for stage in stages]
        for stage in found[1:]:
            if stage != found[0]:
                self._joined[stage] = found[0]
        return found[0]

    def _stage(self, stage: int) -> int:
        while stage in self._joined:
            stage = self._joined[stage]
        return stage

    # Times

    def _stamp(self, parents: Sequence[int], column: str, step: Operation) -> int:
        """The stamp of a time column of several inputs, made where the column is made."""
        places = list(dict.fromkeys(place for parent in parents for place in self._trace(parent, column)))
        for number, name in places:
            refuse_time(step, name, self._nodes[number], self._nodes)
        for number, name in places:
            for stamp in self._nodes[number].stamps:
                if stamp.column == name and len(places) == 1:
                    return stamp.number
        self._stamps += 1
        lateness = max((self._lateness(number, name) for number, name in places), default=timedelta(0))
        for number, name in places:
            node = self._nodes[number]
            self._nodes[number] = replace(node, stamps=(*node.stamps, Stamp(self._stamps, name, lateness)))
        return self._stamps

    def _trace(self, number: int, column: str) -> list[tuple[int, str]]:
        """Where a column is made: nodes, and its names there."""
        node = self._nodes[number]
        if node.kind == "source":
            return [(number, column)]
        if node.kind == "exchange":
            return self._trace(node.parents[0], column)
        assert node.step is not None
        if isinstance(node.step, Concat):
            return [place for parent in node.parents for place in self._trace(parent, column)]
        before = self._nodes[node.parents[0]]
        name = passes(node.step, column, before.columns)
        return [(number, column)] if name is None else self._trace(before.number, name)

    def _lateness(self, number: int, column: str) -> timedelta:
        """What the topics behind a node allow. Windows come in the order of their ends, what functions with a state
        make in that of its times, so none is late; count windows come in the order of their last rows, whose times
        are as far apart as those of the topic.
        """
        node = self._nodes[number]
        if node.kind == "source":
            return node.topic.lateness
        if isinstance(node.step, Windowed) and node.step.window.on is not None:
            return timedelta(0)
        if isinstance(node.step, MapWithState) and column == node.step.on:
            return timedelta(0)
        return max(self._lateness(parent, column) for parent in node.parents)

    # What goes

    def _changing(self, step: Operation, first: Node) -> tuple[str, ...] | None:
        names = result_keys(step)
        if names is not None:
            return names
        if first.changing is None:
            return None
        kept = [renamed(step, name) for name in first.changing]
        if None in kept:
            lost = first.changing[kept.index(None)]
            raise DefinitionError(
                f'{step.verb}: results that change need their key, and this leaves out "{lost}".',
                where=place_of(step),
                hint="keep the key's columns, or let windows give their results once: .final()",
            )
        return tuple(name for name in kept if name is not None)

    # The whole

    def topology(self) -> Topology:
        """What was planned, with stages that are one numbered as one, and order only where it matters."""
        numbers: dict[int, int] = {}
        nodes = []
        needed: set[int] = set()
        for node in reversed(self._nodes):
            if node.number in needed or (node.step is not None and goes_by_order(node.step)):
                needed.add(node.number)
                needed.update(node.parents)
        for node in self._nodes:
            stage = numbers.setdefault(self._stage(node.stage), len(numbers) + 1)
            nodes.append(replace(node, stage=stage, ordered=node.number in needed))
        return Topology(self._name, tuple(nodes), self._frames)


def _one_lane(step: Operation) -> bool:
    """Whether its results are its own, in one order of their own."""
    return is_stateful(step) and not keeps_rows(step)


def _hashed(topic: Topic) -> str:
    """What a topic's messages are spread by: equal keys have the same bytes in all topics that write them as text."""
    return "message keys" if topic.key_codec is None else f"keys of {topic.name}"


def _spread_after(
    step: Operation, parents: Sequence[Node], before: tuple[str, ...] | None, after: tuple[str, ...] | None
) -> Spread:
    spread = parents[0].spread
    if isinstance(step, Concat):
        alike = all(p.spread == spread for p in parents)
        return spread if alike else Spread(max(p.spread.tasks for p in parents))
    if spread.by is None:
        return spread
    kept = [renamed(step, name) for name in spread.by]
    return replace(spread, by=None if None in kept else tuple(name for name in kept if name))


def sinks(topology: Topology) -> tuple[Node, ...]:
    """The nodes that give rows out."""
    return tuple(node for node in topology.nodes if isinstance(node.step, Sink))


def looked_up(topology: Topology) -> Mapping[int, Frame]:
    """By node: the frames over tables that it joins."""
    return {
        node.number: other
        for node in topology.nodes
        if node.step is not None and isinstance(node.step, JoinLookup | Join | JoinAsof | JoinInterval)
        for other in node.step.others
        if not is_stream(other)
    }
