"""A world in which schedulers drive runs, everything fails, and nothing takes time: one seed, one history.

The scheduler's loop and the decisions are the real ones; the store, the workers and the clock are models that crash,
lose, double and delay. After a while the faults end; by then, and at every step before, the invariants hold:

    every run ends; no task starts before its trigger rule holds; no two live attempts of one task; what has ended
    stays as it is; no pool holds more than it may; a run's end is recorded once
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from harness.simulated import POOLS, SimExecutor, SimStore, StoredRun, Violation
from tidemill.flow.scheduler import Scheduler
from tidemill.model.definition import Definition, Kind
from tidemill.model.graph import Graph, Lengths, Node, Retry, TaskKey, TriggerRule
from tidemill.model.instance import Failed, Outcome, Rescheduled, Skipped, Succeeded
from tidemill.model.run import TASK_ENDS, RunState, TaskState
from tidemill.plan.trigger import Tally, Verdict, judge
from tidemill.ports.executor import PUBLISH, Job

_START = datetime(2026, 1, 1, tzinfo=UTC)


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
        self.now = self.begun = _START
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
            self.store.runs[number] = StoredRun(number, self._graph(), tables=self.rng.random() < 0.4)
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
        if job.key == PUBLISH:
            return rng.choice([Succeeded(), None]) if self.faulty else Succeeded()
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
        made = {
            run.id: Definition("p", Kind.TABLES if run.tables else Kind.TASKS, run.graph, max_active_tasks=5)
            for run in self.store.runs.values()
        }
        scheduler = self._kind(self.store.view(), executor, clock, made.__getitem__, f"s{self._named}")
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
                if "wake-ups are lost" not in self.bugs and self.rng.random() < 0.2:
                    one.scheduler.wake()
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
        if job.key == PUBLISH:
            # Under an older fence one may still be about to be refused.
            others = self.live[(job.run_id, ("", job.fence))]
        if others:
            raise Violation(f"run {job.run_id} {job.key}: try {job.number} begins while {sorted(others)} live")
        others.add(job.number)
        if job.key == PUBLISH:
            self.coverage["a publish begins"] += 1
            return
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
