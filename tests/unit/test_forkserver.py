"""The process that all others are forked from: it tells how they end, and none of them outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import rooted
from harness.executing import appears, is_alive, wait_gone
from harness.forking import ran, started
from tidemill.adapters.processes import forkserver
from tidemill.adapters.processes.channel import Frames, Garbled, Kind, frame


@pytest.fixture
def start() -> Iterator[Any]:
    """Starts a function in a process of its own, which is ended after the test."""
    processes: list[BaseProcess] = []

    def start_one(*args: Any) -> BaseProcess:
        processes.append(started(*args))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.join()


def workers(folder: Path) -> list[int]:
    appears(folder / "begun-1")
    return [int(pid) for pid in appears(folder / "workers").split()]


def test_ends_of_children_are_told(tmp_path: Path) -> None:
    assert ran(rooted.tell_ends, tmp_path) == 0
    assert json.loads(appears(tmp_path / "ends")) == {"three": 3, "killed": -9, "raised": 70}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_root_asked_to_end_asks_its_children_and_leaves_none(start: Any, tmp_path: Path, number: int) -> None:
    root = start(rooted.run_until_stopped, tmp_path, 0)
    pids = [int(appears(tmp_path / name)) for name in ("polite", "scheduler")] + workers(tmp_path)
    os.kill(root.pid, number)
    root.join(20)
    assert root.exitcode == 0
    assert (tmp_path / "asked").exists()
    assert (tmp_path / "stopped-1").exists(), "the task was not told"
    assert not any(is_alive(pid) for pid in pids)


def test_a_child_that_does_not_end_is_killed(start: Any, tmp_path: Path) -> None:
    root = start(rooted.run_until_stopped, tmp_path, 0.3)
    stubborn = int(appears(tmp_path / "stubborn"))
    appears(tmp_path / "polite")
    os.kill(root.pid, signal.SIGTERM)
    root.join(20)
    assert root.exitcode == 0
    assert not is_alive(stubborn)


def test_a_second_interrupt_kills_at_once(start: Any, tmp_path: Path) -> None:
    root = start(rooted.run_until_stopped, tmp_path, 1000)
    stubborn = int(appears(tmp_path / "stubborn"))
    appears(tmp_path / "polite")
    os.kill(root.pid, signal.SIGINT)
    appears(tmp_path / "asked")
    os.kill(root.pid, signal.SIGINT)
    root.join(20)
    assert root.exitcode == 0
    assert not is_alive(stubborn)


def test_children_and_workers_end_with_a_root_that_is_killed(start: Any, tmp_path: Path) -> None:
    root = start(rooted.run_until_stopped, tmp_path, 0)
    pids = [int(appears(tmp_path / name)) for name in ("polite", "scheduler")] + workers(tmp_path)
    os.kill(root.pid, signal.SIGKILL)
    wait_gone(*pids, seconds=20)
    assert (tmp_path / "stopped-1").exists(), "the task was not told"


def test_workers_end_with_the_scheduler_that_had_them_forked(start: Any, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    root = start(rooted.restart, tmp_path)
    for number in range(3):
        folder = tmp_path / str(number)
        scheduler, own = int(appears(folder / "scheduler")), workers(folder)
        assert root.is_alive()
        os.kill(scheduler, signal.SIGKILL)
        wait_gone(scheduler, *own, seconds=20)
    root.join(20)
    assert appears(tmp_path / "ends").strip() == "[-9, -9, -9]"


@given(
    st.lists(st.tuples(st.sampled_from(Kind), st.integers(0, 2**64 - 1), st.binary(max_size=50)), max_size=8),
    st.lists(st.integers(1, 20)),
)
def test_frames_are_the_same_however_the_stream_is_cut(sent: list[tuple[Kind, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(frame(*one) for one in sent)
    frames, found = Frames(), []
    for size in cuts:
        found += frames.feed(stream[:size])
        stream = stream[size:]
    assert found + frames.feed(stream) == sent


@pytest.mark.parametrize("data", [b"\xff" * 20, b"\0\0\0\0\x63" + b"\0" * 8])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        Frames().feed(data)


def test_a_child_that_has_no_group_of_its_own_yet_is_killed_too() -> None:
    """Between its fork and its session a child is in its parent's group; who waits for it then would wait for ever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    forkserver._kill_child(child.pid)
    assert child.wait(10) == -signal.SIGKILL
