"""The wall clock jumps by hours under a running stream: results, sessions and silence go by what does not jump."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import tidemill as tm
from harness.poison import Driven, pipeline, topic_name
from harness.topics import Ledger, Peer, Place, settle
from tidemill.adapters.memory.topics import MemoryTopics
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.testing.clock import ManualClock

JUMPS = [timedelta(hours=3), timedelta(hours=-3), timedelta(days=400), timedelta(days=-800)]


class JumpingClock(ManualClock):
    """Its `now` jumps, and its `monotonic` does not."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, clock: JumpingClock, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        made = Place(MemoryTopics(clock), clock, lambda _partition, _before: None)
        yield made
        made.close()
        return
    template = request.getfixturevalue("sqlite_template")
    with SqlMetadata(f"sqlite:///{shutil.copy(template, tmp_path / 'db')}", "project", clock, durable=False) as store:
        made = Place(SqlTopics(store, clock, own_time=False), clock, lambda _partition, _before: None)
        yield made
        made.close()


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


def at(second: int) -> dict[str, Any]:
    return {"ts": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", "car": "a"}


def counting(p: tm.Pipeline, **options: Any) -> Any:
    topic = tm.topic(topic_name(), {"ts": "timestamptz", "car": "string"}, key="car", time="ts", **options)

    @p.stream(topic, to=tm.topic(topic_name()))
    def counts(t: tm.Frame) -> tm.Frame:
        return t.tumbling_window("10s", on="ts", by="car").agg(n=tm.agg.count()).final()

    return counts


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_results_are_the_same_whatever_the_wall_clock_does(
    place: Place, clock: JumpingClock, p: tm.Pipeline, jump: timedelta
) -> None:
    with Driven(place, counting(p)) as driven:
        process = driven.begin()

        def run(seconds: float) -> None:
            until = clock.monotonic() + seconds
            while clock.monotonic() < until:
                try:
                    process.turn()
                except Exception:  # what `run` does: it goes back to the last checkpoint
                    process._let_go()

        for start in range(0, 120, 20):
            driven.feed(driven.read(), [at(start + second) for second in range(20)])
            run(2)
            if start in (40, 80):
                clock.ahead = jump if start == 40 else timedelta(0)
        run(30)
        starts = [f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z" for second in range(0, 110, 10)]
        assert [(row["window_start"], row["n"]) for row in driven.rows(driven.written())] == [(s, 10) for s in starts]
        assert driven.letters("late") == []


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_tasks_of_the_dead_are_taken_over_in_time_whatever_the_wall_clock_does(
    place: Place, clock: JumpingClock, jump: timedelta
) -> None:
    """A session that ends "in three hours" is one of a clock that went back."""
    ledger = Ledger()
    dies, stays = Peer(place, ledger, "g", 4), Peer(place, ledger, "g", 4)
    settle(place, [dies, stays], 4)
    dies.die()
    clock.ahead = jump
    began = clock.monotonic()
    settle(place, [stays], 4)
    assert clock.monotonic() - began <= 6 * place.session.total_seconds()


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_silence_is_counted_in_seconds_that_pass(
    place: Place, clock: JumpingClock, p: tm.Pipeline, jump: timedelta
) -> None:
    """`on_idle="clock"` goes on by as much as passes, not by as much as the wall clock says."""
    with Driven(place, counting(p, idle="30s", on_idle="clock")) as driven:
        process = driven.begin()
        driven.feed(driven.read(), [at(1), at(15)])
        driven.work()
        clock.ahead = jump

        def run(seconds: float) -> list[str]:
            until = clock.monotonic() + seconds
            while clock.monotonic() < until:
                try:
                    process.turn()
                except Exception:  # what `run` does
                    process._let_go()
            return [row["window_start"][17:19] for row in driven.rows(driven.written())]

        assert run(20) == ["00"], "nothing has been silent for thirty seconds"
        assert run(60) == ["00", "10"]
