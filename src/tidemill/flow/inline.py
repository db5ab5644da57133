"""Driving one run in this process, one task after another: breakpoints work, and nothing need be running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from tidemill.flow.scheduler import LEASE, RENEW_AFTER, Scheduler
from tidemill.model.definition import Definition
from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.graph import TaskKey
from tidemill.model.instance import Failed
from tidemill.model.place import told
from tidemill.model.run import RUN_ENDS, Run
from tidemill.ports.clock import Clock
from tidemill.ports.executor import Interrupted, Job, JobEnded, JobEvent, JobPlace, JobStarted, Perform
from tidemill.ports.metadata import Metadata
from tidemill.ports.runstore import DrivenRun, Progress, RunStore, Saved, Wish

#: How often it is looked whether a run that somebody else drives has ended, in seconds.
_LOOK_EVERY = 0.2


class InlineExecutor:
    """Port `executor` without workers: a job is performed when its events are asked for.

    While a task runs the loop stands still, so `drive` renews the run's lease beside it.
    """

    def __init__(self, perform: Perform, ended: Callable[[JobEnded], None] = lambda _: None) -> None:
        self._perform = perform
        self._ended = ended
        self._waiting: list[Job] = []
        self._told: list[JobEvent] = []

    def free(self, queues: Collection[str]) -> Mapping[str, int]:
        """One job at a time."""
        return dict.fromkeys(queues, 0 if self._waiting else 1)

    def submit(self, job: Job) -> None:
        """Keep it until its events are asked for."""
        if not self.has(job.run_id, job.key, job.number):
            self._waiting.append(job)

    def has(self, run_id: int, key: TaskKey, number: int) -> bool:
        """Whether the job is here."""
        here = [(one.run_id, one.key, one.number) for one in (*self._waiting, *self._told)]
        return (run_id, key, number) in here

    def renew(self, until: datetime, places: Collection[JobPlace] | None = None) -> None:
        """Nothing runs while this is called."""

    def stop(self, run_id: int, key: TaskKey) -> None:
        """A job that has not begun never does."""
        for job in [job for job in self._waiting if (job.run_id, job.key) == (run_id, key)]:
            self._waiting.remove(job)
            self._tell(job, Failed("It was stopped.", again=False))

    def events(self) -> Sequence[JobEvent]:
        """Perform what waits, and tell."""
        while self._waiting:
            job = self._waiting.pop(0)
            self._told.append(JobStarted(job.run_id, job.fence, job.key, job.number))
            try:
                outcome, report = self._perform(job)
            except Interrupted as stop:
                self._tell(job, Failed(told(stop), again=False))
                continue
            ended = JobEnded(job.run_id, job.fence, job.key, job.number, outcome, report)
            self._told.append(ended)
            self._ended(ended)
        return list(self._told)

    def acknowledge(self, events: Sequence[JobEvent]) -> None:
        """These need not be told again."""
        self._told = [one for one in self._told if one not in events]

    def handles(self) -> Sequence[int]:
        """Nothing happens elsewhere."""
        return ()

    def pause(self) -> float | None:
        """At once, where a job waits."""
        return 0.0 if self._waiting or self._told else None

    def _tell(self, job: Job, failed: Failed) -> None:
        self._told.append(JobEnded(job.run_id, job.fence, job.key, job.number, failed))


class _OneRun:
    """A run store in which only one run can be claimed."""

    def __init__(self, store: RunStore, run_id: int) -> None:
        self._store = store
        self._run_id = run_id

    def claim(self, holder: str, lease: timedelta, limit: int, *, only: int | None = None) -> list[DrivenRun]:
        return self._store.claim(holder, lease, limit, only=self._run_id)

    def renew(self, holder: str, lease: timedelta) -> datetime:
        return self._store.renew(holder, lease)

    def release(self, holder: str) -> None:
        self._store.release(holder)

    def driven(self, holder: str) -> list[DrivenRun]:
        return self._store.driven(holder)

    def save(self, progress: Iterable[Progress]) -> Saved:
        return self._store.save(progress)

    def room(self, holder: str) -> Mapping[str, int]:
        return self._store.room(holder)

    def cancelled(self, holder: str) -> frozenset[int]:
        return self._store.cancelled(holder)

    def wishes(self, holder: str) -> Sequence[Wish]:
        return self._store.wishes(holder)

    def past(self, run_ids: Iterable[int]) -> Mapping[int, frozenset[str]]:
        return self._store.past(run_ids)


def drive(
    metadata: Metadata,
    store: RunStore,
    clock: Clock,
    definition_of: Callable[[int], Definition],
    holder: str,
    run: Run,
    perform: Perform,
    ended: Callable[[JobEnded], None] = lambda _: None,
) -> Run:
    """Drive a queued run to its end, here, or wait for the scheduler that was quicker; returns how it ended.

    Args:
        metadata: the database.
        store: the runs in it.
        clock: the time.
        definition_of: a definition by its id.
        holder: this process.
        run: to drive.
        perform: what does a job.
        ended: is told of each try that has ended.
    """
    executor = InlineExecutor(perform, ended)
    scheduler = Scheduler(_OneRun(store, run.id), executor, clock, definition_of, holder)
    done = threading.Event()
    beat = threading.Thread(target=_renew, args=(store, holder, done), daemon=True, name=f"lease-{run.id}")
    beat.start()
    try:
        while True:
            pause = scheduler.turn()
            with metadata.read() as tx:
                now = tx.runs.get(run.id)
            assert now is not None
            if now.state in RUN_ENDS:
                return now
            if executor.pause() is not None:
                continue
            if scheduler.drives(run.id):
                clock.sleep(pause.total_seconds())
            else:
                clock.sleep(_LOOK_EVERY)
                scheduler.wake()
    finally:
        done.set()
        beat.join()


def _renew(store: RunStore, holder: str, done: threading.Event) -> None:
    """Keep the run while a task takes its time."""
    while not done.wait(RENEW_AFTER.total_seconds()):
        with suppress(Unreachable, Conflict):
            store.renew(holder, LEASE)
