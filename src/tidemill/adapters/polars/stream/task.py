"""One task of a stage: its steps, wired. Rows go in at sources and exchanges, and down to where they come out."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from tidemill.adapters.polars.moments import micros, moment, whole
from tidemill.adapters.polars.stream.chunks import packed, pieces, unpacked
from tidemill.adapters.polars.stream.groups import Counted, Reduced, make_groups
from tidemill.adapters.polars.stream.judging import Judge
from tidemill.adapters.polars.stream.keyed import written
from tidemill.adapters.polars.stream.marks import LANE, OFFSET, Progress, order, theirs
from tidemill.adapters.polars.stream.meetings import AsOf, Events, FirstOfKey, Interval
from tidemill.adapters.polars.stream.operator import Operator, Ways
from tidemill.adapters.polars.stream.remembering import Remembering
from tidemill.adapters.polars.stream.segment import Batchwise, Flat, Looked, Mapped, Segment, Side
from tidemill.adapters.polars.stream.shape import Shapes
from tidemill.adapters.polars.stream.shown import shown
from tidemill.adapters.polars.stream.stamping import Stamping
from tidemill.adapters.polars.stream.windows import make_windows
from tidemill.adapters.polars.table_past import live_rows
from tidemill.model.frame.operation import (
    Concat,
    FlatMap,
    GroupBy,
    Join,
    JoinAsof,
    JoinInterval,
    JoinLookup,
    MapBatches,
    MapRows,
    MapWithState,
    Reduce,
    Unique,
    Windowed,
)
from tidemill.model.frame.topic import Expect, Sink
from tidemill.plan.lanes import MOST, lane_of, lanes_at
from tidemill.plan.stream_steps import is_stateful
from tidemill.plan.topology import Node, Stamp, Topology
from tidemill.ports.stream_engine import Block, Failure, Given, Keeper, LookUp, Outcome, Place

_TASK = "__tm_task"
_TIMESTAMP = "__tm_timestamp"


class PolarsTask:
    """See `tidemill.ports.stream_engine.StreamTask`."""

    def __init__(
        self,
        topology: Topology,
        stage: int,
        number: int,
        keeper: Keeper,
        lookups: Mapping[int, LookUp],
        shapes: Shapes,
        since: Mapping[str, int] | None = None,
    ) -> None:
        self._since = since or {}
        self._topology = topology
        self._number = number
        self._keeper = keeper
        self._lookups = lookups
        self._shapes = shapes
        self._outcome = Outcome()
        self._children = {node.number: topology.children(node.number) for node in topology.nodes}
        self._operators: dict[int, Operator] = {}
        self._judges: list[Judge] = []
        #: What a run of stateless steps ends with, by its first node.
        self._ends: dict[int, int] = {}
        #: Steps that are done in a run which begins before them.
        self._inside: set[int] = set()
        self._stampings: dict[int, list[Stamping]] = {}
        self._exchanges = {node.number: _Exchange(node, number) for node in topology.exchanges_from(stage)}
        #: Of each exchange that begins this stage: how far lanes have come through each task that sends.
        self._ways: dict[int, Ways] = {}
        for node in topology.of_stage(stage):
            self._build(node)
        stamped = (number for number, stampings in self._stampings.items() if stampings)
        self._places = [Place(number, lane) for number in stamped for lane in sorted(self._lanes_of(number))]

    # Building

    def _build(self, node: Node) -> None:
        self._stampings[node.number] = [self._stamping(node, one) for one in self._stamps(node)]
        if node.kind == "exchange":
            before = self._topology.nodes[node.parents[0]]
            senders = range(self._topology.tasks(before.stage))
            ways = (lanes_at(self._topology, before.number, one) for one in senders)
            self._ways[node.number] = Ways(ways, self._keeper, f"{node.name}/ways")
        if node.step is None or isinstance(node.step, Sink) or node.number in self._inside:
            return
        self._operators[node.number] = made = self._operator(node)
        if isinstance(made, Judge):
            self._judges.append(made)

    def _stamps(self, node: Node) -> tuple[Stamp, ...]:
        """Stamps that are made of columns here; windows stamp their own ends."""
        if isinstance(node.step, Windowed) and node.step.window.on is not None:
            return tuple(one for one in node.stamps if one.column not in ("window_start", "window_end"))
        if node.kind == "source" and node.ordered:
            return (Stamp(0, node.topic.time or _TIMESTAMP, node.topic.lateness), *node.stamps)
        if isinstance(node.step, MapWithState):
            return tuple(one for one in node.stamps if one.column != node.step.on)
        return node.stamps

    def _stamping(self, node: Node, one: Stamp) -> Stamping:
        return Stamping(one, self._keeper, f"stamp{one.number}/{node.name}{node.number if not is_named(node) else ''}")

    def _operator(self, node: Node) -> Operator:
        step, keeper = node.step, self._keeper
        lanes = self._lanes(node)
        lane = lane_of(node.number, self._number)

        match step:
            case Windowed() if step.window.on is None:
                return Counted(node, lanes, lane, keeper)
            case Windowed():
                return make_windows(node, lanes, lane, keeper, self._shapes.whole(node.parents[0], node))
            case GroupBy():
                return make_groups(node, lanes, lane, keeper, self._shapes.whole(node.parents[0], node))
            case Reduce():
                return Reduced(node, lanes, lane, keeper, self._fail)
            case MapWithState():
                return Remembering(node, lanes, lane, keeper, self._fail)
            case JoinAsof() | JoinInterval():
                return self._meeting(node)
            case Unique() if step.within is None:
                return FirstOfKey(node, lanes, keeper)
            case Unique():
                return Events(node, lanes, keeper)
            case Join() | JoinLookup():
                return Looked(node, lanes, self._lookups[node.number])
            case Concat():
                ports = [(self._lanes_of(parent), self._shapes.marks(parent)) for parent in node.parents]
                return Side(node, ports, keeper, self._shapes.known(node), self._shapes.marks(node.number))
            case MapRows():
                return Mapped(self._run_from(node, _is_map), lanes, self._fail)
            case FlatMap():
                return Flat(node, lanes, self._fail)
            case MapBatches():
                return Batchwise(node, lanes, self._fail)
            case Expect():
                return Judge(node, lanes, self._shapes.known(node), self._fail)
        return Segment(self._run_from(node, _is_query), lanes, self._fail)

    def _run_from(self, node: Node, alike: Callable[[Node], bool]) -> list[Node]:
        """The steps from a node on that one query, or one loop, can do: no stamp and no second child between."""
        run = [node]
        while not run[-1].stamps and len(self._children[run[-1].number]) == 1:
            child = self._children[run[-1].number][0]
            if child.stage != node.stage or not alike(child):
                break
            run.append(child)
            self._ends[node.number] = child.number
            self._inside.add(child.number)
        return run

    def _meeting(self, node: Node) -> Operator:
        left, table = self._lanes_of(node.parents[0]), self._lookups.get(node.number)
        right = None if table is not None else self._lanes_of(node.parents[1])
        kind = AsOf if isinstance(node.step, JoinAsof) else Interval
        made = kind(node, left, right, self._keeper, table)
        if table is None:
            made.right_schema = self._shapes.whole(node.parents[1], node)
        if isinstance(made, Interval):
            made.left_schema = self._shapes.user(node.parents[0]) or pl.Schema()
            made.marks = self._shapes.marks(node.number)
        return made

    def _lanes(self, node: Node) -> frozenset[int]:
        return frozenset(lane for parent in node.parents for lane in self._lanes_of(parent))

    def _lanes_of(self, number: int) -> frozenset[int]:
        return lanes_at(self._topology, number, self._number)

    # Feeding

    def feed(self, source: int, rows: pl.DataFrame, offsets: Sequence[int], timestamps: Sequence[int]) -> None:
        """Take a stretch of a topic's partition."""
        node = self._topology.nodes[source]
        lane = lane_of(source, self._number)
        if (since := self._since.get(node.topic.name)) is not None and node.topic.time is not None:
            rows, offsets, timestamps = live_rows(rows, node.topic.time, since, offsets, timestamps)
        marked = rows.with_columns(pl.lit(lane, dtype=pl.Int32).alias(LANE), pl.Series(OFFSET, offsets, dtype=pl.Int64))
        topic, sent = node.topic, pl.Series(_TIMESTAMP, timestamps, dtype=pl.Int64)
        if node.ordered:
            # Less than 0 is none: such a row has no time.
            own = pl.when(sent >= 0).then(sent.clip(upper_bound=2**53) * 1000)
            marked = marked.with_columns(
                pl.col(LANE).alias(order(1)), pl.col(OFFSET).alias(order(2)), moment(own, None).alias(_TIMESTAMP)
            )
        if topic.ahead is not None and topic.time is not None and rows.height:
            before = micros(rows.lazy(), topic.time) <= sent.clip(upper_bound=2**53) * 1000 + whole(topic.ahead)
            good = rows.select((before | (sent < 0)).fill_null(True)).to_series()
            why = f"{topic.time} is more than {topic.ahead} ahead of the message's own timestamp"
            marked = self._kept(node, marked, good, why)
        self._give(node, marked, {lane: {}})

    def receive(self, exchange: int, data: bytes) -> None:
        """Take a block of another stage's task."""
        sender, progress, rows = msgspec.msgpack.decode(data, type=tuple[int, dict[int, dict[int, int]], bytes])
        self._give(self._topology.nodes[exchange], unpacked(rows), self._ways[exchange].update(sender, progress))

    def places(self) -> dict[Place, dict[int, int | None]]:
        """Where stamps are made, and how far each lane there has come."""
        return {
            place: {one.what.number: one.tops.get(place.lane) for one in self._stampings[place.node]}
            for place in self._places
        }

    def spoke(self) -> set[Place]:
        """The places that rows have come to since the last call."""
        found: set[Place] = set()
        for number, stampings in self._stampings.items():
            for stamping in stampings:
                found.update(Place(number, lane) for lane in stamping.spoke)
                stamping.spoke.clear()
        return found

    def idle(self, place: Place, upto: Mapping[int, int]) -> bool:
        """Let a silent lane go on at a place."""
        progress: dict[int, int] = {}
        for stamping in self._stampings[place.node]:
            moment = upto.get(stamping.what.number)
            if moment is not None and stamping.raise_to(place.lane, moment):
                progress[stamping.what.number] = moment
        if progress:
            node, number = self._topology.nodes[place.node], place.node
            empty = pl.DataFrame(schema={**(self._shapes.user(number) or {}), **self._shapes.marks(number)})
            self._down(node, empty, {place.lane: progress})
        return bool(progress)

    def _give(self, node: Node, rows: pl.DataFrame, progress: Progress) -> None:
        """Stamp a node's rows, and hand them on."""
        stampings = self._stampings[node.number]
        if stampings:
            progress = {lane: dict(stamps) for lane, stamps in progress.items()}
            if rows.height and not progress:
                progress = {lane: {} for lane in rows.get_column(LANE).unique().to_list()}
            for stamping in stampings:
                wrong = stamping.impossible(rows)
                if wrong is not None:
                    rows = self._kept(node, rows, ~wrong, f"{_shown(stamping.what.column)}: no event is of that time")
                rows = stamping.push(rows, progress)
        if _TIMESTAMP in rows.columns:
            rows = rows.drop(_TIMESTAMP)
        self._down(node, rows, progress)

    def _kept(self, node: Node, rows: pl.DataFrame, good: pl.Series, error: str) -> pl.DataFrame:
        """The rows that are good; the others have failed."""
        if good.all():
            return rows
        self._fail(node, rows.filter(~good), error)
        return rows.filter(good)

    def _down(self, node: Node, rows: pl.DataFrame, progress: Progress) -> None:
        for child in self._children[node.number]:
            if child.kind == "exchange":
                self._exchanges[child.number].add(rows, progress)
            elif isinstance(child.step, Sink):
                if rows.height:
                    self._outcome.given.append(Given(child.number, rows.select(theirs(rows.columns))))
                self._down(child, rows, progress)
            else:
                for port, parent in enumerate(child.parents):
                    if parent == node.number:  # a frame may be joined to itself
                        self._through(child, port, rows, progress)

    def _through(self, child: Node, port: int, rows: pl.DataFrame, progress: Progress) -> None:
        operator = self._operators[child.number]
        made, further = operator.push(port, rows, progress)
        if operator.late:
            self._outcome.late += [Given(child.number, shown(late)) for late in operator.late]
            operator.late = []
        self._made(child, made, further)

    def _made(self, child: Node, made: pl.DataFrame | None, further: Progress) -> None:
        """Hand on what a step has made."""
        end = self._topology.nodes[self._ends.get(child.number, child.number)]
        if made is None:
            if not further or not self._children[end.number]:
                return
            made = pl.DataFrame(schema={**(self._shapes.user(end.number) or {}), **self._shapes.marks(end.number)})
        self._give(end, made, further)

    def _fail(self, node: Node, rows: pl.DataFrame, error: str, checks: tuple[str, ...] = ()) -> None:
        for row in shown(rows).iter_rows(named=True):
            source = row[LANE] // MOST if OFFSET in row else None
            values = {name: row[name] for name in theirs(rows.columns)}
            self._outcome.failures.append(Failure(node.number, source, row.get(OFFSET), error, values, checks))

    # Taking

    def _settle(self) -> None:
        """Let steps finish that wait for all sides; what they give may make others wait, which come after them."""
        for number, operator in self._operators.items():
            if operator.pending:
                self._made(self._topology.nodes[number], *operator.settle())

    def take(self) -> Outcome:
        """What has followed since the last call."""
        self._settle()
        outcome, self._outcome = self._outcome, Outcome()
        for exchange in self._exchanges.values():
            outcome.blocks += exchange.take()
        outcome.judged += [found for judge in self._judges if (found := judge.take()) is not None]
        return outcome

    def save(self) -> None:
        """Put what has changed into the keeper."""
        self._settle()
        for operator in self._operators.values():
            operator.save()
        for ways in self._ways.values():
            ways.save()
        for stampings in self._stampings.values():
            for stamping in stampings:
                stamping.save()

    def watermark(self, node: int) -> int | None:
        """How far a node's event time has come."""
        operator = self._operators.get(node)
        return None if operator is None else operator.low()

    def open_windows(self) -> int | None:
        """Of all steps together."""
        found = [number for one in self._operators.values() if (number := one.open_windows()) is not None]
        return sum(found) if found else None


class _Exchange:
    """Rows on their way to the tasks of another stage."""

    def __init__(self, node: Node, sender: int) -> None:
        self._node = node
        self._sender = sender
        self._tasks = node.spread.tasks
        self._rows: list[pl.DataFrame] = []
        self._progress: Progress = {}
        self._known: dict[tuple[Any, ...], int] = {}

    def add(self, rows: pl.DataFrame, progress: Progress) -> None:
        if rows.height:
            self._rows.append(rows.drop(OFFSET, strict=False))
        for lane, stamps in progress.items():
            self._progress.setdefault(lane, {}).update(stamps)

    def take(self) -> list[Block]:
        """A block for each task that rows go to; how far lanes have come goes to all."""
        if not self._rows and not self._progress:
            return []
        rows = pl.concat(self._rows, how="diagonal_relaxed") if self._rows else pl.DataFrame()
        split = self._split(rows) if rows.height else {}
        blocks = []
        for task in range(self._tasks):
            part = split.get(task, rows.clear())
            if part.height or self._progress:
                *first, last = pieces(part)
                # How far lanes have come is told with the last: rows that come after it would be late.
                told: list[tuple[Progress, pl.DataFrame]] = [({}, piece) for piece in first]
                told.append((self._progress, last))
                for progress, piece in told:
                    data = msgspec.msgpack.encode((self._sender, progress, packed(piece)))
                    blocks.append(Block(self._node.number, task, data))
        self._rows, self._progress = [], {}
        return blocks

    def _split(self, rows: pl.DataFrame) -> dict[int, pl.DataFrame]:
        if self._tasks == 1:
            return {0: rows}
        by = list(self._node.by)
        keys = rows.select(by).unique(maintain_order=True)
        tasks = pl.Series(_TASK, [self._task_of(key) for key in keys.iter_rows()], dtype=pl.Int32)
        placed = rows.join(keys.with_columns(tasks), on=by, how="left", nulls_equal=True, maintain_order="left")
        parts = placed.partition_by(_TASK, as_dict=True, maintain_order=True, include_key=False)
        return {int(task): part for (task,), part in parts.items()}

    def _task_of(self, key: tuple[Any, ...]) -> int:
        """The same in every process and version: state lies where it sends rows."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) > 1_000_000:
                self._known.clear()
            found = self._known[key] = zlib.crc32(written(list(key))) % self._tasks
        return found


def _shown(column: str) -> str:
    return "the message's timestamp" if column == _TIMESTAMP else column


def is_named(node: Node) -> bool:
    """Whether the node has a name of its own that lasts."""
    return node.kind == "exchange" or (node.step is not None and is_stateful(node.step))


def _is_map(node: Node) -> bool:
    """Whether a step is a user's function from row to row."""
    return isinstance(node.step, MapRows)


def _is_query(node: Node) -> bool:
    """Whether a step is one of those that Polars does on its own."""
    other = Join | JoinLookup | Concat | MapRows | FlatMap | MapBatches | Expect | Sink
    return node.step is not None and not is_stateful(node.step) and not isinstance(node.step, other)
