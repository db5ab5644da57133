"""The scheduler's loop: it drives runs by the book and never decides anything itself.

    events of workers, timers, wishes of people -> books (plan.decide) -> who gets a worker (plan.dispatch)
                                                                             |
                            workers  <-  after that  <-  one transaction  <--'

Everything that is decided in a turn is recorded before anything of it happens. If the record fails, it is not known
what was written: the books are thrown away and read again, and the events, which workers' ends stay until they are
acknowledged, come again; those that had been recorded are recognised by the numbers of their tries.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from tidemill.flow.driving import Driven
from tidemill.model.definition import Definition
from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.graph import WHOLE, TaskKey
from tidemill.model.instance import Begun, Cancelled, Dispatched, Due, Ended, Event, Failed, Lost, PastEnded, Started
from tidemill.model.run import RunState, TaskState
from tidemill.plan.decide import LIVE, MAX_LOST
from tidemill.plan.dispatch import Dispatcher
from tidemill.ports.clock import Clock
from tidemill.ports.executor import PUBLISH, Executor, Job, JobEnded, JobEvent, JobStarted
from tidemill.ports.runstore import DrivenRun, PoolFull, RunStore

_log = logging.getLogger("tidemill")

#: How long a scheduler is believed to drive its runs without a sign of life, and when it gives one.
LEASE = timedelta(seconds=15)
RENEW_AFTER = timedelta(seconds=5)
#: The loop looks at the store at least so often, whatever wakes it otherwise.
POLL = timedelta(seconds=5)
#: Runs that one scheduler drives at the same time.
MOST_RUNS = 1_000
#: A try that has started is recorded with the next decision, or after this: most tries of a short task end before,
#: and one transaction does for both.
PATIENCE = timedelta(milliseconds=50)
#: The key of the timer of a run as a whole: no task has an empty id.
_RUN: TaskKey = ("", WHOLE)


class Scheduler:
    """Drives runs; call `turn` again and again, at the latest after the time that it returns.

    Args:
        store: the runs.
        executor: the workers.
        clock: the time, for what is due; leases go by the store's.
        definition_of: a definition by its id.
        holder: this scheduler's name, unique for its life.
    """

    def __init__(
        self,
        store: RunStore,
        executor: Executor,
        clock: Clock,
        definition_of: Callable[[int], Definition],
        holder: str,
    ) -> None:
        self._store = store
        self._executor = executor
        self._clock = clock
        self._definition_of = definition_of
        self._holder = holder
        self._renewed: datetime | None = None
        self._until = clock.now()
        #: No new run is taken on, and nothing more is handed to workers: the scheduler is about to stop.
        self.draining = False
        #: A run has ended since somebody set this back: what waited for it may be asked for.
        self.has_ended = False
        #: Something was recorded that others wait for: a task was deferred, a run has ended.
        self.news = False
        self._forget()

    def _forget(self) -> None:
        """Drop all that is only in memory."""
        self._known = False
        self._runs: dict[int, Driven] = {}
        self._dispatcher = Dispatcher()
        self._touched: set[int] = set()
        self._timers: list[tuple[datetime, int, TaskKey]] = []
        self._held_since: datetime | None = None
        self.wake()

    def wake(self) -> None:
        """Look at the store in the next turn: somebody has changed something there."""
        self._looked: datetime | None = None

    def drives(self, run_id: int) -> bool:
        """Whether it has a run in hand."""
        return run_id in self._runs

    @property
    def idle(self) -> bool:
        """True where nothing is with a worker and everything is recorded."""
        return not self._touched and not any(driven.busy for driven in self._runs.values())

    def release(self) -> None:
        """Give up all runs, so that another scheduler need not wait until the leases are over."""
        self._store.release(self._holder)
        self._forget()

    def turn(self) -> timedelta:
        """Do what is to be done now; returns how long nothing will be due, unless something wakes the loop.

        A store that does not answer is asked again in the next turn; whatever runs goes on.
        """
        try:
            self._turn()
        except (Unreachable, Conflict, PoolFull):
            self._forget()
        return self._pause()

    def _turn(self) -> None:
        now = self._clock.now()
        self._sign_of_life(now)
        if self._looked is None or not timedelta(0) <= now - self._looked < POLL:
            self._look(now)
            self._looked = now
        seen = self._executor.events()
        for event in seen:
            self._take_in(event, now)
        self._ring(now)
        jobs = [] if self.draining else self._dispatch(now)
        if self._may_wait(now):
            self._executor.acknowledge([event for event in seen if isinstance(event, JobStarted)])
            return
        jobs += self._record(now)
        self._executor.acknowledge(seen)
        for job in jobs:
            if job.run_id in self._runs:
                self._executor.submit(job)
        self._carry_out()

    def _look(self, now: datetime) -> None:
        """See what others have changed in the store: new and abandoned runs, pools, wishes."""
        for pool, slots in self._store.room(self._holder).items():
            self._dispatcher.resize(pool, slots)
        if not self._known:
            for run in self._store.driven(self._holder):
                self._take_over(run, now)
            self._known = True
        if len(self._runs) < MOST_RUNS and not self.draining:
            for run in self._store.claim(self._holder, LEASE, MOST_RUNS - len(self._runs)):
                self._take_over(run, now)
        for run_id in self._store.cancelled(self._holder):
            if run_id in self._runs:
                self._cancel(self._runs[run_id], now)
        for wish in self._store.wishes(self._holder):
            driven = self._runs.get(wish.run_id)
            if driven is not None and wish.id not in driven.wishes:
                driven.wishes.append(wish.id)
                self._apply(driven, wish.event, now)
        self._look_at_the_past(now)

    def _look_at_the_past(self, now: datetime) -> None:
        waiting = [run_id for run_id, driven in self._runs.items() if driven.waits_for_past]
        if waiting:
            for run_id, ended in self._store.past(waiting).items():
                for task in sorted(ended - self._runs[run_id].past):
                    self._runs[run_id].past.add(task)
                    self._apply(self._runs[run_id], PastEnded(task), now)

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
        definition = self._definition_of(run.definition_id)
        driven = self._runs[run.id] = Driven(run, definition)
        for pool in {node.pool for node in definition.graph.nodes.values()} - self._dispatcher.pools:
            _log.warning(
                "Tasks of %s wait for pool %s, which nobody has declared: [pools] %s = 4", definition.name, pool, pool
            )
        if definition.max_active_tasks is not None:
            self._dispatcher.limit(definition.name, definition.max_active_tasks)
        if run.publishing:
            tries = range(MAX_LOST + 1, 0, -1)
            driven.publishes = next((n for n in tries if self._executor.has(run.id, PUBLISH, _number(run, n))), 0)
            if not driven.publishes:
                self._executor.submit(self._publish_job(driven))
            return
        book = driven.book
        for key, instance in list(book.instances.items()):
            if instance.state in LIVE:
                self._dispatcher.occupy(run.id, driven.name, key, driven.node(key))
            if instance.due is not None:
                heapq.heappush(self._timers, (instance.due, run.id, key))
        if definition.run_timeout is not None:
            heapq.heappush(self._timers, (run.started_at + definition.run_timeout, run.id, _RUN))
        self._apply(driven, Begun(), now)
        for key, instance in list(book.instances.items()):
            if instance.state in LIVE and not self._executor.has(run.id, key, instance.tries):
                self._apply(driven, Lost(key, instance.tries, alone=False), now)
        if run.cancel:
            self._cancel(driven, now)

    def _take_in(self, event: JobEvent, now: datetime) -> None:
        driven = self._runs.get(event.run_id)
        if driven is None:
            return
        current = event.fence == driven.run.fence
        if event.key == PUBLISH:
            if current and isinstance(event, JobEnded):
                self._publish_ended(driven, event)
        elif isinstance(event, JobStarted):
            if current:
                self._apply(driven, Started(event.key, event.number), now)
        elif event.outcome is None or not current:
            self._apply(driven, Lost(event.key, event.number, alone=current), now)
        elif self._apply(driven, Ended(event.key, event.number, event.outcome), now):
            driven.reports.append((event.key, event.number, event.report))

    def _publish_ended(self, driven: Driven, event: JobEnded) -> None:
        """A worker has published a run, has ended it because it could not be, or went away in the middle of that."""
        if event.number != _number(driven.run, driven.publishes):
            return
        if event.outcome is None and driven.publishes <= MAX_LOST:
            driven.publish_again = True
        elif event.outcome is None or (isinstance(event.outcome, Failed) and event.outcome.again):
            # It is open whether the worker has ended the run. If it has, this is refused, like any late write.
            driven.end = RunState.FAILED
            driven.error = event.outcome.error if event.outcome else "The worker that published it went away each time."
        else:
            del self._runs[event.run_id]
            self._has_ended()
            return
        self._touched.add(event.run_id)

    def _ring(self, now: datetime) -> None:
        """Tell the books of waits that are over."""
        while self._timers and self._timers[0][0] <= now:
            due, run_id, key = heapq.heappop(self._timers)
            driven = self._runs.get(run_id)
            if driven is None or driven.publishes:
                continue
            if key == _RUN:
                driven.timed_out = True
                self._cancel(driven, now)
                continue
            known = driven.book.instances.get(key)
            if known is not None and known.due == due:
                self._apply(driven, Due(key), now)

    def _cancel(self, driven: Driven, now: datetime) -> None:
        if not driven.book.cancelled and not driven.publishes:
            self._apply(driven, Cancelled(), now)

    def _apply(self, driven: Driven, event: Event, now: datetime) -> bool:
        """Decide by an event; False where it came too late to matter."""
        step = driven.book.apply(event, now)
        run_id = driven.run.id
        if step.changes or step.stop or step.end is not None:
            self._touched.add(run_id)
        for change in step.changes:
            driven.note(change)
            key, after = change.key, change.after
            before = None if change.before is None else change.before.state
            if before in LIVE and after.state not in LIVE:
                self._dispatcher.release(run_id, key)
            elif before is TaskState.SCHEDULED and after.state is not TaskState.QUEUED:
                self._dispatcher.discard(run_id, key)
            if after.due is not None:
                heapq.heappush(self._timers, (after.due, run_id, key))
        for key in step.ready:
            self._dispatcher.add(run_id, driven.name, key, driven.node(key))
        driven.stop += step.stop
        if step.end is not None:
            driven.end = step.end
        return not step.stale

    # -- handing out

    def _dispatch(self, now: datetime) -> list[Job]:
        jobs: list[Job] = []
        for run_id, key in self._dispatcher.take(self._executor.free(self._dispatcher.queues)):
            driven = self._runs[run_id]
            self._apply(driven, Dispatched(key), now)
            node = driven.node(key)
            known, run = driven.book.instances[key], driven.run
            jobs.append(
                Job(run_id, run.fence, key, known.tries, node.queue, self._until, node.timeout, run.info, known.failed)
            )
        return jobs

    def _publish_job(self, driven: Driven) -> Job:
        driven.publishes += 1
        driven.publish_again = False
        run = driven.run
        number = _number(run, driven.publishes)
        return Job(run.id, run.fence, PUBLISH, number, "default", self._until, None, run.info)

    # -- recording, and what may happen then

    def _may_wait(self, now: datetime) -> bool:
        """Whether all that there is to record are starts of tries, which can be written with what comes next."""
        urgent = any(self._runs[run_id].urgent for run_id in self._touched)
        if urgent or not self._touched:
            self._held_since = None
            return False
        if self._held_since is None:
            self._held_since = now
        return timedelta(0) <= now - self._held_since < PATIENCE

    def _record(self, now: datetime) -> list[Job]:
        """Write what was decided; returns jobs that publish runs."""
        self._held_since = None
        touched = [self._runs[run_id] for run_id in sorted(self._touched)]
        progress = [driven.progress(now) for driven in touched if driven.changed]
        again = [self._publish_job(driven) for driven in touched if driven.publish_again]
        if not progress:
            return again
        saved = self._store.save(progress)
        self.news = self.news or any(driven.defers for driven in touched)
        for run_id in saved.lost:
            self._drop(run_id)
        for run_id in saved.publish:
            driven = self._runs[run_id]
            driven.run = replace(driven.run, publishing=True)
            again.append(self._publish_job(driven))
        if any(driven.end is not None for driven in touched):
            self._has_ended()
        return again

    def _carry_out(self) -> None:
        for run_id in sorted(self._touched & self._runs.keys()):
            driven = self._runs[run_id]
            for key in driven.stop:
                self._executor.stop(run_id, key)
            ended = driven.end is not None and not driven.publishes
            driven.recorded()
            if ended:
                del self._runs[run_id]
        self._touched.clear()

    def _has_ended(self) -> None:
        """A run has ended: what waited for that may begin."""
        self.has_ended = self.news = True
        self.wake()

    def _drop(self, run_id: int) -> None:
        """Another scheduler drives the run: what was decided here does not count, and its workers here shall stop."""
        driven = self._runs.pop(run_id)
        if driven.publishes:
            self._executor.stop(run_id, PUBLISH)
        for key, instance in driven.book.instances.items():
            if instance.state in LIVE:
                self._dispatcher.release(run_id, key)
                self._executor.stop(run_id, key)
            self._dispatcher.discard(run_id, key)

    def _pause(self) -> timedelta:
        now = self._clock.now()
        due = self._timers[0][0] - now if self._timers else POLL
        if self._held_since is not None:
            due = min(due, self._held_since + PATIENCE - now)
        if self._looked is None:
            return timedelta(0) if self._known else timedelta(seconds=1)
        return max(min(due, POLL, RENEW_AFTER), timedelta(0))


def _number(run: DrivenRun, publishes: int) -> int:
    """The number of a job that publishes a run: never one that was given out under another fence."""
    return run.fence * (MAX_LOST + 2) + publishes
