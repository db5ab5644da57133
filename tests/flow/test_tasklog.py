"""What a task says is in its log, whoever says it and however its worker ends."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness import talking
from harness.executing import end_of, job, outcome_of, serving
from tidemill.adapters.localfs.tasklogs import LocalTaskLogs
from tidemill.adapters.processes.executor import LocalExecutor
from tidemill.adapters.system.clock import SystemClock
from tidemill.flow.tasklog import captured, write_last_words
from tidemill.model.instance import Succeeded
from tidemill.model.masking import HIDDEN, Masker
from tidemill.ports.executor import Job
from tidemill.ports.tasklogs import LogLine, TryPlace


@pytest.fixture
def logs(tmp_path: Path) -> LocalTaskLogs:
    return LocalTaskLogs(tmp_path / "logs", SystemClock())


@pytest.fixture
def executor(tmp_path: Path, logs: LocalTaskLogs) -> Iterator[LocalExecutor]:
    """Its workers log what they do; it logs how they died."""

    def on_lost(lost: Job, why: str, rests: Sequence[bytes]) -> None:
        write_last_words(logs.open(talking.place_of(lost)), Masker([talking.SECRET]), why, rests)

    with serving(talking.serve_talkers, tmp_path / "logs") as (forker, _):
        made = LocalExecutor(forker, SystemClock(), workers=1, on_lost=on_lost)
        yield made
        made.close()


def log_of(executor: LocalExecutor, logs: LocalTaskLogs, what: str) -> list[LogLine]:
    """Perform a task to its end; its log."""
    one = job(what)
    assert outcome_of(executor, one).outcome == Succeeded()
    return list(logs.read(talking.place_of(one), limit=1_000_000).lines)


def test_a_log_has_all_that_was_said_in_order(executor: LocalExecutor, logs: LocalTaskLogs) -> None:
    found = [(line.level, line.source, line.text) for line in log_of(executor, logs, "talk_in_turns")]
    assert found[:2] == [("INFO", "stdout", "one"), ("INFO", "my.task", "two 2")]
    # A program's two outputs are two files: which of them was written first is not known.
    assert sorted(found[2:5]) == [("INFO", "stderr", "five"), ("INFO", "stdout", "four"), ("INFO", "stdout", "three")]
    assert found[5] == ("INFO", "stderr", "six")
    assert found[6][:2] == ("ERROR", "my.task")
    assert found[6][2].startswith("it failed\nTraceback")
    assert found[6][2].endswith("ValueError: seven")
    assert found[7:] == [("INFO", "stdout", "äch\N{REPLACEMENT CHARACTER}"), ("INFO", "stdout", "no end")]


def test_a_task_that_says_nothing_has_no_file(executor: LocalExecutor, logs: LocalTaskLogs, tmp_path: Path) -> None:
    assert log_of(executor, logs, "say_nothing") == []
    assert not (tmp_path / "logs").exists()


def test_logs_of_tries_in_one_worker_are_apart(executor: LocalExecutor, logs: LocalTaskLogs) -> None:
    first = log_of(executor, logs, "talk_in_turns")
    for n in range(2, 5):
        assert outcome_of(executor, job("talk_in_turns", number=n)).outcome == Succeeded()
        again = logs.read(TryPlace("p", 1, "talk_in_turns", number=n)).lines
        assert sorted(line.text for line in again if "Trace" not in line.text) == sorted(
            line.text for line in first if "Trace" not in line.text
        )


def test_secrets_are_hidden_whoever_says_them(executor: LocalExecutor, logs: LocalTaskLogs) -> None:
    found = [line.text for line in log_of(executor, logs, "talk_secretly")]
    assert sorted(found) == sorted([f"password {HIDDEN}", HIDDEN, HIDDEN])


def test_a_task_that_talks_too_much_fills_its_log_and_no_more(
    executor: LocalExecutor, logs: LocalTaskLogs, tmp_path: Path
) -> None:
    found = log_of(executor, logs, "talk_much")
    assert "cut off" in found[-1].text
    assert found[0].text == "x" * 32_768
    (path,) = tmp_path.rglob("*.jsonl")
    assert path.stat().st_size < 1_001_000


def test_a_log_can_be_read_while_the_task_runs(executor: LocalExecutor, logs: LocalTaskLogs) -> None:
    one = job("talk_and_wait")
    executor.submit(one)
    until = time.monotonic() + 60
    while not (found := logs.read(talking.place_of(one)).lines):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert [line.text for line in found] == ["begun"]
    executor.stop(1, one.key)
    end_of(executor, one)


def test_a_worker_that_died_has_left_its_last_words(executor: LocalExecutor, logs: LocalTaskLogs) -> None:
    one = job("talk_and_die")
    assert outcome_of(executor, one).outcome is None
    texts = [line.text for line in logs.read(talking.place_of(one)).lines]
    assert texts[0] == "last words"
    assert any("Segmentation fault" in text for text in texts), "where it died"
    assert any("in talk_and_die" in text for text in texts)
    assert texts[-1].endswith("it was ended by SIGSEGV.")


def test_capturing_leaves_all_as_it_was(logs: LocalTaskLogs) -> None:
    place = TryPlace("p", 1, "t")
    root = logging.getLogger()
    before = (sys.stdout, sys.stderr, root.handlers, root.level)
    masker = Masker()
    with captured(logs.open(place), masker):
        print("said")
        masker.add("later-known")
        logging.getLogger("a").info("later-known")
    assert (sys.stdout, sys.stderr, root.handlers, root.level) == before
    with pytest.raises(KeyError), captured(logs.open(place), masker):
        print("before it failed", end="")
        raise KeyError
    assert (sys.stdout, sys.stderr, root.handlers, root.level) == before
    assert [line.text for line in logs.read(place).lines] == ["said", HIDDEN, "before it failed"]


def test_a_message_that_does_not_fit_its_arguments_does_no_harm(logs: LocalTaskLogs) -> None:
    place = TryPlace("p", 1, "t")
    with captured(logs.open(place), Masker()):
        logging.getLogger("a").info("%d", "x")
    assert any("Logging error" in line.text for line in logs.read(place).lines)
