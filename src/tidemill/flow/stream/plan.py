"""What a process must know of a stream: its topology, how topics are written, where it may lose patience."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from tidemill.flow.stream.facts import outbox_of
from tidemill.flow.stream.tally import MOST, Judge
from tidemill.model.errors import DefinitionError
from tidemill.model.frame.topic import Expect, Loaded, Topic, ToTopic
from tidemill.model.stream import LOST, Guarantee, OnError
from tidemill.plan.partitioning import LARGEST, LARGEST_OPTION
from tidemill.plan.stream_steps import is_stateful
from tidemill.plan.topology import Node, Topology, sinks
from tidemill.ports.topic import TopicSpec

#: Time columns that windows and joins of one stage go by, at most: a position's note has room for so many.
MOST_TIMES = 15
#: The stage of what loads rows into tables.
LOADERS = 0


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
        largest: bytes that a message of its sources may have.
    """

    name: str
    topology: Topology
    guarantee: Guarantee = "exactly-once"
    every: timedelta = timedelta(seconds=1)
    rows: int = 500_000
    errors: Mapping[str, OnError] = field(default_factory=dict)
    lookups_every: timedelta = timedelta(seconds=10)
    largest: int = LARGEST

    def __post_init__(self) -> None:
        for stage in self.topology.stages:
            if len(found := self.judges(stage)) > MOST:
                raise DefinitionError(
                    f'"{self.name}" has {len(found)} checks in a stage; {MOST} are the most.',
                    hint='tm.expect((tm.col("a") > 0) & (tm.col("b") > 0)) is one check',
                )
            if (many := len(self.stamps(stage) - {0})) > MOST_TIMES:
                raise DefinitionError(
                    f'"{self.name}" goes by {many} time columns in a stage; {MOST_TIMES} are the most.',
                    hint="a stream of its own for some of them",
                )

    @property
    def tasks(self) -> tuple[tuple[int, int], ...]:
        """All tasks as (stage, number); their places here are the group's task numbers.

        Of the stage `LOADERS` the number is that of the sink whose rows the task loads into a table.
        """
        topology = self.topology
        work = [(stage, number) for stage in topology.stages for number in range(topology.tasks(stage))]
        return (*work, *((LOADERS, node.number) for node in sinks(topology) if isinstance(node.step, Loaded)))

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
        """The topic in which rows wait that are loaded somewhere."""
        assert isinstance(node.step, Loaded)
        return outbox_of(self.name, node.step.place)

    def changelog(self, stage: int) -> str:
        """The topic that a stage's state is kept in."""
        return f"{self.name}.stage{stage}.changelog"

    def keeps_state(self, stage: int) -> bool:
        """Whether tasks of a stage remember anything: how far event time has come, or what a step keeps."""
        steps = (node.step for node in self.topology.of_stage(stage))
        return bool(self.stamps(stage)) or any(step is not None and is_stateful(step) for step in steps)

    def stamps(self, stage: int) -> set[int]:
        """The numbers of the stamps that are made in a stage, the one that rows are ordered by among them."""
        nodes = self.topology.of_stage(stage)
        made = {stamp.number for node in nodes for stamp in node.stamps}
        return made | {0} if any(node.kind == "source" and node.ordered for node in nodes) else made

    def judges(self, stage: int) -> tuple[Judge, ...]:
        """The checks of a stage."""
        return tuple(
            Judge(node.number, place, node.step.of, check)
            for node in self.topology.of_stage(stage)
            if isinstance(node.step, Expect)
            for place, check in enumerate(node.step.checks)
        )

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

    @property
    def bears_loss(self) -> bool:
        """Whether the stream goes on where messages were removed before it read them."""
        return self.errors.get(LOST) == "skip"

    def own_topics(self) -> list[TopicSpec]:
        """Topics that the stream needs for itself.

        Of exchanges and outboxes everything stays until it was worked on; then it is trimmed.
        """
        found = [TopicSpec(self.dead_letters), TopicSpec(self.late)]
        for node in self.topology.nodes:
            if node.kind == "exchange":
                found.append(TopicSpec(self.exchange(node), node.spread.tasks))
        for node in sinks(self.topology):
            if isinstance(node.step, Loaded):
                found.append(TopicSpec(self.outbox(node)))
        for stage in self.topology.stages:
            if self.keeps_state(stage):
                found.append(TopicSpec(self.changelog(stage), self.topology.tasks(stage), cleanup="compact"))
        if self.largest <= LARGEST:
            return found
        # What a message was made of may be somewhat more than the message, and a letter has its reason besides.
        options = {LARGEST_OPTION: str(2 * self.largest)}
        return [replace(one, options=options) for one in found]

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
