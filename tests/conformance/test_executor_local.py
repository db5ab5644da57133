"""Port `executor` on one machine: what only it promises."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness.executing import appears, end_of, job, outcome_of, serving, wait_gone, wait_until
from tidemill.adapters.processes.executor import LocalExecutor
from tidemill.adapters.processes.forker import ServerGone
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.instance import Succeeded
from tidemill.ports.executor import JobEnded

ExecutorOf: TypeAlias = Callable[..., LocalExecutor]


@pytest.fixture
def executor_of() -> Iterator[ExecutorOf]:
    """Makes executors with a fork server of their own."""
    with contextlib.ExitStack() as stack:

        def new(**options: Any) -> LocalExecutor:
            forker, server = stack.enter_context(serving())
            made = LocalExecutor(forker, SystemClock(), **options)
            made.server = server  # type: ignore[attr-defined]
            stack.callback(made.close)
            return made

        yield new


def test_what_is_free_is_shared_by_the_queues(executor_of: ExecutorOf, tmp_path: Path) -> None:
    executor = executor_of(workers=2, backlog=3)
    assert sum(executor.free(["default", "a"]).values()) == 5
    assert sorted(executor.free(["default", "a"])) == ["a", "default"]
    for n in range(5):
        executor.submit(job(f"hold:{tmp_path}", run_id=n, queue="a"))
    assert dict(executor.free(["default", "a"])) == {"default": 0, "a": 0}
    (tmp_path / "go").touch()
    wait_until(executor, lambda events: sum(isinstance(event, JobEnded) for event in events) == 5)
    assert sum(executor.free(["default"]).values()) == 5


def test_a_worker_is_warm_before_the_first_job(executor_of: ExecutorOf) -> None:
    executor = executor_of(workers=2)
    wait_until(executor, lambda _: len(executor.workers) == 1)
    assert outcome_of(executor, job("pid")).report.worker == str(*executor.workers)


def test_idle_workers_are_ended_but_for_one(executor_of: ExecutorOf, tmp_path: Path) -> None:
    executor = executor_of(workers=3, idle=timedelta(seconds=0.2))
    for n in range(3):
        executor.submit(job(f"hold:{tmp_path}", run_id=n, number=n))
    pids = [int(appears(tmp_path / f"begun-{n}", executor)) for n in range(3)]
    (tmp_path / "go").touch()
    wait_until(executor, lambda _: len(executor.workers) == 1, seconds=10)
    wait_gone(*(set(pids) - set(executor.workers)))


def test_a_worker_that_dies_while_it_waits_costs_no_job(executor_of: ExecutorOf) -> None:
    executor = executor_of(workers=1)
    wait_until(executor, lambda _: len(executor.workers) == 1)
    (before,) = executor.workers
    os.kill(before, 9)
    wait_until(executor, lambda _: not executor.workers)
    assert outcome_of(executor, job("pid")).report.worker != str(before)


def test_what_waits_behind_a_worker_that_dies_is_done_by_another(executor_of: ExecutorOf) -> None:
    """A quick worker has jobs ahead; those that it had not begun are not lost with it."""
    executor = executor_of(workers=1)
    for n in range(10):
        outcome_of(executor, job(run_id=n))
    jobs = [job("os_exit:1", run_id=100), job(run_id=101), job(run_id=102)]
    for one in jobs:
        executor.submit(one)
    assert [end_of(executor, one).outcome for one in jobs] == [None, Succeeded(), Succeeded()]


def test_an_executor_whose_server_is_gone_says_so(executor_of: ExecutorOf, tmp_path: Path) -> None:
    executor = executor_of(workers=1)
    executor.submit(job(f"hold:{tmp_path}"))
    worker = int(appears(tmp_path / "begun-1", executor))
    executor.server.kill()  # type: ignore[attr-defined]
    with pytest.raises(ServerGone):
        wait_until(executor, lambda _: False, seconds=10)
    wait_gone(worker)
    assert (tmp_path / "stopped-1").exists()


def test_a_closed_executor_leaves_no_worker(executor_of: ExecutorOf, tmp_path: Path) -> None:
    executor = executor_of(workers=2)
    executor.submit(job(f"hold:{tmp_path}"))
    executor.submit(job(run_id=2))
    worker = int(appears(tmp_path / "begun-1", executor))
    workers = {worker, *executor.workers}
    executor.close()
    wait_gone(*workers, seconds=10)
    assert (tmp_path / "stopped-1").exists()
