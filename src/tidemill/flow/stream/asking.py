"""How far a group has come, asked by a process that must not stand still: who is silent for a session loses its tasks.

A broker waits with its answer where a process died between sending its positions and committing them, until the
transaction of that process is over: a minute, with Kafka.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tidemill.flow.stream.outages import Outage
from tidemill.model.errors import Unreachable
from tidemill.ports.clock import Clock
from tidemill.ports.topic import SESSION, Member, Partition, Position

#: Seconds that a stream's loop stands still for an answer, at the most.
QUICKLY = SESSION.total_seconds() / 4
#: Seconds from a question that was not answered to the next one.
LATER = 5.0


class Asking:
    """Asks for the positions of tasks that are to begin.

    Args:
        name: the stream.
        clock: the time.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self._clock = clock
        self._outage = Outage(name, clock)
        #: When to ask again, by task.
        self._again: dict[int, float] = {}

    def due(self, tasks: Collection[int]) -> list[int]:
        """Those among the tasks to begin, in order, whose positions may be asked for now."""
        now = self._clock.monotonic()
        self._again = {task: when for task, when in self._again.items() if task in tasks}
        return sorted(task for task in tasks if self._again.get(task, now) <= now)

    def ask(self, task: int, member: Member, partitions: Sequence[Partition]) -> Mapping[Partition, Position] | None:
        """The positions of what a task reads; None: they are not known now."""
        try:
            found = member.committed(partitions, QUICKLY)
        except Unreachable as error:
            self._outage.met(error, "what else it has to do goes on, and it asks again")
            self._again[task] = self._clock.monotonic() + LATER
            return None
        self._again.pop(task, None)
        if not self._again:
            self._outage.over()
        return found
