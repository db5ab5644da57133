"""How far a group has come, asked by a process that must not stand still: who is silent for a session loses its tasks.

A broker waits with its answer where a process died between sending its positions and committing them, until the
transaction of that process is over: a minute, with Kafka. Where it died earlier there is an answer, and what tasks
remember is held up as long. Where it does not die, but stands still on this computer, it has that open.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from tidemill.flow.stream.outages import Outage
from tidemill.model.errors import Busy, Unreachable
from tidemill.ports.clock import Clock
from tidemill.ports.topic import SESSION, Member, Partition, Position

if TYPE_CHECKING:
    from tidemill.flow.stream.work import Work

#: Seconds that a stream's loop stands still for an answer, at the most.
QUICKLY = SESSION.total_seconds() / 4
#: Seconds from a question that was not answered to the next one.
LATER = 5.0
#: The same where a transaction is open: those of who lives are over in some milliseconds.
SOON = 0.1
_HELD = "what it remembers is held up by a transaction of another process, which may have died"


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
        #: Since when a transaction holds the state of a task up.
        self._held: dict[int, float] = {}

    def due(self, tasks: Collection[int]) -> list[int]:
        """Those among the tasks to begin, in order, whose positions may be asked for now."""
        now = self._clock.monotonic()
        self._again = {task: when for task, when in self._again.items() if task in tasks}
        self._held = {task: since for task, since in self._held.items() if task in tasks}
        return sorted(task for task in tasks if self._again.get(task, now) <= now)

    def ask(
        self, task: int, member: Member, partitions: Sequence[Partition], is_settled: Callable[[], bool]
    ) -> Mapping[Partition, Position] | None:
        """The positions of what a task reads; None: they, or what it remembers, are not known now.

        Args:
            task: its number.
            member: asks.
            partitions: what the task reads.
            is_settled: whether what it remembers is known; asked after the positions, which settle earlier.
        """
        try:
            found, settled = member.committed(partitions, QUICKLY), is_settled()
        except Unreachable as error:
            self._later(task, error)
            return None
        if not settled:
            now = self._clock.monotonic()
            lasts = now - self._held.setdefault(task, now)
            if lasts < LATER:
                self._again[task] = now + max(SOON, lasts)
            else:
                self._later(task, _HELD)
            return None
        return found

    def begin(self, task: int, make: Callable[[], Work]) -> Work | None:
        """Have a task made; None: somebody else has open now what it remembers."""
        try:
            made = make()
        except Busy as error:
            self._later(task, error)
            return None
        self._held.pop(task, None)
        self._again.pop(task, None)
        if not self._again:
            self._outage.over()
        return made

    def _later(self, task: int, trouble: object) -> None:
        self._outage.met(trouble, "what else it has to do goes on, and it asks again")
        self._again[task] = self._clock.monotonic() + LATER
