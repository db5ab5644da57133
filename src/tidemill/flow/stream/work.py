"""One task at work in this process: its engine's task, its state, and how far it has read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tidemill.flow.stream.asking import QUICKLY
from tidemill.flow.stream.inputs import Inputs, deleted, see_state
from tidemill.flow.stream.keeping import Kept
from tidemill.flow.stream.notes import Note, offset_of
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.recovery import Recovering
from tidemill.flow.stream.tally import Tally
from tidemill.model.errors import Refused, RunFailed
from tidemill.plan.lanes import lane_of
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import LookUp, Place, StreamEngine, StreamTask
from tidemill.ports.topic import Partition, Position, Reader, TopicInfo, Topics

#: Where state says what code it is of, and of which topics (ids by name, as JSON).
CODE = b"\0code"
TOPICS = b"\0topics"


@dataclass(slots=True)
class Work:
    """A task.

    Args:
        stage, number: which.
        task: what the engine made.
        kept: what it remembers; None: it remembers nothing.
        inputs: the partitions that it reads, with the nodes that each is for.
        positions: the next offset of each that is not read yet.
    """

    stage: int
    number: int
    task: StreamTask
    kept: Kept | None
    inputs: Mapping[Partition, Sequence[Node]]
    positions: dict[Partition, int] = field(default_factory=dict)
    #: Partitions of which the group has read nothing yet.
    new: set[Partition] = field(default_factory=set)
    #: Clock seconds of the last row at each place where stamps are made, and the places that nothing waits for.
    heard: dict[Place, float] = field(default_factory=dict)
    silent: set[Place] = field(default_factory=set)
    #: The places that are sources.
    listening: set[Place] = field(default_factory=set)
    #: When the clock began to go on for a place, and what time it was then, by stamp.
    clocks: dict[Place, tuple[float, dict[int, int]]] = field(default_factory=dict)
    #: What its checks have found; None: it has none.
    tally: Tally | None = None

    def sources(self, partition: Partition) -> list[Place]:
        """Where the rows of a topic's partition come in; none for an exchange's."""
        nodes = (node.number for node in self.inputs[partition] if node.kind == "source")
        return [Place(number, lane_of(number, self.number)) for number in nodes]


def inputs_of(plan: StreamPlan, stage: int, number: int) -> dict[Partition, list[Node]]:
    """The partitions that a task reads."""
    found: dict[Partition, list[Node]] = {}
    for node in plan.sources(stage):
        if number < node.spread.tasks:
            found.setdefault(Partition(plan.topic_of(node), number), []).append(node)
    return found


def readers_of(plan: StreamPlan) -> dict[Partition, int]:
    """The task that reads each partition."""
    tasks = enumerate(plan.tasks)
    return {partition: task for task, (stage, number) in tasks for partition in inputs_of(plan, stage, number)}


class WorkMaker:
    """Makes tasks, with what they remember.

    Args:
        plan: the stream.
        engine: makes the engine's part.
        topics: the broker.
        keep: opens a task's state, by stage and number.
        lookups: joined tables, by node.
    """

    def __init__(
        self,
        plan: StreamPlan,
        engine: StreamEngine,
        topics: Topics,
        keep: Callable[[int, int], Kept],
        lookups: Mapping[int, LookUp],
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._topics = topics
        self._keep = keep
        self._lookups = lookups
        self._changelogs: dict[int, TopicInfo] = {}
        self._reader: Reader | None = None

    @contextmanager
    def several(self) -> Iterator[None]:
        """Tasks that are made within share what asks the broker: changelogs are described once, by one reader read.

        All of them must be this process's already, so that nobody else writes to their changelogs.
        """
        try:
            yield
        finally:
            self._changelogs.clear()
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def moved(self) -> None:
        """Tasks were taken over: others may have written to their changelogs until now."""
        self._changelogs.clear()

    def is_settled(self, stage: int, number: int) -> bool:
        """Whether it is known of all that was sent to a task's changelog whether it counts.

        A process may have died, or stand still, in the midst of a transaction; who had the task since has committed
        behind that, and nobody can read it yet.

        Raises:
            RunFailed: the changelog is gone. Unreachable.
        """
        if not self._plan.keeps_state(stage):
            return True
        found = self._changelog(stage)
        return found.sent[number] <= found.end[number]

    def make(
        self,
        stage: int,
        number: int,
        came: Mapping[Partition, Position],
        first: Mapping[Partition, int],
        inputs: Inputs,
        told: Callable[[Recovering], None] = lambda _: None,
    ) -> Work:
        """A task as it was at the group's last checkpoint.

        Args:
            stage: whose; it is settled.
            number: of the task.
            came: how far the group has come.
            first: where to begin in partitions that it has not read yet.
            inputs: the topics that there are.
            told: is told how far the recovery of its state has come, again and again.

        Raises:
            Refused: its state is of other code. RunFailed: its state, or how far it came, is gone.
        """
        plan, mine = self._plan, inputs_of(self._plan, stage, number)
        kept = self._recovered(stage, number, told) if plan.keeps_state(stage) else None
        if kept is not None:
            try:
                self._check(kept, stage, number, any(Note.of(position).topic for position in came.values()))
                self._check_topics(kept, inputs, [partition for partition in mine if partition not in came])
            except BaseException:
                kept.close()
                raise
        keeper = kept if kept is not None else Nothing()
        task = self._engine.task(plan.topology, stage, number, keeper, self._lookups)
        positions = {p: offset_of(came[p]) if p in came else first.get(p, 0) for p in mine}
        return Work(stage, number, task, kept, mine, positions, {p for p in mine if p not in came})

    def _recovered(self, stage: int, number: int, told: Callable[[Recovering], None]) -> Kept:
        kept = self._keep(stage, number)
        try:
            if self._reader is None:
                self._reader = self._topics.reader()
            kept.recover(self._reader, self._changelog(stage), told=told)
        except BaseException:
            kept.close()
            raise
        return kept

    def _changelog(self, stage: int) -> TopicInfo:
        if stage not in self._changelogs:
            found = self._topics.describe(self._plan.changelog(stage), QUICKLY)
            if found is None:
                raise deleted(self._plan, f'"{self._plan.changelog(stage)}", which holds its state, was deleted.')
            self._changelogs[stage] = found
        return self._changelogs[stage]

    def _check(self, kept: Kept, stage: int, number: int, has_committed: bool) -> None:
        """State says what code it is of: that of other code would give wrong results without a word."""
        mine = self._plan.fingerprint(stage).encode()
        found = kept.get([CODE])[0]
        if found is None:
            if has_committed and not self._plan.bears_loss:
                raise RunFailed(
                    f'"{self._plan.name}" stops: it has read messages, and the state that it made of them (stage '
                    f'{stage}, task {number}) is not there. "{self._plan.changelog(stage)}" was deleted, or a step '
                    "that remembers something is new.",
                    hint=f"tidemill stream reset {self._plan.name} makes it anew from what the topics still hold; "
                    "with --to latest from now on",
                )
            kept.put(CODE, mine)
        elif found != mine:
            raise Refused(
                f'The state of "{self._plan.name}" (stage {stage}, task {number}) is of other code: a step that '
                "remembers something was changed, added or moved, or a topic has another number of partitions.",
                hint=f"tidemill stream reset {self._plan.name} makes it anew from what the topics still hold; "
                "a stream of another name begins beside it",
            )

    def _check_topics(self, kept: Kept, inputs: Inputs, missing: Sequence[Partition]) -> None:
        """State says of which topics it is."""
        packed = kept.get([TOPICS])[0]
        known = json.loads(packed) if packed is not None else {}
        see_state(self._plan, known, inputs.ids, missing)
        if known != inputs.ids:
            kept.put(TOPICS, json.dumps(inputs.ids).encode())


class Nothing:
    """The keeper of a task that remembers nothing."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Nothing."""
        return [None] * len(keys)

    def scan(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Nothing."""
        return iter(())

    def put(self, key: bytes, value: bytes | None) -> None:
        """Forget it: a stateless step has nothing to say."""
