"""Which ready task instances get a worker: by weight, within pools and limits.

    add -> waiting (a heap for each queue) -> take -> running -> release
                        ^                       |
                        '------- parked <-------'     by the first limit that is full

For each unit of a limit that comes free one of those parked by it is looked at again, so that ten thousand ready
instances behind a pool of two cost no more than two.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tidemill.model.graph import Node, TaskKey

#: An instance of a task in some run: the run's id and the instance's key.
Place: TypeAlias = tuple[int, TaskKey]
#: A limit: what it counts, and of what.
Limit: TypeAlias = tuple[str, ...]

#: The pool that every task is in which names no other, and its slots where nobody has said.
DEFAULT_POOL, DEFAULT_SLOTS = "default", 128


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """An instance that is ready: the heaviest first, then whoever became ready first."""

    weight: int
    order: int
    place: Place = field(compare=False)
    pipeline: str = field(compare=False)
    node: Node = field(compare=False)


class Dispatcher:
    """Ready and running instances of all runs that one scheduler drives.

    Args:
        pools: slots by pool. A task that names a pool that is not here is held back until it is.
        active: how many instances of a pipeline may run at the same time, by pipeline; others are not limited.
    """

    def __init__(self, pools: Mapping[str, int] | None = None, active: Mapping[str, int] | None = None) -> None:
        self._pools = {DEFAULT_POOL: DEFAULT_SLOTS, **(pools or {})}
        self._active = dict(active or {})
        #: Who waits, with the limit that he was parked by before, if any.
        self._heaps: dict[str, list[tuple[Waiting, Limit | None]]] = defaultdict(list)
        self._parked: dict[Limit, list[Waiting]] = defaultdict(list)
        self._used: dict[Limit, int] = defaultdict(int)
        self._running: dict[Place, Waiting] = {}
        self._ready: set[Place] = set()
        self._order = 0

    def add(self, run_id: int, pipeline: str, key: TaskKey, node: Node) -> None:
        """An instance has become ready; telling it twice is once."""
        place = (run_id, key)
        if place in self._ready or place in self._running:
            return
        self._order += 1
        self._ready.add(place)
        waiting = Waiting(-node.weight, self._order, place, pipeline, node)
        heapq.heappush(self._heaps[node.queue], (waiting, None))

    def occupy(self, run_id: int, pipeline: str, key: TaskKey, node: Node) -> None:
        """An instance runs already: a scheduler has taken over its run."""
        waiting = Waiting(-node.weight, 0, (run_id, key), pipeline, node)
        if waiting.place not in self._running:
            self._occupy(waiting)

    def discard(self, run_id: int, key: TaskKey) -> None:
        """An instance is ready no longer; it leaves its heap when it comes up."""
        self._ready.discard((run_id, key))

    def take(self, free: Mapping[str, int]) -> list[Place]:
        """Instances to start now, heaviest first within a queue.

        Args:
            free: how many workers of each queue wait for work.
        """
        taken: list[Place] = []
        for queue, count in free.items():
            heap = self._heaps[queue]
            aside: list[tuple[Limit, Waiting]] = []
            until = len(taken) + count
            while heap and len(taken) < until:
                waiting, origin = heapq.heappop(heap)
                full = self._full(waiting) if waiting.place in self._ready else None
                if full is not None:
                    aside.append((full, waiting))
                elif waiting.place in self._ready:
                    self._ready.remove(waiting.place)
                    self._occupy(waiting)
                    taken.append(waiting.place)
                    continue
                # What came free for this one is still there for another.
                if origin is not None:
                    self._unpark(origin)
            for full, waiting in aside:
                heapq.heappush(self._parked[full], waiting)
        return taken

    def release(self, run_id: int, key: TaskKey) -> None:
        """An instance runs no longer; who waited for what it occupied may go on."""
        waiting = self._running.pop((run_id, key), None)
        if waiting is None:
            return
        for limit, amount, _ in self._limits(waiting):
            self._used[limit] -= amount
            for _ in range(amount):
                self._unpark(limit)

    def resize(self, pool: str, slots: int) -> None:
        """A pool has another size; what runs in it goes on."""
        more = slots - self._pools.get(pool, 0)
        self._pools[pool] = slots
        for _ in range(min(more, len(self._parked.get(("pool", pool), ())))):
            self._unpark(("pool", pool))

    @property
    def pools(self) -> frozenset[str]:
        """Pools that there are."""
        return frozenset(self._pools)

    def limit(self, pipeline: str, active: int) -> None:
        """So many instances of a pipeline may run at the same time."""
        more = active - self._active.get(pipeline, active)
        self._active[pipeline] = active
        for _ in range(min(more, len(self._parked.get(("pipeline", pipeline), ())))):
            self._unpark(("pipeline", pipeline))

    def used(self, pool: str) -> int:
        """Slots of a pool that are taken."""
        return self._used[("pool", pool)]

    @property
    def ready(self) -> int:
        """Instances that wait for a worker."""
        return len(self._ready)

    @property
    def queues(self) -> list[str]:
        """Queues in which something waits."""
        return [queue for queue, heap in self._heaps.items() if heap]

    def _unpark(self, limit: Limit) -> None:
        """Look again at the heaviest of those that a limit held back."""
        parked = self._parked.get(limit)
        if parked:
            waiting = heapq.heappop(parked)
            heapq.heappush(self._heaps[waiting.node.queue], (waiting, limit))

    def _occupy(self, waiting: Waiting) -> None:
        self._running[waiting.place] = waiting
        for limit, amount, _ in self._limits(waiting):
            self._used[limit] += amount

    def _full(self, waiting: Waiting) -> Limit | None:
        """The first limit that has no room for it."""
        return next((li for li, amount, most in self._limits(waiting) if self._used[li] + amount > most), None)

    def _limits(self, waiting: Waiting) -> list[tuple[Limit, int, int]]:
        """What an instance counts against: the limit, how much it takes of it, and how much there is."""
        node, run_id = waiting.node, waiting.place[0]
        found: list[tuple[Limit, int, int]] = [(("pool", node.pool), node.slots, self._pools.get(node.pool, 0))]
        if waiting.pipeline in self._active:
            found.append((("pipeline", waiting.pipeline), 1, self._active[waiting.pipeline]))
        if node.limit is not None:
            found.append((("task", waiting.pipeline, node.id), 1, node.limit))
        if node.limit_in_run is not None:
            found.append((("task in run", str(run_id), node.id), 1, node.limit_in_run))
        return found
