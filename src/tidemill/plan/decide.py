"""What a run does next: the only place that decides. An event comes in, changes of task instances come out.

The work for an event is proportional to what is right below the task that it is about, never to the size of the run:
each task counts its upstreams as they end (`Tally`) instead of asking them. Nothing here knows of time, storage or
workers, so a simulator can drive it through any order of events.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tidemill.model.graph import WHOLE, Graph, Lengths, Node, TaskKey
from tidemill.model.instance import (
    Begun,
    Cancelled,
    Change,
    Cleared,
    Deferred,
    Dispatched,
    Due,
    Ended,
    Event,
    Failed,
    Instance,
    Lost,
    Marked,
    PastEnded,
    Rescheduled,
    Skipped,
    Started,
    Succeeded,
)
from tidemill.model.run import TASK_ENDS, RunState, TaskState, check_task_transition
from tidemill.plan.counts import Counts
from tidemill.plan.retry import wait_before
from tidemill.plan.trigger import Verdict

_T = TaskState
#: A try whose worker went away is begun again so often, and then counts as failed: a task that takes its worker down
#: each time must end.
MAX_LOST = 3
#: A mapped task has at most so many instances: more is most often a mistake, and each is a row.
MAX_MAPPED = 10_000
_WAITING = frozenset({_T.UP_FOR_RETRY, _T.UP_FOR_RESCHEDULE, _T.DEFERRED})
#: States in which a worker has the instance, or will have it.
LIVE = frozenset({_T.QUEUED, _T.RUNNING, _T.RESTARTING})


@dataclass(slots=True)
class Step:
    """What an event has led to.

    Args:
        changes: instances, in the order in which they changed.
        ready: instances that may be dispatched now.
        stop: instances whose workers shall be stopped.
        end: how the run ends, now that nothing is left to do: PUBLISHING where all went well, else FAILED, CANCELLED.
        stale: the event was about a try that is over; nothing has changed.
    """

    changes: list[Change] = field(default_factory=list)
    ready: list[TaskKey] = field(default_factory=list)
    stop: list[TaskKey] = field(default_factory=list)
    end: RunState | None = None
    stale: bool = False


class RunBook:
    """The instances of one run.

    Args:
        graph: its tasks.
        name: what tells the run from others, for the jitter of retries.
        found: instances as they were recorded, to go on with a run; empty for a new one.
        past: tasks that the run of the interval before has ended well, or "*" where there is none before.
    """

    def __init__(
        self, graph: Graph, name: str, found: Mapping[TaskKey, Instance] | None = None, *, past: Iterable[str] = ("*",)
    ) -> None:
        self.graph = graph
        self.name = name
        self.instances: dict[TaskKey, Instance] = {}
        self.cancelled = False
        self._past = set(past)
        self._counts = Counts(graph)
        self._open = 0
        self._bad_leaves = 0
        #: Tries of instances that were removed: should they come back, their tries are numbered on.
        self._begun: dict[TaskKey, int] = {}
        self._step = Step()
        #: Instances to judge before the event is done with. A queue, because a chain may be longer than the stack.
        self._todo: deque[TaskKey] = deque()
        for id_ in graph.nodes:
            self._put((id_, WHOLE), Instance())
        self._recall(found or {})

    @property
    def open(self) -> int:
        """Instances that have not ended."""
        return self._open

    def apply(self, event: Event, now: datetime) -> Step:
        """Take in an event.

        Raises:
            IllegalTransition: a defect of the caller: a `Dispatched` for what is not ready.
        """
        self._step = Step()
        if isinstance(event, Begun):
            self._todo += self.instances
            self._step.ready += [key for key, known in self.instances.items() if known.state is _T.SCHEDULED]
        elif isinstance(event, Dispatched):
            self._dispatched(event.key)
        elif isinstance(event, Started):
            if self._is_current(event.key, event.number, (_T.QUEUED,)):
                self._set(event.key, replace(self.instances[event.key], state=_T.RUNNING))
        elif isinstance(event, Ended):
            if self._is_current(event.key, event.number, (_T.QUEUED, _T.RUNNING)):
                self._ended(event, now)
        elif isinstance(event, Lost):
            if self._is_current(event.key, event.number, (_T.QUEUED, _T.RUNNING)):
                self._lost(event.key, event.alone, now)
        elif isinstance(event, Due):
            self._due(event.key)
        elif isinstance(event, PastEnded):
            self._past.add(event.task)
            if event.task in self.graph.nodes:
                for id_ in (event.task, *self.graph.nodes[event.task].upstream):
                    self._todo += self._counts.keys(id_)
        elif isinstance(event, Cleared):
            self._cleared(event.tasks)
        elif isinstance(event, Marked):
            self._mark(event.key, event.state)
        elif isinstance(event, Cancelled):
            self._cancel()
        while self._todo:
            self._judge(self._todo.popleft())
        if not self._open and not self._step.stale:
            self._step.end = self._end()
        return self._step

    # -- events

    def _is_current(self, key: TaskKey, number: int, states: tuple[TaskState, ...]) -> bool:
        known = self.instances.get(key)
        current = known is not None and known.tries == number and known.state in states
        self._step.stale = not current
        return current

    def _dispatched(self, key: TaskKey) -> None:
        known = self.instances[key]
        # A sensor that looks again, or a task whose worker went away, goes on with another try number all the same:
        # what the worker before may still report must not be taken for this one's.
        self._set(key, replace(known, state=_T.QUEUED, tries=known.tries + 1, due=None))

    def _ended(self, event: Ended, now: datetime) -> None:
        key, known, outcome = event.key, self.instances[event.key], event.outcome
        if known.state is _T.QUEUED:  # the report of the start was overtaken
            known = self._set(key, replace(known, state=_T.RUNNING))
        if isinstance(outcome, Succeeded):
            self._set(key, replace(known, state=_T.SUCCESS, length=outcome.length))
            for id_ in outcome.skip:
                self._skip(id_, key[1])
        elif isinstance(outcome, Skipped):
            self._set(key, replace(known, state=_T.SKIPPED))
        elif isinstance(outcome, Failed):
            self._failed(key, known, outcome, now)
        elif isinstance(outcome, Rescheduled):
            self._set(key, replace(known, state=_T.UP_FOR_RESCHEDULE, due=outcome.at))
        elif isinstance(outcome, Deferred):
            due = None if outcome.timeout is None else now + outcome.timeout
            self._set(key, replace(known, state=_T.DEFERRED, due=due, trigger=outcome.as_text()))

    def _failed(self, key: TaskKey, known: Instance, outcome: Failed, now: datetime) -> None:
        failed = known.failed + 1
        wait = wait_before(self.graph.nodes[key[0]].retry, failed, f"{self.name} {key} {failed}")
        if outcome.again and wait is not None and not self.cancelled:
            due = now + (wait if outcome.delay is None else outcome.delay)
            self._set(key, replace(known, state=_T.UP_FOR_RETRY, failed=failed, due=due), outcome.error)
        else:
            self._set(key, replace(known, state=_T.FAILED, failed=failed), outcome.error)

    def _lost(self, key: TaskKey, alone: bool, now: datetime) -> None:
        known = self.instances[key]
        lost = known.lost + alone
        if lost > MAX_LOST or self.cancelled:
            if known.state is _T.QUEUED:
                known = self._set(key, replace(known, state=_T.RUNNING))
            self._failed(key, replace(known, lost=lost), Failed(f"Its worker went away {lost} times."), now)
            return
        self._set(key, replace(known, state=_T.SCHEDULED, lost=lost), "Its worker went away.")
        self._step.ready.append(key)

    def _due(self, key: TaskKey) -> None:
        known = self.instances.get(key)
        if known is None or known.state not in _WAITING:
            self._step.stale = True
            return
        self._set(key, replace(known, state=_T.SCHEDULED, due=None, trigger=None))
        self._step.ready.append(key)

    def _cancel(self) -> None:
        self.cancelled = True
        for key, known in list(self.instances.items()):
            if known.state in LIVE:
                self._step.stop.append(key)
            elif known.state in _WAITING:
                self._set(key, replace(known, state=_T.FAILED, due=None), "The run was cancelled.")
            elif known.state not in TASK_ENDS:
                self._set(key, replace(known, state=_T.SKIPPED))

    def _cleared(self, tasks: tuple[str, ...]) -> None:
        chosen = frozenset(tasks) | self.graph.below(tasks)
        keys = [key for key in self.instances if key[0] in chosen]
        if any(self.instances[key].state in LIVE for key in keys):
            self._step.stale = True  # what a worker has cannot be taken from it: cancel, or wait
            return
        for key in keys:
            known = self.instances[key]
            if known.state is not _T.NONE:
                self._set(key, Instance(tries=known.tries))
        again = [id_ for id_ in chosen if self._counts.is_expanded(id_)]
        for id_ in again:
            self._collapse(id_)
        self._counts.collapse(again)
        self._todo += [key for id_ in chosen for key in self._counts.keys(id_)]

    def _mark(self, key: TaskKey, state: TaskState) -> None:
        known = self.instances.get(key)
        if known is None or known.state in LIVE:
            self._step.stale = True
            return
        if known.state is not _T.NONE:
            known = self._set(key, Instance(tries=known.tries))
        self._set(key, replace(known, state=state))

    # -- judging

    def _judge(self, key: TaskKey) -> None:
        known = self.instances.get(key)
        if known is None or known.state is not _T.NONE or self.cancelled:
            return
        node = self.graph.nodes[key[0]]
        if node.mapped is not None and key[1] == WHOLE and self._expand(node):
            return
        verdict = self._counts.verdict(key)
        if verdict is Verdict.SKIP:
            self._set(key, replace(known, state=_T.SKIPPED))
        elif verdict is Verdict.UPSTREAM_FAILED:
            self._set(key, replace(known, state=_T.UPSTREAM_FAILED))
        elif verdict is Verdict.RUN and not self._waits_for_past(node):
            if node.mapped is not None and key[1] == WHOLE:
                # Its rule lets it run, and what it is mapped over has not ended well: there is nothing to run.
                if self._sources_ended(node.mapped):
                    self._set(key, replace(known, state=_T.UPSTREAM_FAILED))
                return
            self._set(key, replace(known, state=_T.SCHEDULED))
            self._step.ready.append(key)

    def _waits_for_past(self, node: Node) -> bool:
        if not node.waits_for_past or "*" in self._past:
            return False
        needed = (node.id, *(self.graph.downstream[node.id] if node.waits_for_downstream else ()))
        return not self._past.issuperset(needed)

    def _skip(self, id_: str, index: int) -> None:
        """A task right after one that decided against it."""
        keys = [(id_, index)] if (id_, index) in self.instances else self._counts.keys(id_)
        for key in keys:
            if self.instances[key].state is _T.NONE:
                self._set(key, replace(self.instances[key], state=_T.SKIPPED))

    # -- mapping

    def _sources_ended(self, lengths: Lengths) -> bool:
        return all(
            self.instances[key].state in TASK_ENDS for source in lengths.sources for key in self._counts.keys(source)
        )

    def _length_of(self, source: str) -> int | None:
        """The length of a task's result; None where there is none yet, or there will be none."""
        if self._counts.is_expanded(source):
            states = [self.instances[key].state for key in self._counts.keys(source)]
            if any(state not in (_T.SUCCESS, _T.SKIPPED) for state in states):
                return None
            return states.count(_T.SUCCESS)
        known = self.instances[(source, WHOLE)]
        return known.length if known.state is _T.SUCCESS else None

    def _count(self, lengths: Lengths) -> int | None:
        """How many instances there will be; None where it is not known."""
        count = 1
        for known in lengths.known:
            count *= known
        for task in lengths.tasks:
            length = self._length_of(task)
            if length is None:
                return None
            count *= length
        ways: list[tuple[tuple[str, ...], Callable[[list[int]], int]]]
        ways = [(group, max if lengths.longest else min) for group in lengths.zipped]
        ways += [(group, sum) for group in lengths.summed]
        for group, way in ways:
            sizes = [size for task in group if (size := self._length_of(task)) is not None]
            if len(sizes) < len(group):
                return None
            count *= way(sizes)
        return count

    def _expand(self, node: Node) -> bool:
        """Make the instances of a mapped task, and of all in its scope, once their number is known."""
        assert node.mapped is not None
        count = self._count(node.mapped)
        if count is None:
            return False
        together = [node]
        if node.scope is not None:
            together = [n for n in self.graph.nodes.values() if n.scope == node.scope]
        together = [n for n in together if self._is_whole(n.id)]
        if not count or count > MAX_MAPPED:
            for each in together:
                state = _T.FAILED if count else _T.SKIPPED
                self._set((each.id, WHOLE), Instance(state), _too_many(count) if count else None)
            return True
        for each in together:
            self._spread(each.id, count)
        self._counts.expand((each.id, count) for each in together)
        self._todo += [key for each in together for key in self._counts.keys(each.id)]
        return True

    def _is_whole(self, id_: str) -> bool:
        known = self.instances.get((id_, WHOLE))
        return known is not None and known.state is _T.NONE

    def _spread(self, id_: str, count: int) -> None:
        """Replace the whole of a task by `count` instances."""
        del self.instances[(id_, WHOLE)]
        self._open -= 1
        for index in range(count):
            made = Instance(tries=self._begun.get((id_, index), 0))
            self._put((id_, index), made)
            self._step.changes.append(Change((id_, index), None, made))

    def _collapse(self, id_: str) -> None:
        """Take back an expansion: what it is mapped over may have another length the next time."""
        for key in self._counts.keys(id_):
            known = self.instances.pop(key)
            self._open -= 1
            self._begun[key] = known.tries
            self._step.changes.append(Change(key, known, replace(known, state=_T.REMOVED)))
        self._put((id_, WHOLE), Instance())

    # -- the record

    def _put(self, key: TaskKey, instance: Instance) -> None:
        self.instances[key] = instance
        self._open += instance.state not in TASK_ENDS

    def _set(self, key: TaskKey, after: Instance, error: str | None = None) -> Instance:
        """Change an instance; what is below it counts that, and is judged anew."""
        before = self.instances[key]
        check_task_transition(before.state, after.state)
        self.instances[key] = after
        self._step.changes.append(Change(key, before, after, error))
        was, ended = before.state in TASK_ENDS, after.state in TASK_ENDS
        if was != ended:
            self._open += -1 if ended else 1
        if was or ended:
            self._tell(key, before.state if was else None, after.state if ended else None)
        return after

    def _tell(self, key: TaskKey, before: TaskState | None, after: TaskState | None) -> None:
        if key[0] in self.graph.leaves:
            bad = (_T.FAILED, _T.UPSTREAM_FAILED)
            self._bad_leaves += (after in bad) - (before in bad)
        self._todo += self._counts.tell(key, before, after)
        if after is not None:
            self._todo += [(mapped, WHOLE) for mapped in self.graph.mapped_over[key[0]]]

    def _end(self) -> RunState:
        if self.cancelled:
            return RunState.CANCELLED
        return RunState.FAILED if self._bad_leaves else RunState.PUBLISHING

    def _recall(self, found: Mapping[TaskKey, Instance]) -> None:
        """Take over recorded instances: expanded tasks first, then the ends, counted without judging anything."""
        counts: dict[str, int] = {}
        for (id_, index), instance in found.items():
            if instance.state is _T.REMOVED:
                self._begun[(id_, index)] = instance.tries
            elif id_ in self.graph.nodes and index != WHOLE:
                counts[id_] = max(counts.get(id_, 0), index + 1)
        for id_, count in counts.items():
            self._spread(id_, count)
        self._counts.expand(counts.items())
        for key, instance in found.items():
            if key in self.instances and instance.state is not _T.REMOVED:
                self.instances[key] = instance
                if instance.state in TASK_ENDS:
                    self._open -= 1
                    self._tell(key, None, instance.state)
        self._todo.clear()
        self._step = Step()


def _too_many(count: int) -> str:
    return f"It is mapped over {count:,} values; at most {MAX_MAPPED:,} make instances."
