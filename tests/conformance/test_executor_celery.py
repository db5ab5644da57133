"""Port `executor` through brokers: what can go wrong between machines."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from harness import rabbitmq, redis, services
from harness.consuming import SILENT, consuming
from harness.executing import appears, end_of, job, outcome_of, wait_gone, wait_until
from harness.programs import CannotStart, Program
from tidemill.adapters.celery.app import make_app
from tidemill.adapters.celery.executor import CeleryExecutor
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.errors import SettingsError
from tidemill.model.instance import Succeeded
from tidemill.ports.executor import Executor, JobEnded

BROKERS = ["redis_url", "rabbitmq_url"]
ExecutorOf: TypeAlias = Callable[..., CeleryExecutor]


@pytest.fixture
def executor_of() -> Iterator[ExecutorOf]:
    """Makes executors that are closed after the test."""
    with contextlib.ExitStack() as stack:

        def new(url: str, project: str) -> CeleryExecutor:
            made = CeleryExecutor(url, project, SystemClock(), silent=SILENT)
            stack.callback(made.close)
            return made

        yield new


@pytest.fixture(params=BROKERS)
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return "".join(c for c in request.node.name if c.isalnum())


def serve_all(executor: Executor, count: int, seconds: float = 60) -> list[JobEnded]:
    """Wait until so many jobs have ended; acknowledges them."""

    def ends(seen: list[Any]) -> list[JobEnded]:
        return [event for event in seen if isinstance(event, JobEnded)]

    seen = wait_until(executor, lambda seen: len(ends(seen)) >= count, seconds)
    executor.acknowledge(seen)
    return ends(seen)


def test_a_queue_that_nobody_serves_has_no_room(
    url: str, project: str, executor_of: ExecutorOf, tmp_path: Path
) -> None:
    executor = executor_of(url, project)
    with consuming(url, tmp_path / "pids", project=project, queues=("a",)):
        wait_until(executor, lambda _: executor.free(["a"])["a"] > 0)
        assert executor.free(["a", "b"]) == {"a": 4, "b": 0}
    assert executor.free(["a"]) == {"a": 0}


def test_jobs_wait_for_a_consumer_that_comes_later(
    url: str, project: str, executor_of: ExecutorOf, tmp_path: Path
) -> None:
    executor = executor_of(url, project)
    jobs = [job(f"count:{tmp_path / 'counted'}", run_id=n) for n in range(5)]
    for one in jobs:
        executor.submit(one)
    with consuming(url, tmp_path / "pids", project=project):
        assert {e.outcome for e in serve_all(executor, 5)} == {Succeeded()}
    assert len((tmp_path / "counted").read_text().splitlines()) == 5


def test_a_consumer_that_dies_is_silent_and_its_jobs_are_lost(
    url: str, project: str, executor_of: ExecutorOf, tmp_path: Path
) -> None:
    executor = executor_of(url, project)
    with consuming(url, tmp_path / "pids", project=project):
        one = job(f"hold:{tmp_path}")
        executor.submit(one)
        worker = int(appears(tmp_path / "begun-1", executor))
        root, consumer = map(int, appears(tmp_path / "pids").split())
        os.kill(consumer, signal.SIGKILL)
        os.kill(root, signal.SIGKILL)
        died = time.monotonic()
        assert end_of(executor, one, SILENT + 5).outcome is None
        assert time.monotonic() - died > SILENT - 1
        wait_gone(worker, seconds=10)
        # What the broker may deliver again is refused; another consumer serves the next try.
        with consuming(url, tmp_path / "pids2", project=project):
            (tmp_path / "go").touch()
            assert outcome_of(executor, job(f"hold:{tmp_path}", number=2)).outcome == Succeeded()
    assert sorted(path.name for path in tmp_path.glob("begun-*")) == ["begun-1", "begun-2"]


def test_a_frozen_consumer_is_taken_for_lost(url: str, project: str, executor_of: ExecutorOf, tmp_path: Path) -> None:
    executor = executor_of(url, project)
    with consuming(url, tmp_path / "pids", project=project):
        one = job(f"hold:{tmp_path}")
        executor.submit(one)
        appears(tmp_path / "begun-1", executor)
        _, consumer = map(int, appears(tmp_path / "pids").split())
        os.kill(consumer, signal.SIGSTOP)
        try:
            assert end_of(executor, one, SILENT + 5).outcome is None
            assert executor.free(["default"]) == {"default": 0}
        finally:
            os.kill(consumer, signal.SIGCONT)
        # It comes back, and what it still says of the job counts no more.
        (tmp_path / "go").touch()
        wait_until(executor, lambda _: executor.free(["default"])["default"] == 4)
        assert not executor.events()


def test_a_consumer_asked_to_end_finishes_what_it_has_begun(
    url: str, project: str, executor_of: ExecutorOf, tmp_path: Path
) -> None:
    executor = executor_of(url, project)
    with consuming(url, tmp_path / "pids", project=project) as server:
        one, later = job(f"hold:{tmp_path}"), job(run_id=2)
        executor.submit(one)
        appears(tmp_path / "begun-1", executor)
        server.terminate()
        wait_until(executor, lambda _: True)
        executor.submit(later)
        (tmp_path / "go").touch()
        assert end_of(executor, one).outcome == Succeeded()
        server.join(60)
        assert server.exitcode == 0
    with consuming(url, tmp_path / "pids2", project=project):
        assert end_of(executor, later).outcome == Succeeded()


def test_two_schedulers_share_consumers_and_hear_of_their_own_jobs_only(
    url: str, project: str, executor_of: ExecutorOf, tmp_path: Path
) -> None:
    executors = [executor_of(url, project) for _ in range(2)]
    with consuming(url, tmp_path / "pids", project=project):
        for n in range(10):
            for place, executor in enumerate(executors):
                executor.submit(job(run_id=100 * place + n))
        ended = [serve_all(executor, 10) for executor in executors]
    assert [sorted(e.run_id for e in some) for some in ended] == [list(range(10)), list(range(100, 110))]


def test_projects_on_one_broker_do_not_meet(url: str, project: str, executor_of: ExecutorOf, tmp_path: Path) -> None:
    executor = executor_of(url, f"{project}2")
    with consuming(url, tmp_path / "pids", project=project):
        executor.submit(job())
        select.select(executor.handles(), [], [], 2)
        assert not executor.events()
        assert executor.free(["default"]) == {"default": 0}


def test_a_job_that_was_stopped_before_anybody_asked_is_never_begun(
    url: str, project: str, executor_of: ExecutorOf, tmp_path: Path
) -> None:
    executor = executor_of(url, project)
    stopped, other = job(f"count:{tmp_path / 'counted'}"), job(run_id=2)
    executor.submit(stopped)
    executor.stop(1, stopped.key)
    executor.submit(other)
    with consuming(url, tmp_path / "pids", project=project, workers=1):
        assert len(serve_all(executor, 2)) == 2
    assert not (tmp_path / "counted").exists()


@pytest.fixture(params=[redis, rabbitmq])
def own_broker(request: pytest.FixtureRequest) -> Iterator[tuple[str, Program]]:
    """A broker that the test may kill."""
    with contextlib.ExitStack() as stack:
        try:
            url, _, program = stack.enter_context(request.param.running())
        except CannotStart as error:
            services.missing(request.param.__name__, str(error))
        yield url, program


@pytest.mark.slow
def test_a_broker_that_goes_away_and_comes_back_loses_nothing(
    own_broker: tuple[str, Program], executor_of: ExecutorOf, tmp_path: Path
) -> None:
    """Jobs that were waiting, under way, and submitted meanwhile all end well, each begun once."""
    url, broker = own_broker
    executor = executor_of(url, "p")
    with consuming(url, tmp_path / "pids", project="p"):
        executor._silent = 60.0
        held = [job(f"hold:{tmp_path}", run_id=n, number=n) for n in (1, 2)]
        waiting = [job(f"count:{tmp_path / 'counted'}", run_id=n) for n in range(10, 15)]
        for one in held:
            executor.submit(one)
        for n in (1, 2):
            appears(tmp_path / f"begun-{n}", executor)
        for one in waiting:
            executor.submit(one)
        broker.kill()
        late = [job(f"count:{tmp_path / 'counted'}", run_id=n) for n in range(20, 25)]
        for one in late:
            executor.submit(one)
        (tmp_path / "go").touch()
        select.select(executor.handles(), [], [], 2)
        broker.start()
        ended = serve_all(executor, 12)
    assert {e.outcome for e in ended} == {Succeeded()}
    lines = (tmp_path / "counted").read_text().splitlines()
    assert sorted(lines) == sorted(f"{n} 1" for n in (*range(10, 15), *range(20, 25)))


def test_an_address_of_no_broker_is_refused() -> None:
    with pytest.raises(SettingsError, match="no broker"):
        make_app("sqlite:///x")
