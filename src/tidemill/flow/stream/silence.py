"""Partitions that say nothing: for how long the others wait for them, and what time it is for them meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from tidemill.flow.stream.work import Work
from tidemill.plan.topology import Node
from tidemill.ports.topic import Partition, Reader

#: Seconds between two looks: silence is counted in seconds.
_EVERY = 0.25
_MICROS = 1_000_000


class Silence:
    """Watches the partitions of topics that this process reads.

    A partition is silent when it has been read to its end and nothing has come for the topic's `idle`. Its event time
    goes on with the least of those that speak. Where none does, nothing is waited for: it is as late as anywhere,
    and goes on from there with the clock if the topic says so. A process knows its own partitions only.
    """

    def __init__(self) -> None:
        self._looked = float("-inf")

    def look(self, works: Collection[Work], reader: Reader, now: float) -> Iterator[Work]:
        """Move silent partitions on; gives the tasks from which something may have followed.

        Args:
            works: at work in this process.
            reader: knows the ends of partitions.
            now: seconds of the clock.
        """
        if now - self._looked < _EVERY:
            return
        self._looked = now
        ends: Mapping[Partition, int] | None = None
        for work in works:
            for partition, nodes in work.inputs.items():
                for node in nodes:
                    if node.kind != "source" or node.topic.idle is None:
                        continue
                    if now - work.heard[partition] < node.topic.idle.total_seconds():
                        continue
                    ends = reader.ends() if ends is None else ends
                    if work.positions[partition] < ends.get(partition, work.positions[partition] + 1):
                        continue
                    work.silent.add(partition)
                    upto = _time_for(node, partition, work, works, now)
                    if upto and work.task.idle(node.number, upto):
                        yield work


def _time_for(node: Node, silent: Partition, work: Work, works: Collection[Work], now: float) -> dict[int, int]:
    """What time it is for a silent partition, by stamp; topics that meet share their stamps."""
    everything = [
        (partition in other.silent, other.task.tops(one.number))
        for other in works
        for partition, nodes in other.inputs.items()
        for one in nodes
        if one.kind == "source"
    ]
    upto: dict[int, int] = {}
    for number in {number for _, tops in everything for number in tops}:
        speaking = [tops[number] for is_silent, tops in everything if not is_silent and number in tops]
        known = [tops[number] for _, tops in everything if number in tops]
        upto[number] = min(speaking) if speaking else max(known)
    if node.topic.on_idle == "clock" and all(is_silent for is_silent, _ in everything):
        return _with_clock(silent, work, upto, now)
    return upto


def _with_clock(silent: Partition, work: Work, upto: dict[int, int], now: float) -> dict[int, int]:
    if silent not in work.clock_tops:
        work.clock_tops[silent], work.clock_began[silent] = upto, now
    passed = int((now - work.clock_began[silent]) * _MICROS)
    return {number: top + passed for number, top in work.clock_tops[silent].items()}
