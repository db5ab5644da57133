"""Conformance of the port `executor`: one test a promise, over every adapter, with real worker processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness.consuming import SILENT
from harness.executing import (
    appears,
    end_of,
    freeze,
    is_alive,
    job,
    outcome_of,
    serving,
    wait_gone,
    wait_until,
)
from tidemill.adapters.processes.executor import LocalExecutor
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.instance import Failed, Skipped, Succeeded
from tidemill.ports.executor import Executor, JobEnded, JobStarted

NewExecutor: TypeAlias = Callable[..., Executor]


@contextlib.contextmanager
def local(request: pytest.FixtureRequest) -> Iterator[NewExecutor]:
    with contextlib.ExitStack() as stack:

        def new(**options: Any) -> Executor:
            forker, _ = stack.enter_context(serving())
            made = LocalExecutor(forker, SystemClock(), **{"workers": 2, **options})
            stack.callback(made.close)
            return made

        yield new


@contextlib.contextmanager
def celery(request: pytest.FixtureRequest, broker: str) -> Iterator[NewExecutor]:
    """Consumers take a second to start and to end, so they are kept for the session, one for each set of options."""
    from tidemill.adapters.celery.executor import CeleryExecutor

    url = request.getfixturevalue(broker)
    consumer_of = request.getfixturevalue("consumer_of")
    with contextlib.ExitStack() as stack:

        def new(**options: Any) -> Executor:
            made = CeleryExecutor(url, consumer_of(url, options), SystemClock(), silent=SILENT)
            stack.callback(made.close)
            return made

        yield new


ADAPTERS = {
    "local": local,
    "celery-redis": partial(celery, broker="redis_url"),
    "celery-rabbitmq": partial(celery, broker="rabbitmq_url"),
}


@pytest.fixture(params=ADAPTERS)
def new_executor(request: pytest.FixtureRequest) -> Iterator[NewExecutor]:
    """Makes executors whose workers are ended after the test."""
    with ADAPTERS[request.param](request) as new:
        yield new


@pytest.fixture
def executor(new_executor: NewExecutor) -> Executor:
    return new_executor()


#: Seconds that a job of these tests may go on: on a busy machine it takes one of them to begin.
LEASE = 2.5


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def begun(folder: Path, executor: Executor, number: int = 1) -> int:
    """The process id of a worker that holds a job of this folder."""
    return int(appears(folder / f"begun-{number}", executor))


def awake(executor: Executor) -> Executor:
    """Its workers are up, and have done something: the next one begins at once, however slow their start was."""
    assert outcome_of(executor, job(run_id=99)).outcome is not None
    return executor


# -- how jobs end


def test_a_job_ends_with_its_outcome_and_report(executor: Executor) -> None:
    ended = outcome_of(executor, job("skip", run_id=3, number=2, fence=9))
    assert (ended.run_id, ended.fence, ended.key, ended.number) == (3, 9, ("skip", -1), 2)
    assert ended.outcome == Skipped()
    assert ended.report.rows == 7
    assert ended.report.seconds > 0
    assert ended.report.worker


def test_a_failed_outcome_keeps_all_that_it_says(executor: Executor) -> None:
    ended = outcome_of(executor, job("failed:no rows"))
    assert ended.outcome == Failed("no rows", again=False, delay=timedelta(seconds=3))


@pytest.mark.parametrize(
    ("task", "told"),
    [("fail:no such day", "ValueError: no such day"), ("leave:3", "SystemExit(3)"), ("leave:0", "SystemExit(0)")],
)
def test_an_exception_that_leaves_the_task_is_its_failure(executor: Executor, task: str, told: str) -> None:
    ended = outcome_of(executor, job(task))
    assert isinstance(ended.outcome, Failed)
    assert told in ended.outcome.error
    assert outcome_of(executor, job("done", run_id=2)).outcome == Succeeded()


@pytest.mark.parametrize("task", ["os_exit:0", "os_exit:7", f"signal:{signal.SIGSEGV}", f"signal:{signal.SIGKILL}"])
def test_a_worker_that_dies_is_told_without_an_outcome(executor: Executor, task: str) -> None:
    began = time.monotonic()
    assert outcome_of(executor, job(task)).outcome is None
    assert time.monotonic() - began < 60
    assert outcome_of(executor, job("done", run_id=2)).outcome == Succeeded()


def test_a_worker_killed_in_its_job_is_told_at_once(executor: Executor, tmp_path: Path) -> None:
    one = job(f"hold:{tmp_path}")
    executor.submit(one)
    os.kill(begun(tmp_path, executor), signal.SIGKILL)
    assert end_of(executor, one, seconds=5).outcome is None


def test_a_dead_worker_is_noticed_though_its_child_holds_everything_open(executor: Executor) -> None:
    assert outcome_of(executor, job("fork:1000"), seconds=10).outcome is None


def test_a_task_that_returns_in_two_processes_ends_once(executor: Executor) -> None:
    one = job("twin")
    assert outcome_of(executor, one).outcome == Succeeded()
    assert outcome_of(executor, job("done", run_id=2)).outcome == Succeeded()
    assert not executor.events()


def test_a_task_that_closes_all_files_is_told_as_lost(executor: Executor) -> None:
    assert outcome_of(executor, job("close_all"), seconds=10).outcome is None
    assert outcome_of(executor, job("done", run_id=2)).outcome == Succeeded()


@pytest.mark.parametrize("size", [70_000, 5_000_000])
def test_large_jobs_and_results_go_through(executor: Executor, size: int) -> None:
    ended = outcome_of(executor, job(f"large:{size}", conf={"text": "y" * size}))
    assert ended.outcome == Succeeded(length=size)
    assert len(ended.report.xcoms[0][1]) == size + 2


def test_a_result_that_cannot_be_sent_fails_the_task(executor: Executor) -> None:
    ended = outcome_of(executor, job("wrong"))
    assert isinstance(ended.outcome, Failed)
    assert "cannot be sent" in ended.outcome.error


# -- telling


def test_a_job_that_takes_its_time_shows_as_started(executor: Executor, tmp_path: Path) -> None:
    one = job(f"hold:{tmp_path}", fence=4)
    executor.submit(one)
    (event,) = wait_until(executor, len)
    assert event == JobStarted(1, 4, one.key, 1)
    (tmp_path / "go").touch()
    assert end_of(executor, one).outcome == Succeeded()


def test_events_are_told_until_they_are_acknowledged(executor: Executor) -> None:
    one, other = job(), job(run_id=2)
    executor.submit(one)
    seen = wait_until(executor, len)
    assert list(executor.events()) == seen
    executor.submit(other)
    wait_until(executor, lambda events: len(events) == 2)
    executor.acknowledge(seen)
    assert [event.run_id for event in executor.events()] == [2]
    executor.acknowledge(seen)
    assert [event.run_id for event in executor.events()] == [2]


def test_a_job_is_here_until_its_end_is_acknowledged(executor: Executor) -> None:
    one = job()
    assert not executor.has(1, one.key, 1)
    executor.submit(one)
    assert executor.has(1, one.key, 1)
    assert not executor.has(1, one.key, 2)
    seen = wait_until(executor, len)
    assert executor.has(1, one.key, 1)
    executor.acknowledge(seen)
    assert not executor.has(1, one.key, 1)


def test_a_job_that_is_known_is_not_begun_twice(executor: Executor, tmp_path: Path) -> None:
    one = job(f"count:{tmp_path / 'counted'}")
    executor.submit(one)
    executor.submit(one)
    seen = wait_until(executor, len)
    executor.submit(one)
    assert outcome_of(executor, job(run_id=2)).outcome == Succeeded()
    assert (tmp_path / "counted").read_text() == "1 1\n"
    executor.acknowledge(seen)


def test_hundreds_of_jobs_are_each_begun_once(new_executor: NewExecutor, tmp_path: Path) -> None:
    """Beyond the ends of several generations of workers; a job costs 15 ms of processor time through a broker."""
    executor = new_executor(most_jobs=50)
    jobs = [job(f"count:{tmp_path / 'counted'}", run_id=n) for n in range(350)]
    waiting, ended = list(jobs), set[int]()
    until = time.monotonic() + 400
    while len(ended) < len(jobs) and time.monotonic() < until:
        free = executor.free(["default"])["default"]
        for one in waiting[:free]:
            executor.submit(one)
        del waiting[:free]
        select.select(executor.handles(), [], [], 1)
        seen = executor.events()
        ended |= {e.run_id for e in seen if isinstance(e, JobEnded) and e.outcome == Succeeded()}
        executor.acknowledge(seen)
    lines = (tmp_path / "counted").read_text().splitlines()
    assert sorted(lines) == sorted(f"{n} 1" for n in range(350))


# -- room


def test_a_queue_that_is_served_has_room_until_all_are_busy(new_executor: NewExecutor, tmp_path: Path) -> None:
    executor = new_executor(workers=1)
    wait_until(executor, lambda _: executor.free(["a"])["a"] > 0)
    n = 0
    while executor.free(["a"])["a"]:
        executor.submit(job(f"hold:{tmp_path}", run_id=n, queue="a"))
        n += 1
        assert n < 20
    (tmp_path / "go").touch()
    wait_until(executor, lambda events: sum(isinstance(event, JobEnded) for event in events) == n)
    wait_until(executor, lambda _: executor.free(["a"])["a"] > 0)


def test_a_job_never_waits_for_one_that_takes_long(new_executor: NewExecutor, tmp_path: Path) -> None:
    """Quick workers are given jobs ahead; those come back when the job before them is not quick."""
    executor = new_executor(workers=2)
    for n in range(20):
        outcome_of(executor, job(run_id=n))
    held = job(f"hold:{tmp_path}", run_id=100)
    executor.submit(held)
    for n in range(101, 106):
        executor.submit(job(run_id=n))
    wait_until(executor, lambda events: sum(isinstance(event, JobEnded) for event in events) == 5, seconds=10)
    (tmp_path / "go").touch()
    assert end_of(executor, held).outcome == Succeeded()


# -- stopping


def test_a_stopped_task_learns_so_and_ends_as_failed_for_good(executor: Executor, tmp_path: Path) -> None:
    one = job(f"hold:{tmp_path}")
    executor.submit(one)
    begun(tmp_path, executor)
    executor.stop(1, one.key)
    ended = end_of(executor, one, seconds=4)
    assert isinstance(ended.outcome, Failed)
    assert not ended.outcome.again
    assert (tmp_path / "stopped-1").exists()
    assert outcome_of(executor, job("done", run_id=2)).outcome == Succeeded()


def test_a_job_that_waits_is_stopped_without_having_begun(new_executor: NewExecutor, tmp_path: Path) -> None:
    executor = new_executor(workers=1)
    held, waiting = job(f"hold:{tmp_path}"), job(f"count:{tmp_path / 'counted'}", run_id=2)
    executor.submit(held)
    begun(tmp_path, executor)
    executor.submit(waiting)
    executor.stop(2, waiting.key)
    assert isinstance(end_of(executor, waiting, seconds=4).outcome, Failed)
    (tmp_path / "go").touch()
    assert end_of(executor, held).outcome == Succeeded()
    assert not (tmp_path / "counted").exists()


def test_a_task_that_does_not_stop_is_killed_with_all_that_it_started(
    new_executor: NewExecutor, tmp_path: Path
) -> None:
    executor = new_executor(grace=timedelta(seconds=0.3))
    one = job(f"stubborn:{tmp_path}")
    executor.submit(one)
    worker, program = map(int, appears(tmp_path / "pids", executor).split())
    executor.stop(1, one.key)
    assert isinstance(end_of(executor, one, seconds=10).outcome, Failed)
    wait_gone(worker, program)


def test_stopping_what_is_not_here_does_nothing(executor: Executor) -> None:
    executor.stop(1, ("done", -1))
    assert outcome_of(executor, job()).outcome == Succeeded()
    executor.stop(1, ("done", -1))
    assert not executor.events()


# -- time


def test_a_task_that_takes_too_long_fails(executor: Executor, tmp_path: Path) -> None:
    ended = outcome_of(executor, job("sleep:1000", timeout=timedelta(seconds=0.2)), seconds=4)
    assert ended.outcome == Failed("It timed out after 200ms.")
    assert outcome_of(executor, job("done", run_id=2)).outcome == Succeeded()


def test_a_task_that_ignores_its_time_out_is_killed_and_fails(new_executor: NewExecutor, tmp_path: Path) -> None:
    executor = new_executor(grace=timedelta(seconds=0.3))
    ended = outcome_of(executor, job(f"stubborn:{tmp_path}", timeout=timedelta(seconds=0.2)), seconds=10)
    assert isinstance(ended.outcome, Failed)
    assert "timed out after 200ms" in ended.outcome.error
    assert ended.outcome.again
    wait_gone(*map(int, (tmp_path / "pids").read_text().split()))


def test_a_job_that_nobody_renews_ends_at_its_time_though_nobody_looks(
    new_executor: NewExecutor, tmp_path: Path
) -> None:
    """Of two at the same time, one is looked at; the worker of the other stops by itself."""
    looked, alone = awake(new_executor()), awake(new_executor())
    (tmp_path / "alone").mkdir()
    one, other = job(f"hold:{tmp_path}", until=soon(LEASE)), job(f"hold:{tmp_path / 'alone'}", until=soon(LEASE))
    looked.submit(one)
    alone.submit(other)
    worker, left_alone = begun(tmp_path, looked), begun(tmp_path / "alone", alone)
    assert end_of(looked, one, seconds=20).outcome is None
    wait_gone(worker, left_alone, seconds=20)
    assert end_of(alone, other, seconds=20).outcome is None


def test_a_renewed_job_goes_on_and_one_that_waits_is_renewed_too(new_executor: NewExecutor, tmp_path: Path) -> None:
    executor = awake(new_executor(workers=1))
    jobs = [job(f"hold:{tmp_path}", until=soon(LEASE)), job(until=soon(LEASE), run_id=2)]
    for one in jobs:
        executor.submit(one)
    worker = begun(tmp_path, executor)
    executor.renew(soon(3600))
    with pytest.raises(AssertionError, match="too long"):
        wait_until(executor, lambda events: any(isinstance(event, JobEnded) for event in events), seconds=LEASE + 0.3)
    assert is_alive(worker)
    (tmp_path / "go").touch()
    assert [end_of(executor, one).outcome for one in jobs] == [Succeeded(), Succeeded()]


def test_a_worker_that_does_not_answer_is_lost_though_it_is_renewed(executor: Executor, tmp_path: Path) -> None:
    awake(executor)
    one = job(f"hold:{tmp_path}", until=soon(LEASE))
    executor.submit(one)
    worker = begun(tmp_path, executor)
    freeze(worker)
    executor.renew(soon(3600))
    assert end_of(executor, one, seconds=20).outcome is None
    wait_gone(worker)


def test_a_job_whose_time_is_over_is_not_begun(executor: Executor, tmp_path: Path) -> None:
    assert outcome_of(executor, job(f"count:{tmp_path / 'counted'}", until=soon(-1)), seconds=5).outcome is None
    assert not (tmp_path / "counted").exists()


# -- isolation


def test_a_task_finds_nothing_of_the_one_before_it(new_executor: NewExecutor) -> None:
    executor = new_executor(workers=1)
    ends = [outcome_of(executor, job("surroundings", run_id=n)) for n in range(2)]
    assert ends[0].report.worker == ends[1].report.worker
    assert ends[0].report.xcoms == ends[1].report.xcoms
    assert ends[0].report.xcoms[0][1].startswith("None ")
    ended = outcome_of(executor, job("sleep:1000", run_id=5, timeout=timedelta(seconds=0.2)), seconds=4)
    assert isinstance(ended.outcome, Failed)


def test_a_worker_is_replaced_after_so_many_jobs(new_executor: NewExecutor) -> None:
    executor = new_executor(workers=1, most_jobs=3)
    pids = [outcome_of(executor, job("pid", run_id=n)).report.worker for n in range(7)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]


@pytest.mark.parametrize("first", ["sleep:1000", "leave:1"])
def test_a_worker_is_replaced_after_a_task_that_was_torn_off(new_executor: NewExecutor, first: str) -> None:
    executor = new_executor(workers=1)
    before = outcome_of(executor, job("pid")).report.worker
    outcome_of(executor, job(first, run_id=2, timeout=timedelta(seconds=0.1)))
    assert outcome_of(executor, job("pid", run_id=3)).report.worker != before


def test_a_task_that_holds_the_interpreters_lock_is_not_taken_for_lost(executor: Executor) -> None:
    """It cannot answer while it does, and lives."""
    one = job("busy:60000000", until=soon(0.4))
    executor.submit(one)
    executor.renew(soon(3600))
    assert end_of(executor, one).outcome == Succeeded()
