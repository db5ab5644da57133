"""Counts of upstream instances: what lets a task be judged at the same cost however many are before it."""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.model.graph import WHOLE, Graph, Node, TaskKey
from tidemill.model.run import TaskState
from tidemill.plan.trigger import Tally, Verdict, judge


class Counts:
    """For each task of a run: how many instances it has, and how those before it have ended.

    Instances of two tasks that were expanded in one scope depend on each other index by index; any other task depends
    on all instances of those before it.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        #: Numbers of instances of tasks that are expanded.
        self._expanded: dict[str, int] = {}
        #: What counts for all instances of a task, and for one index only.
        self._all = {id_: Tally() for id_ in graph.nodes}
        self._own: dict[TaskKey, Tally] = {}
        for id_ in graph.nodes:
            self._recount(id_)

    def keys(self, id_: str) -> list[TaskKey]:
        """The instances of a task: itself as a whole until it is expanded."""
        count = self._expanded.get(id_)
        return [(id_, WHOLE)] if count is None else [(id_, index) for index in range(count)]

    def is_expanded(self, id_: str) -> bool:
        """Whether a mapped task has its instances."""
        return id_ in self._expanded

    def expand(self, counts: Iterable[tuple[str, int]]) -> None:
        """Give tasks their numbers of instances, those of one scope in one call."""
        changed: dict[str, None] = {}
        for id_, count in counts:
            self._expanded[id_] = count
            changed |= dict.fromkeys((id_, *self._graph.downstream[id_]))
        for id_ in changed:
            self._recount(id_)

    def collapse(self, ids: Iterable[str]) -> None:
        """Take back expansions, of tasks none of whose instances has ended or counts as ended."""
        changed: dict[str, None] = {}
        for id_ in ids:
            for key in self.keys(id_):
                self._own.pop(key, None)
            del self._expanded[id_]
            changed |= dict.fromkeys((id_, *self._graph.downstream[id_]))
        for id_ in changed:
            self._recount(id_)

    def verdict(self, key: TaskKey) -> Verdict:
        """What the trigger rule of an instance makes of what is before it."""
        tally = self._all[key[0]]
        own = self._own.get(key)
        return judge(self._graph.nodes[key[0]].rule, tally if own is None else tally.plus(own))

    def tell(self, key: TaskKey, before: TaskState | None, after: TaskState | None) -> list[TaskKey]:
        """Count that an instance has ended, or no longer has.

        Args:
            key: the instance.
            before: the end that counted; None if none did.
            after: the end that counts now, or None.

        Returns:
            The instances of which that may decide something.
        """
        affected: list[TaskKey] = []
        setup = self._graph.nodes[key[0]].setup
        for below in self._graph.downstream[key[0]]:
            paired = self._pairs(key[0], below)
            tally = self._own[(below, key[1])] if paired else self._all[below]
            if before is not None:
                tally.count(before, -1, setup=setup)
            if after is not None:
                tally.count(after, 1, setup=setup)
            affected += [(below, key[1])] if paired else self._of_all(below, tally)
        return affected

    def _of_all(self, id_: str, tally: Tally) -> list[TaskKey]:
        """The instances of a task after a count that holds for all; one look is enough where they have no other."""
        keys = self.keys(id_)
        alone = keys[0] not in self._own
        return [] if alone and judge(self._graph.nodes[id_].rule, tally) is Verdict.WAIT else keys

    def _pairs(self, above: str, below: str) -> bool:
        scope = self._graph.nodes[above].scope
        expanded = above in self._expanded and below in self._expanded
        return scope is not None and expanded and scope == self._graph.nodes[below].scope

    def _recount(self, id_: str) -> None:
        """How many there are before a task; how they ended stays, for what is expanded has not ended."""
        tally = self._all[id_]
        tally.total = tally.setups = 0
        paired: list[Node] = []
        for above in dict.fromkeys(self._graph.nodes[id_].upstream):
            node = self._graph.nodes[above]
            if self._pairs(above, id_):
                paired.append(node)
            else:
                count = self._expanded.get(above, 1)
                tally.total += count
                tally.setups += count if node.setup else 0
        for key in self.keys(id_) if paired else ():
            own = self._own.setdefault(key, Tally())
            own.total, own.setups = len(paired), sum(node.setup for node in paired)
