"""One task at work in this process: its engine's task, its state, and how far it has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.flow.stream.keeping import Kept
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.recovery import Recovering
from tidemill.model.errors import Refused
from tidemill.plan.topology import Node
from tidemill.ports.stream_engine import LookUp, StreamEngine, StreamTask
from tidemill.ports.topic import Partition, Position, Topics

#: Where state says what code it is of.
CODE = b"\0code"


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
    #: What time it was for a partition when the clock began to go on for it, by stamp.
    clock_tops: dict[Partition, dict[int, int]] = field(default_factory=dict)
    clock_began: dict[Partition, float] = field(default_factory=dict)


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

    def make(
        self,
        stage: int,
        number: int,
        came: Mapping[Partition, Position],
        first: Mapping[Partition, int],
        told: Callable[[Recovering], None] = lambda _: None,
    ) -> Work:
        """A task as it was at the group's last checkpoint.

        Args:
            stage: whose.
            number: of the task.
            came: how far the group has come.
            first: where to begin in partitions that it has not read yet.
            told: is told how far the recovery of its state has come, again and again.

        Raises:
            Refused: its state is of other code.
        """
        plan = self._plan
        kept = self._recovered(stage, number, told) if plan.keeps_state(stage) else None
        keeper = kept if kept is not None else Nothing()
        task = self._engine.task(plan.topology, stage, number, keeper, self._lookups)
        inputs = inputs_of(plan, stage, number)
        positions = {p: came[p].offset if p in came else first.get(p, 0) for p in inputs}
        return Work(stage, number, task, kept, inputs, positions)

    def _recovered(self, stage: int, number: int, told: Callable[[Recovering], None]) -> Kept:
        kept = self._keep(stage, number)
        changelog = self._topics.describe(self._plan.changelog(stage))
        assert changelog is not None
        reader = self._topics.reader()
        try:
            kept.recover(reader, changelog, told=told)
            self._check(kept, stage, number)
        except BaseException:
            kept.close()
            raise
        finally:
            reader.close()
        return kept

    def _check(self, kept: Kept, stage: int, number: int) -> None:
        """State says what code it is of: that of other code would give wrong results without a word."""
        mine = self._plan.fingerprint(stage).encode()
        found = kept.get([CODE])[0]
        if found is None:
            kept.put(CODE, mine)
        elif found != mine:
            raise Refused(
                f'The state of "{self._plan.name}" (stage {stage}, task {number}) is of other code: a step that '
                "remembers something was changed, added or moved, or a topic has another number of partitions.",
                hint=f"tidemill stream reset {self._plan.name} makes it anew from what the topics still hold; "
                "a stream of another name begins beside it",
            )


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
