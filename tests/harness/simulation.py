"""A world in which schedulers drive runs, everything fails, and nothing takes time: one seed, one history.

The scheduler's loop and the decisions are the real ones; the store, the workers and the clock are models that crash,
lose, double and delay. After a while the faults end; by then, and at every step before, the invariants hold:

    every run ends; no task starts before its trigger rule holds; no two live attempts of one task; what has ended
    stays as it is; no pool holds more than it may; a run's end is recorded once
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tidemill.flow.scheduler import Scheduler
from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.graph import WHOLE, Graph, Lengths, Node, Retry, TaskKey, TriggerRule
from tidemill.model.instance import Failed, Instance, Outcome, Rescheduled, Skipped, Succeeded
from tidemill.model.run import TASK_ENDS, RunState, TaskState, check_task_transition
from tidemill.plan.trigger import Tally, Verdict, judge
from tidemill.ports.executor import Job, JobEnded, JobEvent, JobStarted
from tidemill.ports.runstore import DrivenRun, PoolFull, Progress

_LIVE = frozenset({TaskState.QUEUED, TaskState.RUNNING, TaskState.RESTARTING})
_START = datetime(2026, 1, 1, tzinfo=UTC)
POOLS = {"default": 4, "small": 1, "two": 2}


class Violation(AssertionError):
    """An invariant does not hold."""


# -- the store


@dataclass
class StoredRun:
    """A run as the store has it."""

    id: int
    graph: Graph
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

    def claim(self, holder: str, lease: timedelta, limit: int) -> list[DrivenRun]:
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

    def save(self, progress: Iterable[Progress]) -> frozenset[int]:
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
        for one in listed:
            if one.run_id not in lost and one.end is not None:
                run = self.runs[one.run_id]
                run.end, run.ends = one.end, run.ends + 1
        self._world.check_store(used)
        return frozenset(lost)

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
        return DrivenRun(run.id, "p", str(run.id), run.fence, run.cancel, dict(run.instances))


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

    def free(self) -> Mapping[str, int]:
        return {"default": max(self._workers - len(self.work), 0)}

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
        self._told.append(JobStarted(work.job.run_id, work.job.key, work.job.number))
        self._world.check_start(work.job)

    def _finish(self, place: tuple[int, TaskKey, int], outcome: Outcome | None) -> None:
        work = self.work.pop(place)
        if work.running:
            self._world.live[(work.job.run_id, work.job.key)].discard(work.job.number)
        self._told.append(JobEnded(*place, outcome))


# -- the world


class SimClock:
    """A scheduler's clock, which may be wrong."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wrong = timedelta(0)

    def now(self) -> datetime:
        return self._world.now + self.wrong

    def monotonic(self) -> float:
        return self._world.now.timestamp()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the loop never sleeps")


@dataclass
class Alive:
    """A scheduler that runs, with its workers and its clock."""

    name: str
    scheduler: Scheduler
    executor: SimExecutor
    clock: SimClock
    stalled_until: datetime = _START


class World:
    """Everything that happens for one seed.

    Args:
        seed: of all chance.
        bugs: defects to plant, by name; a world without them must hold.
        schedulers: makes a scheduler; a planted defect may make another kind.
    """

    def __init__(self, seed: int, *, bugs: Iterable[str] = (), scheduler: type[Scheduler] = Scheduler) -> None:
        self.rng = random.Random(seed)
        self.bugs = frozenset(bugs)
        self.now = _START
        self.faulty = True
        self.coverage: Counter[str] = Counter()
        self.watch: Counter[tuple[TaskState, TaskState]] = Counter()
        self.live: dict[tuple[int, TaskKey], set[int]] = defaultdict(set)
        self.store = SimStore(self)
        self._kind = scheduler
        self._named = 0
        self._down = False
        self._settled: datetime | None = None
        self._orphans: list[SimExecutor] = []
        self.alive: list[Alive] = []
        for number in range(self.rng.randint(1, 5)):
            self.store.runs[number] = StoredRun(number, self._graph())
        for _ in range(self.rng.randint(1, 3)):
            self._start()

    # -- chance

    def _graph(self) -> Graph:
        rng, nodes = self.rng, list[Node]()
        for at in range(rng.randint(1, 7)):
            above = tuple(sorted({f"t{rng.randrange(at)}" for _ in range(rng.randint(0, 2))})) if at else ()
            mapped = Lengths(known=(rng.randint(0, 3),)) if rng.random() < 0.15 else None
            if at and rng.random() < 0.15:
                source = rng.choice([n.id for n in nodes])
                mapped, above = Lengths(tasks=(source,)), tuple(sorted({*above, source}))
            nodes.append(
                Node(
                    f"t{at}", above, rng.choice([TriggerRule.ALL_SUCCESS, TriggerRule.ALL_SUCCESS, *TriggerRule]),
                    Retry(rng.randint(0, 2), timedelta(seconds=rng.choice([1, 10, 60])), jitter=rng.choice([0, 0.5])),
                    mapped, pool=rng.choice([*POOLS, "default"]), weight=rng.randint(1, 3),
                    limit_in_run=rng.choice([None, None, 1]),
                )
            )  # fmt: skip
        return Graph(nodes)

    def outcome(self, job: Job) -> Outcome | None:
        """What a worker will say."""
        rng = self.rng
        if not self.faulty:
            return rng.choice([Succeeded(length=1), Failed("no")])
        return rng.choice(
            [Succeeded(length=rng.randint(0, 3)), Succeeded(length=1), Succeeded(length=1), Failed("no"),
             Failed("no", again=False), Skipped(), Rescheduled(self.now + timedelta(seconds=5)), None]
        )  # fmt: skip

    def store_fault(self) -> str | None:
        """What goes wrong with this call to the store."""
        if not self.faulty:
            return None
        if self._down:
            self.coverage["the store is down"] += 1
            return "before"
        chance = self.rng.random()
        for most, fault in ((0.02, "before"), (0.04, "after"), (0.05, "conflict")):
            if chance < most:
                self.coverage[f"a store call fails: {fault}"] += 1
                return fault
        return None

    def _start(self) -> None:
        self._named += 1
        executor, clock = SimExecutor(self, self.rng.randint(1, 4)), SimClock(self)
        graphs = {str(run.id): run.graph for run in self.store.runs.values()}
        scheduler = self._kind(self.store.view(), executor, clock, lambda run: graphs[run.version], f"s{self._named}")
        self.alive.append(Alive(f"s{self._named}", scheduler, executor, clock, self.now))

    # -- history

    def run(self, steps: int = 150) -> World:
        """Let things happen, with faults and then without, until every run has ended.

        Raises:
            Violation: an invariant does not hold.
        """
        for _ in range(steps):
            self._step()
        self.faulty = self._down = False
        self._settled = self.now
        if not self.alive:
            self._start()
        for one in self.alive:
            one.clock.wrong, one.stalled_until = timedelta(0), self.now
        for _ in range(1000):  # a clock that was an hour ahead may have made a wait of an hour
            if all(run.end is not None for run in self.store.runs.values()):
                break
            self._tick(5)
        for run in self.store.runs.values():
            if run.end is None:
                open_ = {k: v.state.value for k, v in run.instances.items() if v.state not in TASK_ENDS}
                raise Violation(f"run {run.id} does not end: {open_}, driven by {run.holder}")
            if run.ends != 1:
                raise Violation(f"run {run.id} ended {run.ends} times")
            if run.end is RunState.PUBLISHING:
                self._check_published(run)
        return self

    def _tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for executor in [*self._orphans, *(one.executor for one in self.alive)]:
            executor.advance()
        for one in self.alive:
            if one.stalled_until <= self.now:
                one.scheduler.turn()
                one.executor.advance()

    def _step(self) -> None:
        rng = self.rng
        chance = rng.random()
        if chance < 0.80:
            self._tick(rng.choice([0, 0.5, 2, 6]))
            return
        happens = rng.choice(
            ["worker dies", "group dies", "scheduler dies", "scheduler stalls", "clock jumps", "scheduler starts",
             "store goes", "store comes", "a person cancels"]
        )  # fmt: skip
        self.coverage[happens] += 1
        one = rng.choice(self.alive) if self.alive else None
        if happens == "scheduler starts" and len(self.alive) < 4:
            self._start()
        elif happens == "store goes":
            self._down = True
        elif happens == "store comes":
            self._down = False
        elif happens == "a person cancels":
            rng.choice(list(self.store.runs.values())).cancel = rng.random() < 0.3
        elif one is not None:
            self._hurt(one, happens)

    def _hurt(self, one: Alive, happens: str) -> None:
        if happens == "worker dies":
            one.executor.crash_one()
        elif happens == "group dies":
            one.executor.kill_all()
            self.alive.remove(one)
        elif happens == "scheduler dies":
            self._orphans.append(one.executor)
            self.alive.remove(one)
        elif happens == "scheduler stalls":
            one.stalled_until = self.now + timedelta(seconds=self.rng.choice([3, 12, 40]))
        elif happens == "clock jumps":
            one.clock.wrong = timedelta(seconds=self.rng.choice([-3600, -20, 0, 20, 3600]))

    # -- invariants

    def check_start(self, job: Job) -> None:
        """A worker begins: nobody else has the task, and its rule holds by what is recorded."""
        run = self.store.runs[job.run_id]
        others = self.live[(job.run_id, job.key)]
        if others:
            raise Violation(f"run {job.run_id} {job.key}: try {job.number} begins while {sorted(others)} live")
        others.add(job.number)
        known = run.instances.get(job.key)
        if known is None or known.tries < job.number:
            raise Violation(f"run {job.run_id} {job.key}: try {job.number} begins and was never recorded")
        node = run.graph.nodes[job.key[0]]
        seen = Tally()
        for above in set(node.upstream):
            states = [v.state for k, v in run.instances.items() if k[0] == above and v.state is not TaskState.REMOVED]
            for state in states or [TaskState.NONE]:
                seen.total += 1
                seen.count(state, 1)
        if judge(node.rule, seen) is Verdict.WAIT:
            raise Violation(f"run {job.run_id} {job.key} begins before its rule {node.rule} holds")
        self.coverage["a try begins"] += 1

    def check_takeover(self, run: StoredRun) -> None:
        """A run is taken from a scheduler: in quiet times, that one must be gone."""
        if self._quiet and run.holder in {one.name for one in self.alive}:
            raise Violation(f"run {run.id} is taken from {run.holder}, which is alive")

    def check_left_alone(self, executor: SimExecutor, job: Job) -> None:
        """A worker stops because nobody renewed its job: in quiet times, its scheduler must be gone."""
        if self._quiet and any(one.executor is executor for one in self.alive):
            raise Violation(f"run {job.run_id} {job.key}: its worker was left alone by a scheduler that is alive")

    @property
    def _quiet(self) -> bool:
        """The faults are over, and so is what they led to."""
        return self._settled is not None and self.now > self._settled + timedelta(seconds=60)

    def check_store(self, used: Mapping[str, int]) -> None:
        """After each write."""
        for pool, slots in POOLS.items():
            if used[pool] > slots:
                raise Violation(f"pool {pool} holds {used[pool]} of {slots}")

    def _check_published(self, run: StoredRun) -> None:
        bad = (TaskState.FAILED, TaskState.UPSTREAM_FAILED)
        if any(v.state in bad for (id_, _), v in run.instances.items() if id_ in run.graph.leaves):
            raise Violation(f"run {run.id} is published with a failed leaf")
        if any(v.state not in TASK_ENDS for v in run.instances.values()):
            raise Violation(f"run {run.id} is published with tasks that have not ended")
