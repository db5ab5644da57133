"""The surroundings of a simulated scheduler: a store, connections to it that break, workers that die or lag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.graph import WHOLE, Graph, TaskKey
from tidemill.model.instance import Failed, Instance, Outcome
from tidemill.model.run import TASK_ENDS, RunInfo, RunState, TaskState, check_task_transition
from tidemill.ports.executor import PUBLISH, Job, JobEnded, JobEvent, JobStarted
from tidemill.ports.runstore import DrivenRun, PoolFull, Progress, Saved, Wish

if TYPE_CHECKING:
    from harness.simulation import World

_LIVE = frozenset({TaskState.QUEUED, TaskState.RUNNING, TaskState.RESTARTING})
POOLS = {"default": 4, "small": 1, "two": 2}


class Violation(AssertionError):
    """An invariant does not hold."""


# -- the store


@dataclass
class StoredRun:
    """A run as the store has it; `tables`: a worker publishes it."""

    id: int
    graph: Graph
    tables: bool = False
    publishing: bool = False
    instances: dict[TaskKey, Instance] = field(default_factory=dict)
    fence: int = 0
    holder: str | None = None
    until: datetime | None = None
    cancel: bool = False
    end: RunState | None = None
    ends: int = 0


class SimStore:
    """Runs in memory, for all schedulers of a world. Faults are injected before and after a call takes effect."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.runs: dict[int, StoredRun] = {}
        self._fences = 0

    def view(self) -> StoreView:
        """The store as one scheduler sees it."""
        return StoreView(self, self._world)

    def claim(self, holder: str, lease: timedelta, limit: int, *, only: int | None = None) -> list[DrivenRun]:
        now = self._world.now
        free = [
            run
            for run in self.runs.values()
            if run.end is None and run.holder != holder and (run.until is None or run.until <= now)
        ]
        for run in free[:limit]:
            self._world.check_takeover(run)
            self._fences += 1
            run.fence, run.holder, run.until = self._fences, holder, now + lease
        return [self._driven(run) for run in free[:limit]]

    def renew(self, holder: str, lease: timedelta) -> datetime:
        until = self._world.now + lease
        for run in self.runs.values():
            if run.holder == holder and run.end is None:
                run.until = until
        return until

    def driven(self, holder: str) -> list[DrivenRun]:
        return [self._driven(run) for run in self.runs.values() if run.holder == holder and run.end is None]

    def cancelled(self, holder: str) -> frozenset[int]:
        return frozenset(r.id for r in self.runs.values() if r.holder == holder and r.cancel and r.end is None)

    def room(self, holder: str) -> Mapping[str, int]:
        used = self._used(run for run in self.runs.values() if run.holder != holder)
        return {pool: slots - used[pool] for pool, slots in POOLS.items()}

    def release(self, holder: str) -> None:
        for run in self.runs.values():
            if run.holder == holder:
                run.holder, run.until = None, None

    def wishes(self, holder: str) -> list[Wish]:
        return []

    def past(self, run_ids: Iterable[int]) -> Mapping[int, frozenset[str]]:
        return {}

    def publish(self, job: Job) -> None:
        """What a worker does to publish a run: one transaction, which checks the fence."""
        run = self.runs[job.run_id]
        if "publishes unfenced" not in self._world.bugs and (run.fence != job.fence or run.end is not None):
            self._world.coverage["a publish is refused"] += 1
            return
        if not run.publishing:
            raise Violation(f"run {run.id} is published, and its tasks have not all ended well")
        run.end, run.ends = RunState.PUBLISHING, run.ends + 1
        self._world.coverage["a worker publishes"] += 1

    def save(self, progress: Iterable[Progress]) -> Saved:
        listed = list(progress)
        before = {p.run_id: dict(self.runs[p.run_id].instances) for p in listed}
        lost = {p.run_id for p in listed if self.runs[p.run_id].fence != p.fence or self.runs[p.run_id].end is not None}
        if self._world.bugs & {"no fencing"}:
            lost = set()
        for one in listed:
            if one.run_id not in lost:
                self._write(self.runs[one.run_id], one)
        used = self._used(self.runs.values())
        if any(used[pool] > slots for pool, slots in POOLS.items()) and "no pool check" not in self._world.bugs:
            for run_id, instances in before.items():
                self.runs[run_id].instances = instances
            raise PoolFull
        publish = set()
        for one in listed:
            if one.run_id not in lost and one.end is not None:
                run = self.runs[one.run_id]
                if one.end is RunState.PUBLISHING and run.tables:
                    run.publishing = True
                    publish.add(run.id)
                else:
                    run.end, run.ends = one.end, run.ends + 1
        self._world.check_store(used)
        return Saved(frozenset(lost), frozenset(publish))

    def _write(self, run: StoredRun, progress: Progress) -> None:
        for change in progress.changes:
            old = run.instances.get(change.key, change.before)
            if change.key[1] != WHOLE:
                run.instances.pop((change.key[0], WHOLE), None)
            if old is not None and change.before is not None:
                if old.state in TASK_ENDS and old != change.after and change.after.state is not TaskState.REMOVED:
                    raise Violation(f"run {run.id} {change.key}: it had ended as {old}, and is now {change.after}")
                if old.state is not change.after.state:
                    check_task_transition(old.state, change.after.state)
                    self._world.watch[(old.state, change.after.state)] += 1
            run.instances[change.key] = change.after

    def _used(self, runs: Iterable[StoredRun]) -> Counter[str]:
        used: Counter[str] = Counter()
        for run in runs:
            for (id_, _), known in run.instances.items():
                if known.state in _LIVE:
                    used[run.graph.nodes[id_].pool] += run.graph.nodes[id_].slots
        return used

    def _driven(self, run: StoredRun) -> DrivenRun:
        info = RunInfo(run.id, run.id, 1, "p", "code", "p.py")
        begun = self._world.begun
        return DrivenRun(info, run.id, run.fence, begun, run.cancel, run.publishing, instances=dict(run.instances))


class StoreView:
    """What a scheduler holds of the store: a connection that may break at each call."""

    def __init__(self, store: SimStore, world: World) -> None:
        self._store = store
        self._world = world

    def __getattr__(self, name: str) -> Callable[..., object]:
        real = getattr(self._store, name)

        def call(*args: object) -> object:
            fault = self._world.store_fault()
            if fault == "conflict":
                raise Conflict("busy")
            if fault == "before":
                raise Unreachable("gone")
            made = real(*args)
            if fault == "after":
                raise Unreachable("gone")
            return made

        return call


# -- workers


@dataclass
class Work:
    """A job with a worker: what it will come to, and when it stops by itself."""

    job: Job
    begins: datetime
    ends: datetime
    outcome: Outcome | None
    until: datetime
    running: bool = False


class SimExecutor:
    """The workers of one scheduler. They outlive it for a while if it dies without a word."""

    def __init__(self, world: World, workers: int) -> None:
        self._world = world
        self._workers = workers
        self.work: dict[tuple[int, TaskKey, int], Work] = {}
        self._told: list[JobEvent] = []
        self._echoes: list[JobEvent] = []

    def free(self, queues: Collection[str]) -> Mapping[str, int]:
        return dict.fromkeys(queues, max(self._workers - len(self.work), 0))

    def submit(self, job: Job) -> None:
        place = (job.run_id, job.key, job.number)
        if self.has(*place):
            return
        rng = self._world.rng
        begins = self._world.now + timedelta(seconds=rng.choice([0, 0, 0, 1, 20]))
        outcome = self._world.outcome(job)
        ends = begins + timedelta(seconds=rng.choice([0, 1, 3, 8, 40, 90]))
        self.work[place] = Work(job, begins, ends, outcome, job.until)

    def has(self, run_id: int, key: TaskKey, number: int) -> bool:
        if "lost jobs are thought alive" in self._world.bugs:
            return True
        told = any(isinstance(e, JobEnded) and (e.run_id, e.key, e.number) == (run_id, key, number) for e in self._told)
        return (run_id, key, number) in self.work or told

    def renew(self, until: datetime) -> None:
        if "workers are not renewed" not in self._world.bugs:
            for work in self.work.values():
                work.until = until

    def stop(self, run_id: int, key: TaskKey) -> None:
        for work in self.work.values():
            if (work.job.run_id, work.job.key) == (run_id, key):
                work.ends, work.outcome = self._world.now, Failed("stopped", again=False)

    def events(self) -> Sequence[JobEvent]:
        told = list(self._told)
        rng = self._world.rng
        if self._world.faulty and rng.random() < 0.2:
            told += rng.sample(self._echoes, min(len(self._echoes), 1))  # told again, perhaps much later
        if "events are lost when the store fails" in self._world.bugs:
            self._told.clear()
        return told

    def acknowledge(self, events: Sequence[JobEvent]) -> None:
        self._told = [event for event in self._told if event not in events]
        self._echoes = [*self._echoes, *events][-6:]

    # what the world does to it

    def advance(self) -> None:
        """Let workers do what they do by now."""
        for place, work in list(self.work.items()):
            now = self._world.now
            if work.until <= now and "workers never stop" not in self._world.bugs:
                self._world.check_left_alone(self, work.job)
                self._finish(place, None)
            elif work.ends <= now:
                if not work.running:
                    self._begin(work)
                self._finish(place, work.outcome)
            elif work.begins <= now and not work.running:
                self._begin(work)

    def crash_one(self) -> None:
        """A worker dies in its job."""
        if self.work:
            self._finish(self._world.rng.choice(sorted(self.work)), None)

    def kill_all(self) -> None:
        """The scheduler's process group dies."""
        for place in list(self.work):
            self._finish(place, None)
        self._told.clear()

    def _begin(self, work: Work) -> None:
        work.running = True
        self._told.append(JobStarted(work.job.run_id, work.job.fence, work.job.key, work.job.number))
        self._world.check_start(work.job)

    def _finish(self, place: tuple[int, TaskKey, int], outcome: Outcome | None) -> None:
        work = self.work.pop(place)
        if work.running:
            key = ("", work.job.fence) if work.job.key == PUBLISH else work.job.key
            self._world.live[(work.job.run_id, key)].discard(work.job.number)
        if work.job.key == PUBLISH and outcome is not None:
            self._world.store.publish(work.job)
            if self._world.rng.random() < 0.2:
                outcome = None  # it dies right after its transaction
        self._told.append(JobEnded(work.job.run_id, work.job.fence, work.job.key, work.job.number, outcome))
