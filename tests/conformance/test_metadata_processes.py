"""Promises of the metadata store that only real processes can break: races, and death in the middle of a write."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import metadata_worker, warm
from harness.metadata_worker import DELAYS, FLIGHTS
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.branch import MAIN
from tidemill.testing.clock import ManualClock

OpenStore = Callable[..., SqlMetadata]


class Worker:
    """One process of `metadata_worker.py`."""

    def __init__(self, action: str, url: str, name: str) -> None:
        command = [sys.executable, str(Path(metadata_worker.__file__)), action, url, name]
        self._process = warm.started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, line: str = "go") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> str:
        """SIGKILL; returns what it had said and nobody had heard."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        return self._process.stdout.read()


@pytest.fixture
def workers() -> Iterator[Callable[..., list[Worker]]]:
    """Starts workers, and kills those that still live after the test."""
    with contextlib.ExitStack() as stack:

        def start(action: str, url: str, *names: str) -> list[Worker]:
            made = [Worker(action, url, name) for name in names]
            for worker in made:
                stack.callback(worker.kill)
            assert [worker.hear() for worker in made] == ["ready"] * len(made)
            return made

        yield start


def ask(workers: list[Worker], line: str) -> list[str]:
    """Let all do one step at once."""
    for worker in workers:
        worker.say(line)
    return [worker.hear() for worker in workers]


def test_of_two_processes_that_swap_the_same_pointer_exactly_one_wins(
    database: str, open_store: OpenStore, workers: Callable[..., list[Worker]]
) -> None:
    both, at = workers("swap", database, "a", "b"), "none"
    for _ in range(15):
        said = ask(both, at)
        assert sorted(answer == "conflict" for answer in said) == [False, True]
        (at,) = (answer for answer in said if answer != "conflict")
    with open_store(database).read() as tx:
        assert tx.refs.pointers(MAIN) == {FLIGHTS: at}
        log = tx.refs.commits(MAIN)
        changes = [commit.changes[FLIGHTS] for commit in reversed(log)]
    assert len(changes) == 15
    assert [before for before, _ in changes] == [None, *(after for _, after in changes[:-1])], "an unbroken chain"
    assert [commit.at for commit in log] == sorted({commit.at for commit in log}, reverse=True)


def test_of_two_processes_that_start_the_same_batch_exactly_one_runs_it(
    database: str, open_store: OpenStore, workers: Callable[..., list[Worker]]
) -> None:
    both = workers("start", database, "a", "b")
    for number in range(15):
        said = sorted(ask(both, f"key {number}"))
        assert said in (["a 1", "busy a"], ["b 1", "busy b"])
    with open_store(database).read() as tx:
        assert len(tx.batches.recent()) == len(tx.runs.recent()) == 15


def test_of_two_processes_that_make_the_same_branch_exactly_one_does(
    database: str, workers: Callable[..., list[Worker]]
) -> None:
    both = workers("create", database, "a", "b")
    for number in range(10):
        assert sorted(ask(both, f"branch-{number}"))[1] == "refused"


def test_processes_that_migrate_a_new_database_at_once_do_no_harm(
    empty_database: str, open_store: OpenStore, workers: Callable[..., list[Worker]]
) -> None:
    assert ask(workers("migrate", empty_database, "a", "b"), "go") == ["1"] * 2
    with open_store(empty_database).write() as tx:
        assert [ref.name for ref in tx.refs.all()] == [MAIN]


def test_a_process_killed_within_a_write_leaves_the_old_state_and_no_lock(
    database: str, open_store: OpenStore, workers: Callable[..., list[Worker]], clock: ManualClock
) -> None:
    (worker,) = workers("stop_within", database, "a")
    worker.say()
    assert worker.hear() == "within"
    worker.kill()
    with open_store(database, lock_wait=10).write() as tx:
        assert (tx.refs.pointers(MAIN), tx.refs.commits(MAIN), tx.batches.recent()) == ({}, [], [])
        assert tx.events.pending("published") == []
        tx.refs.swap(MAIN, FLIGHTS, None, "p1")


@pytest.mark.slow
def test_a_process_killed_at_any_moment_loses_nothing_it_was_told_is_done_and_leaves_nothing_half_done(
    database: str, open_store: OpenStore, workers: Callable[..., list[Worker]]
) -> None:
    moments = random.Random(7)
    for _ in range(3):
        (worker,) = workers("publish_for_ever", database, "a")
        worker.say()
        worker.hear()
        time.sleep(moments.uniform(0, 0.15))  # not waiting for anything: where it hits is the point
        told = [int(line) for line in worker.kill().split("\n") if line]
        with open_store(database).read() as tx:
            version = tx.bookmarks.get("flights", "feed").version
            assert tx.refs.pointers(MAIN) == {FLIGHTS: f"p{version}", DELAYS: f"p{version}"}
            assert len(tx.refs.commits(MAIN)) == version
            assert [e.payload["version"] for e in tx.events.pending("published", 10**6)] == [*range(1, version + 1)]
        assert version >= max(told, default=1)
