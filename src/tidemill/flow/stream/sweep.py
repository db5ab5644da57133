"""Whether all that was in a stream's topics at some moment has gone through all its stages, whoever works on them."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill.flow.stream.asking import QUICKLY
from tidemill.flow.stream.plan import StreamPlan
from tidemill.flow.stream.times import Times
from tidemill.plan.lanes import depths
from tidemill.ports.topic import Partition, Topics

_NEVER = 2**63


class Sweep:
    """A look through the stages, one after the other: the ends of what a stage reads are asked for when all before it
    is done with, so that what came of that is below them. What is behind a transaction that is open is on its way, too.

    Args:
        plan: the stream.
        topics: the broker.
        began: seconds of the clock.
        times: what time it was then.
    """

    def __init__(self, plan: StreamPlan, topics: Topics, began: float, times: Times) -> None:
        self.began = began
        self.times = times
        self._topics = topics
        self._levels = levels(plan)
        self._waiting: dict[Partition, int] = {}

    def look(self, counted: Mapping[Partition, int]) -> bool:
        """Whether it is through.

        Args:
            counted: the positions that the group has committed.

        Raises:
            Unreachable: a topic's ends were not told in time.
        """
        while True:
            self._waiting = {p: end for p, end in self._waiting.items() if counted.get(p, -1) < end}
            if self._waiting or not self._levels:
                return not self._waiting
            for topic in self._levels.pop(0):
                self._ask(topic)

    def _ask(self, topic: str) -> None:
        info = self._topics.describe(topic, QUICKLY)
        if info is None:  # whoever reads it says so
            self._waiting[Partition(topic, 0)] = _NEVER
            return
        for number, (first, end) in enumerate(zip(info.first, info.sent, strict=True)):
            if end > first:
                self._waiting[Partition(topic, number)] = end


def levels(plan: StreamPlan) -> list[list[str]]:
    """The topics of sources, then of exchanges that rows come to from these at once, and so on."""
    depth = depths(plan.topology)
    found: list[dict[str, None]] = [{} for _ in range(1 + max(depth))]
    for node in plan.topology.nodes:
        if node.kind != "step":
            found[depth[node.number]][plan.topic_of(node)] = None
    return [list(topics) for topics in found]
