"""Plays programs on topics in three ways: as a stream in any cut, as a table run, by the naive implementation.

What the rows that end every partition have a part in (the naive implementation knows) may come out or not.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from harness.naive import Line, Lines
from harness.programs_of_streams import Branch
from harness.stream_input import BEGIN, SCHEMA, Data
from harness.stream_kinds import TIMED, Kinds, Step, World
from harness.streaming import Play
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.adapters.polars.stream.engine import PolarsStreamEngine
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.topic import Topic, ToTable
from tidemill.plan.lanes import depths
from tidemill.plan.needed import needed_columns
from tidemill.plan.topology import Topology, plan_topology
from tidemill.ports.stream_engine import Outcome

KINDS = Kinds({"t": "time", "k": "text", "v": "int", "x": "float", "l": "list", "s": "struct", "i": "int", "w": "list"})
#: Keys of every partition that go to each of two tasks, and of three.
_ENDS: list[dict[str, Any]] = [{"k": f"z{partition}{n}", "label": 9} for partition in range(3) for n in (0, 1, 3, 4, 5)]
TABLE: list[dict[str, Any]] = [{"k": "a", "label": 1}, {"k": "b", "label": 2}, *_ENDS]
DOUBLED: list[dict[str, Any]] = [
    {"k": "a", "label": 1},
    {"k": "a", "label": 4},
    {"k": "c", "label": None},
    {"k": None, "label": 5},
    *_ENDS,
]
_TABLES = {
    f"whole({name})": pl.DataFrame(rows, schema={"k": pl.String(), "label": pl.Int64()})
    for name, rows in (("names", TABLE), ("doubled", DOUBLED))
}


@dataclass
class Delayed(Play):
    """Blocks wait on their way to other stages: each task's in their order, those of several in any."""

    queues: dict[tuple[int, int, int, int], list[bytes]] = field(default_factory=dict)
    sender: tuple[int, int] = (0, 0)

    def feed(self, source: int, partition: int, rows: pl.DataFrame, first: int, stamps: Sequence[int]) -> None:
        self.sender = (self.topology.nodes[source].stage, partition)
        super().feed(source, partition, rows, first, stamps)

    def settle(self, outcome: Outcome) -> None:
        for block in outcome.blocks:
            self.queues.setdefault((*self.sender, block.exchange, block.task), []).append(block.data)
        outcome.blocks = []
        super().settle(outcome)

    def deliver(self, rng: random.Random, most: int | None = None) -> None:
        """Hand over some blocks that wait, or all."""
        while self.queues and (most is None or most > 0):
            key = rng.choice(sorted(self.queues))
            data = self.queues[key].pop(0)
            if not self.queues[key]:
                del self.queues[key]
            _, _, exchange, number = key
            stage = self.topology.nodes[exchange].stage
            self.sender = (stage, number)
            task = self.task(stage, number)
            task.receive(exchange, data)
            self.settle(task.take())
            most = None if most is None else most - 1

    def silence(self, rng: random.Random) -> None:
        """All that there is was read, and nobody speaks any more: nothing is waited for, one exchange after the other.

        What each partition's last rows would close is closed anyway, whichever tasks they come to.
        """
        depth = depths(self.topology)
        tasks = [(stage, number) for stage in self.topology.stages for number in range(self.topology.tasks(stage))]
        for level in range(1 + max(depth)):
            upto: dict[int, int] = {}
            for task in tasks:
                for tops in self.task(*task).places().values():
                    for number, top in tops.items():
                        upto[number] = max(top or 0, upto.get(number, 0))
            for task in tasks:
                self.sender = task
                for place in self.task(*task).places():
                    if depth[place.node] == level:
                        self.task(*task).idle(place, upto)
                self.settle(self.task(*task).take())
            self.deliver(rng)

    def lookups(self) -> dict[int, Any]:
        from tidemill.plan.topology import looked_up

        return {
            n: (lambda f=frame: PolarsEngine().collect(f, self.tables)) for n, frame in looked_up(self.topology).items()
        }


def play(
    frames: Sequence[Frame], data: Sequence[Data], rng: random.Random, *, restarts: float = 0.25, whole: bool = False
) -> Delayed:
    """Play frames: partitions cut, blocks delayed, tasks saved and begun anew at random. `whole`: reads all columns."""
    engine = PolarsStreamEngine({name: rows.schema for name, rows in _TABLES.items()})
    found = {one.topic.name: one for one in data}
    topology = plan_topology("played", frames, engine.columns_of, {name: len(one.parts) for name, one in found.items()})
    game = Delayed(topology, engine, _TABLES, whole)
    sources = {node.number: found[node.topic.name] for node in topology.nodes if node.kind == "source"}
    readers = {n: one.reader(None if whole else needed_columns(topology, n)) for n, one in sources.items()}
    ahead = {(source, number): 0 for source, one in sources.items() for number in range(len(one.parts))}
    while ahead:
        source, number = rng.choice(sorted(ahead))
        first = ahead[source, number]
        piece = readers[source](number, first, rng.choice((1, 4, 12, 40, 40)))
        game.feed(source, number, piece, first, [0] * piece.height)
        ahead[source, number] += piece.height
        if ahead[source, number] >= len(sources[source].parts[number]):
            del ahead[source, number]
        if rng.random() < 0.7:
            game.deliver(rng, rng.randint(1, 8))
        if rng.random() < restarts:
            game.restart()
    game.deliver(rng)
    game.silence(rng)
    return game


def literal(rows: Sequence[Mapping[str, Any]], name: str) -> Frame:
    """A topic's rows in their order as a table in memory."""
    return Frame.literal(pl.DataFrame(list(rows), schema=SCHEMA, orient="row"), name)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> Lines:
    """A table's rows for the naive implementation."""
    return [Line(row, (number,)) for number, row in enumerate(rows)]


@dataclass
class Case:
    """A tree of steps over the first topic, and the data."""

    data: tuple[Data, Data]
    trees: list[Branch]
    seed: int
    #: Whether rows may be late.
    late: bool = False

    def paths(self) -> list[tuple[Step, ...]]:
        """All programs of the tree."""
        return [path for tree in self.trees for path in tree.paths()]


def worlds(case: Case) -> tuple[World, World, World]:
    """What programs read besides: as a stream, as a table, naively."""
    other = case.data[1]
    tables = {name: Frame.of(Input(name, "whole")) for name in ("names", "doubled")}
    rows = [line.values for line in other.lines(1)]
    on_stream = World(Frame.of(Input("g", "topic", other.topic)), tables["names"], tables["doubled"])
    on_table = World(literal(rows, "g"), tables["names"], tables["doubled"])
    naively = World(other.lines(1), table_lines(TABLE), table_lines(DOUBLED))
    return on_stream, on_table, naively


def prune(case: Case) -> Case:
    """The case without programs that are refused because rows of a partition are not in their order any more.

    Whether they are depends on how rows are spread, which programs do not know when they are made.
    """
    data = case.data
    on_stream, _, _ = worlds(case)
    partitions = {one.topic.name: len(one.parts) for one in data}
    engine = PolarsStreamEngine({name: rows.schema for name, rows in _TABLES.items()})
    trees = case.trees
    for path in case.paths():
        if len(path) > 1 and path[-2].kinds.stamped and path[-1].verb in (*TIMED, "window_current", "sql"):
            frame = Frame.of(Input("f", "topic", data[0].topic))
            for step in path:
                frame = step.on_frame(frame, on_stream)
            try:
                plan_topology("tried", [frame], engine.columns_of, partitions)
            except DefinitionError as error:
                if not ("several ways" in error.what or "no place in the order" in error.what):
                    raise
                trees = [left for tree in trees for left in tree.without(path[-1])]
    return replace(case, trees=trees)


def check(case: Case) -> int:
    """All programs of a case, in the three ways. Gives how many rows were late."""
    on_stream, on_table, naively = worlds(case)
    source = Frame.of(Input("f", "topic", case.data[0].topic))
    made: dict[tuple[int, ...], Frame] = {(): source}
    sinks: list[Frame] = []
    for path in case.paths():
        frame = path[-1].on_frame(made[tuple(map(id, path[:-1]))], on_stream)
        made[tuple(map(id, path))] = frame
        sinks.append(frame.then(lambda at: ToTable(at=at, table="out", options={})))
    read = case.data if any(_reads_other(frame) for frame in sinks) else case.data[:1]
    # Late rows have the columns that are read, and are compared with those of the input.
    game = play(sinks, read, random.Random(case.seed), whole=case.late)
    assert not game.failures, game.failures[:2]
    if not case.late:
        assert not game.late, {str(game.topology.nodes[n].step): rows for n, rows in game.late.items()}
    lines: dict[tuple[int, ...], Lines] = {(): case.data[0].lines(0)}
    start = literal([line.values for line in lines[()]], "f")
    tables: dict[tuple[int, ...], Frame] = {(): start}
    for path, sink in zip(case.paths(), sinks, strict=True):
        before, here = tuple(map(id, path[:-1])), tuple(map(id, path))
        lines[here] = path[-1].lines(lines[before], naively)
        got = _rows(game, node_of(game.topology, sink.operations[-1]))
        compare(f"stream {_shown(made[here])}", got, lines[here], path[-1].kinds)
        if case.late:
            late = game.late.get(node_of(game.topology, made[here].operations[-1]), [])
            found = [row for rows in late for row in rows.to_dicts()]
            wanted = naively.late[id(path[-1])]
            assert Counter(map(shown, found)) == Counter(shown(line.values) for line in wanted), (
                f"late at {_shown(made[here])}"
            )
            if sum(step.verb in TIMED for step in path) == 1 and path[-1].verb in TIMED:
                _on_table_in_time(case, path, lines[here], wanted, on_table)
            continue
        tables[here] = path[-1].on_frame(tables[before], on_table)
    if not case.late:
        _on_tables(case, lines, tables, naively)
    return sum(map(len, naively.late.values()))


def _on_table_in_time(case: Case, path: Sequence[Step], lines: Lines, late: Lines, world: World) -> None:
    """A table run over the rows that are not late. A row may be late for some of its hopping windows: not those."""
    numbered = "i" in (path[-2].kinds if len(path) > 1 else KINDS).columns
    if path[-1].verb == "hopping_window" or any(step.verb == "concat" for step in path) or not numbered:
        return
    # Right rows have their number under the name that the join gives it.
    gone = {line.values.get("i", next((v for n, v in line.values.items() if n[0] == "n"), None)) for line in late}
    rows = [[line.values for line in one.lines(0) if line.values["i"] not in gone] for one in case.data]
    frame = literal(rows[0], "f")
    for step in path:
        frame = step.on_frame(frame, replace(world, other=literal(rows[1], "g")))
    found = Counter(map(shown, PolarsEngine().collect(frame, _TABLES).to_dicts()))
    assert found == Counter(shown(line.values) for line in lines), f"table of rows in time {_shown(frame)}"


def _on_tables(
    case: Case, lines: Mapping[tuple[int, ...], Lines], tables: Mapping[tuple[int, ...], Frame], naively: World
) -> None:
    """The table runs. Where tables order rows otherwise, they are compared with the naive rows in that order."""
    world = World(naively.other, naively.table, naively.doubled, streams=False)
    ordered: dict[tuple[int, ...], Lines] = {(): case.data[0].lines(0)}
    for path in case.paths():
        before, here = tuple(map(id, path[:-1])), tuple(map(id, path))
        ordered[here] = path[-1].lines(ordered[before], world)
        rows = PolarsEngine().collect(tables[here], _TABLES).to_dicts()
        wanted = Counter(shown(line.values) for line in ordered[here])
        _same(f"table {_shown(tables[here])}", Counter(map(shown, rows)), wanted, wanted)
        short = any(step.verb in ("count_window", "window_current") for step in path)
        if path[-1].kinds.sure and not short:
            assert wanted == Counter(shown(line.values) for line in lines[here]), f"naive {_shown(tables[here])}"


def _reads_other(frame: Frame) -> bool:
    return any(isinstance(one.data, Topic) and one.name == "g" for one in frame.inputs())


def _shown(frame: Frame) -> str:
    return f"\n{frame.explain()}\n"


def node_of(topology: Topology, step: Any) -> int:
    """The node of a step."""
    return next(node.number for node in topology.nodes if node.step is step)


def _rows(game: Play, node: int) -> list[dict[str, Any]]:
    return [row for rows in game.given.get(node, []) for row in rows.to_dicts()]


def compare(what: str, got: Sequence[Mapping[str, Any]], wanted: Lines, kinds: Kinds) -> None:
    """Rows that came out of a stream are those of the naive implementation."""
    if kinds.changing is None:
        sure = Counter(shown(line.values) for line in wanted if not line.marked)
        _same(what, Counter(map(shown, got)), sure, Counter(shown(line.values) for line in wanted))
        return
    keys = kinds.changing
    last = {tuple(_text(row[name]) for name in keys): shown(row) for row in got}
    for line in wanted:
        key = tuple(_text(line.values[name]) for name in keys)
        found = last.pop(key, "no row")
        if not line.marked:
            wanted_row = shown(line.values)
            assert _alike(found, wanted_row), f"{what}\ngot    {found}\nwanted {wanted_row}"
    if not kinds.sessions:
        assert not last, f"{what}\nbeyond {list(last.values())[:3]}"


def _same(what: str, got: Counter[str], least: Counter[str], most: Counter[str]) -> None:
    lacking, beyond = least - got, got - most
    spare = most - got
    for row in list(beyond.elements()):
        if near := next((one for one in (*lacking.elements(), *spare.elements()) if _alike(row, one)), None):
            lacking, beyond, spare = (rows - Counter([row, near]) for rows in (lacking, beyond, spare))
    told = f"{what}\nlacking {list(lacking.elements())[:4]}\nbeyond  {list(beyond.elements())[:4]}"
    assert (lacking, beyond) == (Counter(), Counter()), told


#: A number of a row's text.
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e[-+]\d+)?)")


def _alike(one: str, other: str) -> bool:
    """Whether rows are equal but for what adding floats in another order does, which may cross a digit's border."""
    if one == other:
        return True
    ours, theirs = _NUMBER.split(one), _NUMBER.split(other)
    return len(ours) == len(theirs) and all(a == b or _near(a, b) for a, b in zip(ours, theirs, strict=True))


def _near(one: str, other: str) -> bool:
    """Whether texts are numbers of which one is a float, and almost equal."""
    if not (_NUMBER.fullmatch(one) and _NUMBER.fullmatch(other)) or (one + other).isdigit():
        return False
    return math.isclose(float(one), float(other), rel_tol=1e-8, abs_tol=1e-9)


def shown(row: Mapping[str, Any]) -> str:
    """A row as text, columns by name; numbers to nine digits (types are compared beside)."""
    return ", ".join(f"{name}={_text(row[name])}" for name in sorted(row))


#: Most values are of these; asking for them first, the comparison takes half as long.
_PLAIN = (str, int, bool, type(None))


def _text(value: Any) -> str:
    if type(value) in _PLAIN:
        return repr(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.9g}"
    if isinstance(value, datetime):
        return f"{(value - BEGIN).total_seconds():g}s"
    if isinstance(value, Mapping):
        return "{" + shown(value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return repr(value)


def pairs_of(paths: Iterable[Sequence[Step]]) -> Counter[tuple[str, str]]:
    """How often one verb stands behind another in a tree: each step counts once with each that is before it."""
    return Counter((before.verb, path[-1].verb) for path in paths for before in path[:-1])
