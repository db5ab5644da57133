"""The scheduler under simulation: 2,000 histories hold, and each of a dozen planted defects breaks one of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from harness.simulated import SimExecutor, SimStore, StoredRun, Violation
from harness.simulation import World
from tidemill.flow.scheduler import Scheduler
from tidemill.model.errors import Conflict, Unreachable
from tidemill.model.graph import Graph, Node
from tidemill.model.run import TASK_TRANSITIONS, IllegalTransition, RunState, TaskState
from tidemill.plan import counts, decide, dispatch
from tidemill.plan.trigger import Tally
from tidemill.ports.runstore import PoolFull

#: Histories in a run of the tests; a failure names its seed, and TIDEMILL_SIMULATION_SEED replays it.
SEEDS = int(os.environ.get("TIDEMILL_SIMULATION_SEEDS", "1000"))
ONE = os.environ.get("TIDEMILL_SIMULATION_SEED")

T = TaskState


def test_every_history_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """Schedulers and workers crash, words are lost and doubled, slow ones come back, clocks and stores go wrong."""
    faults: Counter[str] = Counter()
    steps: Counter[tuple[TaskState, TaskState]] = Counter()
    for seed in [int(ONE)] if ONE else range(SEEDS):
        world = World(seed)
        world.watch = steps
        try:
            world.run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        faults += world.coverage
    with capsys.disabled():
        print(
            f"\nsimulated {SEEDS:,} histories; faults: "
            + ", ".join(f"{n:,} x {name}" for name, n in faults.most_common())
        )
        print("task transitions: " + ", ".join(f"{a} -> {b} {n:,}" for (a, b), n in sorted(steps.items())))
    if not ONE and SEEDS >= 1000:
        assert {"group dies", "scheduler dies", "scheduler stalls", "clock jumps", "worker dies", "the store is down",
                "a store call fails: after", "a person cancels"} <= faults.keys()  # fmt: skip
        missing = {
            (before, after)
            for before, all_ in TASK_TRANSITIONS.items()
            for after in all_
            if not {before, after} & {T.REMOVED, T.DEFERRED, T.RESTARTING} and after is not T.NONE
        } - steps.keys()
        # Marks by a person, and what only they lead to, are not simulated.
        assert missing <= {
            (T.NONE, T.SUCCESS),
            (T.NONE, T.FAILED),
            (T.UP_FOR_RESCHEDULE, T.FAILED),
            (T.QUEUED, T.FAILED),
            (T.SCHEDULED, T.UPSTREAM_FAILED),
        }


# Planted defects


class _NeverRenews(Scheduler):
    def _sign_of_life(self, now: Any) -> None:
        if self._renewed is None:
            super()._sign_of_life(now)


class _SubmitsBeforeTheRecord(Scheduler):
    def _dispatch(self, now: Any) -> list[Any]:
        jobs = super()._dispatch(now)
        for job in jobs:
            self._executor.submit(job)
        return jobs


class _KeepsBooksWhenTheStoreFails(Scheduler):
    def turn(self) -> timedelta:
        try:
            self._turn()
        except (Unreachable, Conflict, PoolFull):
            for driven in self._runs.values():
                driven.changes, driven.stop = [], []
            self._touched.clear()
        return timedelta(0)


class _ForgetsTimers(Scheduler):
    def _take_over(self, run: Any, now: Any) -> None:
        before = len(self._timers)
        super()._take_over(run, now)
        del self._timers[before:]


class _TakesOverWithoutLooking(Scheduler):
    """It trusts that every instance in hand still has a worker."""

    def _take_over(self, run: Any, now: Any) -> None:
        real = self._executor.has
        self._executor.has = lambda *_: True  # type: ignore[method-assign]
        try:
            super()._take_over(run, now)
        finally:
            self._executor.has = real  # type: ignore[method-assign]


SCHEDULERS = [
    _NeverRenews,
    _SubmitsBeforeTheRecord,
    _KeepsBooksWhenTheStoreFails,
    _ForgetsTimers,
    _TakesOverWithoutLooking,
]


@contextmanager
def patched(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, made: Any) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(where, name, made)
        yield


def caught(*, scheduler: type[Scheduler] = Scheduler, bugs: tuple[str, ...] = ()) -> int | None:
    """The first of 2,000 histories that breaks."""
    for seed in range(2000):
        try:
            World(seed, bugs=bugs, scheduler=scheduler).run()
        except (Violation, IllegalTransition):  # anything else would be a defect of the plant
            return seed
    return None


@pytest.mark.parametrize("kind", SCHEDULERS, ids=lambda kind: kind.__name__.strip("_"))
def test_a_defect_of_the_loop_is_caught(kind: type[Scheduler]) -> None:
    assert caught(scheduler=kind) is not None


@pytest.mark.parametrize(
    "bug",
    [
        "no fencing",
        "lost jobs are thought alive",
        "workers never stop",
        "workers are not renewed",
        "publishes unfenced",
    ],
)
def test_a_defect_of_the_surroundings_is_caught(bug: str) -> None:
    assert caught(bugs=(bug,)) is not None


def _counts_twice(self: counts.Counts, key: Any, before: Any, after: Any, real: Any = counts.Counts.tell) -> Any:
    if before is None and key[0].endswith("1"):
        real(self, key, before, after)
    return real(self, key, before, after)


def _is_always_current(self: decide.RunBook, key: Any, number: int, states: Any) -> bool:
    known = self.instances.get(key)
    return known is not None and known.state in states


def _loses_the_wake_up(self: counts.Counts, id_: str, tally: Tally, real: Any = counts.Counts._of_all) -> Any:
    return [] if tally.total == 2 else real(self, id_, tally)


def _never_releases(self: dispatch.Dispatcher, run_id: int, key: Any) -> None:
    return None


def _starts_anything_at_once(rule: Any, seen: Tally) -> Any:
    return decide.Verdict.RUN


MODULES = [
    ("a counter is moved twice", counts.Counts, "tell", _counts_twice),
    ("a try's number is not looked at", decide.RunBook, "_is_current", _is_always_current),
    ("a wake-up is lost", counts.Counts, "_of_all", _loses_the_wake_up),
    ("slots are not given back", dispatch.Dispatcher, "release", _never_releases),
    ("rules are not looked at", counts, "judge", _starts_anything_at_once),
]


@pytest.mark.parametrize(("where", "name", "made"), [m[1:] for m in MODULES], ids=[m[0] for m in MODULES])
def test_a_defect_of_the_decisions_is_caught(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, made: Any) -> None:
    with patched(monkeypatch, where, name, made):
        assert caught() is not None


def test_a_store_that_forgets_what_it_acknowledged_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SimStore._write

    def forgets(self: SimStore, run: Any, progress: Any) -> None:
        if len(progress.changes) != 3:
            real(self, run, progress)

    with patched(monkeypatch, SimStore, "_write", forgets):
        assert caught() is not None


def test_acknowledging_before_the_record_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends of workers are lost with the turn that could not write them down."""
    real = SimExecutor.events

    def acknowledged_at_once(self: SimExecutor) -> Any:
        told = real(self)
        self._told.clear()
        return told

    def has(self: SimExecutor, run_id: int, key: Any, number: int) -> bool:
        return (run_id, key, number) in self.work or number > 0

    with (
        patched(monkeypatch, SimExecutor, "events", acknowledged_at_once),
        patched(monkeypatch, SimExecutor, "has", has),
    ):
        assert caught() is not None


def test_a_run_publishes_once_and_only_whole() -> None:
    """What the invariants mean in one quiet history."""
    world = World(1)
    world.faulty = False
    world.run(0)
    assert all(run.end in (RunState.PUBLISHING, RunState.FAILED) for run in world.store.runs.values())


def test_a_run_that_another_had_for_a_while_is_driven_anew() -> None:
    """Found by seed 4695: it was claimed back under a new fence and driven on under the old one, which ended it."""
    world = World(0)
    world.faulty = False
    world.alive.clear()
    world.store.runs = {0: StoredRun(0, Graph([Node("a"), Node("b", ("a",)), Node("c", ("b",))]))}
    world._start()
    first = world.alive[0]
    world._tick(0)
    fence = world.store.runs[0].fence
    first.stalled_until = world.now + timedelta(seconds=60)
    world._start()
    while world.store.runs[0].fence == fence:
        world._tick(5)
    second = world.alive.pop()
    second.executor.kill_all()
    for _ in range(100):
        world._tick(5)
    assert world.store.runs[0].fence > fence + 1, "the first one has it again"
    assert world.store.runs[0].end is not None
    assert world.store.runs[0].ends == 1
