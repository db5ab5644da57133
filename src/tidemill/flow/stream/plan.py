"""What a process must know of a stream: its topology, how topics are written, where it may lose patience."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tidemill.model.frame.topic import Topic, ToTable, ToTopic
from tidemill.model.stream import OnError
from tidemill.plan.stream_steps import is_stateful
from tidemill.plan.topology import Node, Topology, sinks
from tidemill.ports.topic import Guarantee, TopicSpec

#: The stage of what loads rows into tables.
LOADERS = 0
#: How long the changelog keeps that a key was removed.
TOMBSTONES = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A stream, ready to be run.

    Args:
        name: of the stream; its group and the names of its own topics are made of it.
        topology: its plan.
        guarantee: what a crash may do to results.
        every: a checkpoint at the latest after this long. `rows`: or after so many messages.
        errors: what becomes of a row that cannot be taken, by the verb of the step; the others have their default.
        lookups_every: how old a joined table may be.
    """

    name: str
    topology: Topology
    guarantee: Guarantee = "exactly-once"
    every: timedelta = timedelta(seconds=1)
    rows: int = 500_000
    errors: Mapping[str, OnError] = field(default_factory=dict)
    lookups_every: timedelta = timedelta(seconds=10)

    @property
    def tasks(self) -> tuple[tuple[int, int], ...]:
        """All tasks as (stage, number); their places here are the group's task numbers.

        Of the stage `LOADERS` the number is that of the sink whose rows the task loads into a table.
        """
        topology = self.topology
        work = [(stage, number) for stage in topology.stages for number in range(topology.tasks(stage))]
        return (*work, *((LOADERS, node.number) for node in sinks(topology) if isinstance(node.step, ToTable)))

    @property
    def dead_letters(self) -> str:
        """The topic for messages and rows that could not be taken."""
        return f"{self.name}.dead-letters"

    @property
    def late(self) -> str:
        """The topic for rows that came too late."""
        return f"{self.name}.late"

    def exchange(self, node: Node) -> str:
        """The topic of an exchange."""
        return f"{self.name}.{node.name}"

    def outbox(self, node: Node) -> str:
        """The topic in which rows wait that go to a table."""
        assert isinstance(node.step, ToTable)
        return f"{self.name}.{node.step.table}.rows"

    def changelog(self, stage: int) -> str:
        """The topic that a stage's state is kept in."""
        return f"{self.name}.stage{stage}.changelog"

    def keeps_state(self, stage: int) -> bool:
        """Whether tasks of a stage remember anything."""
        nodes = self.topology.of_stage(stage)
        return any(node.stamps or (node.step is not None and is_stateful(node.step)) for node in nodes)

    def sources(self, stage: int) -> tuple[Node, ...]:
        """The nodes of a stage that topics are read for."""
        return tuple(node for node in self.topology.of_stage(stage) if node.kind != "step")

    def topic_of(self, node: Node) -> str:
        """The topic that a source or exchange reads."""
        return node.topic.name if node.kind == "source" else self.exchange(node)

    def on_error(self, node: Node) -> OnError:
        """What becomes of rows that a node cannot take."""
        verb = node.step.verb if node.step is not None else "decode"
        stateful = node.step is not None and is_stateful(node.step)
        return self.errors.get(verb) or self.errors.get("") or ("stop" if stateful else "dead_letter")

    def own_topics(self) -> list[TopicSpec]:
        """Topics that the stream needs for itself."""
        found = [TopicSpec(self.dead_letters), TopicSpec(self.late)]
        for node in self.topology.nodes:
            if node.kind == "exchange":
                found.append(TopicSpec(self.exchange(node), node.spread.tasks, retention=timedelta(days=7)))
        for node in sinks(self.topology):
            if isinstance(node.step, ToTable):
                found.append(TopicSpec(self.outbox(node), retention=timedelta(days=7)))
        for stage in self.topology.stages:
            if self.keeps_state(stage):
                found.append(TopicSpec(self.changelog(stage), self.topology.tasks(stage), cleanup="compact"))
        return found

    def written(self) -> list[Topic]:
        """The topics that its sinks write."""
        return [node.step.topic for node in sinks(self.topology) if isinstance(node.step, ToTopic)]

    def fingerprint(self, stage: int) -> str:
        """What a stage's state is of: the state of another one does not fit."""
        nodes = [n for n in self.topology.of_stage(stage) if n.step is not None and is_stateful(n.step)]
        text = "\n".join(f"{node.name} {node.step} {self._columns(node)}" for node in nodes)
        return hashlib.sha256(f"{self.topology.tasks(stage)}\n{text}".encode()).hexdigest()[:16]

    def _columns(self, node: Node) -> str:
        parents = [self.topology.nodes[number] for number in node.parents]
        return ";".join(",".join(parent.columns or ()) for parent in parents)
