"""The scheduler's loop: it drives runs by the book and never decides anything itself.

    events of workers, timers, cancellations -> books (plan.decide) -> who gets a worker (plan.dispatch)
                                                                             |
                            workers  <-  after that  <-  one transaction  <--'

Everything that is decided in a turn is recorded before anything of it happens. If the record fails, it is not known
what was written: the books are thrown away and read again, and the events, which workers' ends stay until they are
acknowledged, come again; those that had been recorded are recognised by the numbers of their tries.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.graph import Graph, TaskKey
from tidemill.model.instance import Begun, Cancelled, Change, Dispatched, Due, Ended, Event, Lost, Started
from tidemill.model.run import RunState, TaskState
from tidemill.plan.decide import LIVE, RunBook
from tidemill.plan.dispatch import Dispatcher, Place
from tidemill.ports.clock import Clock
from tidemill.ports.executor import Executor, Job, JobEvent, JobStarted
from tidemill.ports.runstore import DrivenRun, PoolFull, Progress, RunStore

#: How long a scheduler is believed to drive its runs without a sign of life, and when it gives one.
LEASE = timedelta(seconds=15)
RENEW_AFTER = timedelta(seconds=5)
#: The loop looks at the store at least so often, whatever wakes it otherwise.
POLL = timedelta(seconds=5)
#: Runs that one scheduler drives at the same time.
MOST_RUNS = 1_000


@dataclass(slots=True)
class _Driven:
    """A run in hand: its book, and what was decided in this turn and is not recorded yet."""

    run: DrivenRun
    book: RunBook
    changes: list[Change] = field(default_factory=list)
    stop: list[TaskKey] = field(default_factory=list)
    end: RunState | None = None


class Scheduler:
    """Drives runs; call `turn` again and again, at the latest after the time that it returns.

    Args:
        store: the runs.
        executor: the workers.
        clock: the time, for what is due; leases go by the store's.
        graph_of: the graph of a run, by the version that it began with.
        holder: this scheduler's name, unique for its life.
    """

    def __init__(
        self,
        store: RunStore,
        executor: Executor,
        clock: Clock,
        graph_of: Callable[[DrivenRun], Graph],
        holder: str,
    ) -> None:
        self._store = store
        self._executor = executor
        self._clock = clock
        self._graph_of = graph_of
        self._holder = holder
        self._known = False
        self._renewed: datetime | None = None
        self._until = clock.now()
        self._forget()

    def _forget(self) -> None:
        """Drop all that is only in memory."""
        self._runs: dict[int, _Driven] = {}
        self._dispatcher = Dispatcher()
        self._touched: set[int] = set()
        self._timers: list[tuple[datetime, int, TaskKey]] = []

    def turn(self) -> timedelta:
        """Do what is to be done now; returns how long nothing will be due, unless something wakes the loop.

        A store that does not answer is asked again in the next turn; whatever runs goes on.
        """
        try:
            self._turn()
        except (Unreachable, Conflict, PoolFull):
            self._forget()
            self._known = False
        return self._pause()

    def _turn(self) -> None:
        now = self._clock.now()
        self._sign_of_life(now)
        if not self._known:
            for run in self._store.driven(self._holder):
                self._take_over(run, now)
            self._known = True
        for pool, slots in self._store.room(self._holder).items():
            self._dispatcher.resize(pool, slots)
        if len(self._runs) < MOST_RUNS:
            for run in self._store.claim(self._holder, LEASE, MOST_RUNS - len(self._runs)):
                self._take_over(run, now)
        for run_id in self._store.cancelled(self._holder):
            if run_id in self._runs and not self._runs[run_id].book.cancelled:
                self._apply(self._runs[run_id], Cancelled(), now)
        seen = self._executor.events()
        for event in seen:
            self._take_in(event, now)
        self._ring(now)
        jobs = self._dispatch(now)
        self._record()
        self._executor.acknowledge(seen)
        for job in jobs:
            if job.run_id in self._runs:
                self._executor.submit(job)
        self._carry_out()

    def _sign_of_life(self, now: datetime) -> None:
        if self._renewed is None or not timedelta(0) <= now - self._renewed < RENEW_AFTER:
            self._until = self._store.renew(self._holder, LEASE)
            self._executor.renew(self._until)
            self._renewed = now

    # -- taking in

    def _take_over(self, run: DrivenRun, now: datetime) -> None:
        """Drive a run from now on: a new one from its beginning, another from where its record ends.

        A run that is in hand already comes again where another scheduler had it for a while, unnoticed here: what is
        known of it is old, and its workers' writes are refused by now.
        """
        if run.id in self._runs:
            if self._runs[run.id].run.fence == run.fence:
                return
            self._drop(run.id)
        book = RunBook(self._graph_of(run), f"run {run.id}", run.instances)
        driven = self._runs[run.id] = _Driven(run, book)
        for key, instance in list(book.instances.items()):
            if instance.state in LIVE:
                self._dispatcher.occupy(run.id, run.pipeline, key, book.graph.nodes[key[0]])
            if instance.due is not None:
                heapq.heappush(self._timers, (instance.due, run.id, key))
        self._apply(driven, Begun(), now)
        for key, instance in list(book.instances.items()):
            if instance.state in LIVE and not self._executor.has(run.id, key, instance.tries):
                self._apply(driven, Lost(key, instance.tries), now)
        if run.cancel:
            self._apply(driven, Cancelled(), now)

    def _take_in(self, event: JobEvent, now: datetime) -> None:
        driven = self._runs.get(event.run_id)
        if driven is None:
            return
        current = event.fence == driven.run.fence
        if isinstance(event, JobStarted):
            if current:
                self._apply(driven, Started(event.key, event.number), now)
        elif event.outcome is None or not current:
            self._apply(driven, Lost(event.key, event.number), now)
        else:
            self._apply(driven, Ended(event.key, event.number, event.outcome), now)

    def _ring(self, now: datetime) -> None:
        """Tell the books of waits that are over."""
        while self._timers and self._timers[0][0] <= now:
            due, run_id, key = heapq.heappop(self._timers)
            driven = self._runs.get(run_id)
            known = driven.book.instances.get(key) if driven is not None else None
            if driven is not None and known is not None and known.due == due:
                self._apply(driven, Due(key), now)

    def _apply(self, driven: _Driven, event: Event, now: datetime) -> None:
        step = driven.book.apply(event, now)
        run = driven.run
        self._touched.add(run.id)
        for change in step.changes:
            driven.changes.append(change)
            key, after = change.key, change.after
            before = None if change.before is None else change.before.state
            if before in LIVE and after.state not in LIVE:
                self._dispatcher.release(run.id, key)
            elif before is TaskState.SCHEDULED and after.state is not TaskState.QUEUED:
                self._dispatcher.discard(run.id, key)
            if after.due is not None:
                heapq.heappush(self._timers, (after.due, run.id, key))
        for key in step.ready:
            self._dispatcher.add(run.id, run.pipeline, key, driven.book.graph.nodes[key[0]])
        driven.stop += step.stop
        driven.end = step.end or driven.end

    def _dispatch(self, now: datetime) -> list[Job]:
        jobs: list[Job] = []
        for run_id, key in self._takeable():
            driven = self._runs[run_id]
            self._apply(driven, Dispatched(key), now)
            node = driven.book.graph.nodes[key[0]]
            number = driven.book.instances[key].tries
            jobs.append(Job(run_id, driven.run.fence, key, number, node.queue, self._until))
        return jobs

    def _takeable(self) -> list[Place]:
        return self._dispatcher.take(self._executor.free(self._dispatcher.queues))

    # -- recording, and what may happen then

    def _record(self) -> None:
        touched = [(run_id, self._runs[run_id]) for run_id in sorted(self._touched)]
        progress = [
            Progress(run_id, driven.run.fence, tuple(driven.changes), driven.end)
            for run_id, driven in touched
            if driven.changes or driven.end is not None
        ]
        for run_id in self._store.save(progress) if progress else ():
            self._drop(run_id)

    def _carry_out(self) -> None:
        for run_id in sorted(self._touched & self._runs.keys()):
            driven = self._runs[run_id]
            for key in driven.stop:
                self._executor.stop(run_id, key)
            driven.changes, driven.stop = [], []
            if driven.end is not None:
                del self._runs[run_id]
        self._touched.clear()

    def _drop(self, run_id: int) -> None:
        """Another scheduler drives the run: what was decided here does not count, and its workers here shall stop."""
        driven = self._runs.pop(run_id)
        for key, instance in driven.book.instances.items():
            if instance.state in LIVE:
                self._dispatcher.release(run_id, key)
                self._executor.stop(run_id, key)
            self._dispatcher.discard(run_id, key)

    def _pause(self) -> timedelta:
        now = self._clock.now()
        due = self._timers[0][0] - now if self._timers else POLL
        return max(min(due, POLL, RENEW_AFTER), timedelta(0))
