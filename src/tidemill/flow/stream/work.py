"""One task at work in this process: its engine's task, its state, and how far it has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.flow.stream.keeping import Kept
from tidemill.flow.stream.plan import StreamPlan
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import LookUp, StreamEngine, StreamTask
from tidemill.ports.topic import Partition, Position


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
    #: Clock seconds of the last message of each partition, and the partitions that nothing waits for.
    heard: dict[Partition, float] = field(default_factory=dict)
    silent: set[Partition] = field(default_factory=set)


def inputs_of(plan: StreamPlan, stage: int, number: int) -> dict[Partition, list[Node]]:
    """The partitions that a task reads."""
    found: dict[Partition, list[Node]] = {}
    for node in plan.sources(stage):
        if number < node.spread.tasks:
            found.setdefault(Partition(plan.topic_of(node), number), []).append(node)
    return found


class WorkMaker:
    """Makes tasks, with what they remember.

    Args:
        plan: the stream.
        engine: makes the engine's part.
        keep: opens and recovers a task's state, by stage and number.
        lookups: joined tables, by node.
    """

    def __init__(
        self,
        plan: StreamPlan,
        engine: StreamEngine,
        keep: Callable[[int, int], Kept],
        lookups: Mapping[int, LookUp],
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._keep = keep
        self._lookups = lookups

    def make(self, stage: int, number: int, came: Mapping[Partition, Position], first: Mapping[Partition, int]) -> Work:
        """A task as it was at the group's last checkpoint.

        Args:
            stage: whose.
            number: of the task.
            came: how far the group has come.
            first: where to begin in partitions that it has not read yet.
        """
        plan = self._plan
        kept = self._keep(stage, number) if plan.keeps_state(stage) else None
        keeper = kept if kept is not None else Nothing()
        task = self._engine.task(plan.topology, stage, number, keeper, self._lookups)
        inputs = inputs_of(plan, stage, number)
        positions = {p: came[p].offset if p in came else first.get(p, 0) for p in inputs}
        return Work(stage, number, task, kept, inputs, positions)


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
