"""Plays a topology in memory: rows of topics in any cut, tasks that are saved and made again, what came out in all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from tidemill.adapters.polars.moments import micros, whole
from tidemill.adapters.polars.stream.engine import PolarsStreamEngine
from tidemill.model.frame import Frame
from tidemill.model.frame.topic import Topic
from tidemill.plan.needed import needed_columns
from tidemill.plan.topology import Topology, plan_topology
from tidemill.ports.stream_engine import Outcome, StreamTask


class DictKeeper:
    """A keeper whose every change counts at once."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.data.get(key) for key in keys]

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((k, v) for k, v in self.data.items() if k.startswith(prefix)))

    def put(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.data.pop(key, None)
        else:
            self.data[key] = value


@dataclass
class Play:
    """All tasks of a topology in one process."""

    topology: Topology
    engine: PolarsStreamEngine
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    whole: bool = False
    keepers: dict[tuple[int, int], DictKeeper] = field(default_factory=dict)
    tasks: dict[tuple[int, int], StreamTask] = field(default_factory=dict)
    given: dict[int, list[pl.DataFrame]] = field(default_factory=dict)
    late: dict[int, list[pl.DataFrame]] = field(default_factory=dict)
    failures: list[Any] = field(default_factory=list)
    #: By node and check: rows that were looked at, and that failed.
    judged: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def task(self, stage: int, number: int) -> StreamTask:
        key = (stage, number)
        if key not in self.tasks:
            keeper = self.keepers.setdefault(key, DictKeeper())
            self.tasks[key] = self.engine.task(self.topology, stage, number, keeper, self.lookups())
        return self.tasks[key]

    def lookups(self) -> dict[int, Any]:
        from tidemill.plan.topology import looked_up

        return {n: (lambda f=frame: self.tables[f.source.name]) for n, frame in looked_up(self.topology).items()}

    def feed(self, source: int, partition: int, rows: pl.DataFrame, first: int, stamps: Sequence[int]) -> None:
        """A stretch of a partition; and whatever follows from it, in all stages."""
        stage = self.topology.nodes[source].stage
        task = self.task(stage, partition)
        wanted = None if self.whole else needed_columns(self.topology, source)
        task.feed(source, rows if wanted is None else rows.select(wanted), range(first, first + rows.height), stamps)
        self.settle(task.take())

    def settle(self, outcome: Outcome) -> None:
        for one in outcome.given:
            self.given.setdefault(one.node, []).append(one.rows)
        for one in outcome.late:
            self.late.setdefault(one.node, []).append(one.rows)
        self.failures += outcome.failures
        for found in outcome.judged:
            for place, (rows, failed) in enumerate(found.counts):
                before = self.judged.get((found.node, place), (0, 0))
                self.judged[found.node, place] = before[0] + rows, before[1] + failed
        for block in outcome.blocks:
            other = self.task(self.topology.nodes[block.exchange].stage, block.task)
            other.receive(block.exchange, block.data)
            self.settle(other.take())

    def restart(self) -> None:
        """Save all tasks and make them again of what they saved."""
        for task in self.tasks.values():
            task.save()
        self.tasks.clear()

    def out(self, node: int) -> pl.DataFrame | None:
        """All that came out at a sink."""
        found = self.given.get(node)
        return pl.concat(found, how="diagonal_relaxed") if found else None


def play(
    frames: Sequence[Frame],
    data: Mapping[str, Sequence[pl.DataFrame]],
    rng: random.Random,
    *,
    tables: Mapping[str, pl.DataFrame] | None = None,
    restarts: float = 0.2,
    largest: int = 12,
    whole: bool = False,
) -> Play:
    """Play frames over topics' partitions, cut at random, tasks made anew at random.

    Without `whole` only the columns that the frames use are read, as streams do.
    """
    engine = PolarsStreamEngine({name: rows.schema for name, rows in (tables or {}).items()})
    partitions = {name: len(parts) for name, parts in data.items()}
    topology = plan_topology("played", frames, engine.columns_of, partitions)
    game = Play(topology, engine, tables or {}, whole)
    sources = [node for node in topology.nodes if node.kind == "source"]
    ahead = {(n.number, p): 0 for n in sources for p in range(partitions[n.topic.name])}
    names = {n.number: n.topic.name for n in sources}
    while ahead:
        source, partition = rng.choice(sorted(ahead))
        rows = data[names[source]][partition]
        first = ahead[source, partition]
        count = rng.randint(1, largest)
        piece = rows[first : first + count]
        stamps = (
            piece.get_column("__tm_timestamp").to_list() if "__tm_timestamp" in piece.columns else [0] * piece.height
        )
        game.feed(source, partition, piece.drop("__tm_timestamp", strict=False), first, stamps)
        ahead[source, partition] = first + count
        if first + count >= rows.height:
            del ahead[source, partition]
        if rng.random() < restarts:
            game.restart()
    return game


def as_table(topic: Topic, parts: Sequence[pl.DataFrame], time: str) -> pl.DataFrame:
    """A topic's rows as a table, in the order that streams give them: by stamp, then partition, then offset."""
    placed = []
    for number, part in enumerate(parts):
        if part.height == 0:
            continue
        top = (micros(part.lazy(), time) - whole(topic.lateness)).cum_max().forward_fill().fill_null(-(2**62))
        placed.append(part.with_columns(top.alias("w"), pl.lit(number).alias("p"), pl.int_range(pl.len()).alias("o")))
    if not placed:
        return parts[0]
    return pl.concat(placed).sort("w", "p", "o").drop("w", "p", "o")
