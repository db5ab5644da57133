"""What others POST: on the disk before it is answered, each body once, in the batch that took it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.extracting import DAY
from harness.project import Project
from tidemill import sources
from tidemill.adapters.webhook.inbox import Inbox
from tidemill.model.errors import Refused
from tidemill.model.run import RunState
from tidemill.wiring.connectors import open_inbox


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(tmp_path / "state" / "inbox.db")


@pytest.fixture
def project(tmp_path: Path) -> Any:
    made = Project(tmp_path / "project")
    yield made
    made.close()


def waiting(inbox: Inbox, after: int = 0) -> list[tuple[int, bytes]]:
    last = inbox.last("shop", "orders")
    return [(one.number, one.body) for one in inbox.taken("shop", "orders", after, last)]


def test_bodies_are_numbered_as_they_come_and_by_feed(inbox: Inbox) -> None:
    assert [inbox.put("shop", "orders", None, b"%d" % n, DAY) for n in range(3)] == [1, 2, 3]
    assert inbox.put("shop", "others", None, b"x", DAY) == 4
    assert waiting(inbox) == [(1, b"0"), (2, b"1"), (3, b"2")]
    assert waiting(inbox, 2) == [(3, b"2")]


def test_a_key_counts_once_and_for_one_body(inbox: Inbox) -> None:
    first = inbox.put("shop", "orders", "k", b"1", DAY)
    assert inbox.put("shop", "orders", "k", b"1", DAY) == first
    assert inbox.put("shop", "others", "k", b"2", DAY) != first
    with pytest.raises(Refused, match="another body"):
        inbox.put("shop", "orders", "k", b"3", DAY)
    assert inbox.put("shop", "orders", "l", b"4", DAY) > first
    assert [body for _, body in waiting(inbox)] == [b"1", b"4"]


def test_keys_outlive_their_bodies_for_a_month(inbox: Inbox) -> None:
    first = inbox.put("shop", "orders", "k", b"1", DAY)
    last = inbox.put("shop", "orders", None, b"2", DAY)
    inbox.forget("shop", "orders", last, DAY)
    assert inbox.put("shop", "orders", "k", b"1", DAY) == first
    with pytest.raises(Refused, match="in the archive"):
        waiting(inbox)
    inbox.forget("shop", "orders", last, DAY + timedelta(days=31))
    assert inbox.put("shop", "orders", "k", b"1", DAY) > last


def test_many_at_once_lose_nothing(inbox: Inbox, tmp_path: Path) -> None:
    other = Inbox(tmp_path / "state" / "inbox.db")
    numbers: list[int] = []

    def post(into: Inbox, who: int) -> None:
        numbers.extend(into.put("shop", "orders", f"{n}", b"%d" % n, DAY) for n in range(20))

    threads = [threading.Thread(target=post, args=(one, who)) for who, one in enumerate((inbox, inbox, other, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 80
    assert sorted(body for _, body in waiting(inbox)) == sorted(b"%d" % n for n in range(20))


POSTING = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from tidemill.adapters.webhook.inbox import Inbox
inbox = Inbox(Path(sys.argv[1]))
for n in range(1_000_000):
    inbox.put("shop", "orders", f"key {n}", b"%d" % n, datetime.now(UTC))
    print(n, flush=True)
"""


def test_a_death_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """Killed in the middle, and begun anew with the same keys: every answered body is there, and each once."""
    file, answered = tmp_path / "inbox.db", 0
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", POSTING, str(file)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(answered + 7):
            said = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        answered = int((rest or [said])[-1]) + 1
        bodies = [int(body) for _, body in waiting(Inbox(file))]
        assert bodies[:answered] == list(range(answered))
        assert len(bodies) in (answered, answered + 1)


def test_a_batch_takes_what_is_there_and_the_next_goes_on(project: Project) -> None:
    p, inbox = project.pipeline(), open_inbox(project.settings)
    p.source(sources.webhook(records="$.orders"), name="orders")
    inbox.put("shop", "orders", None, b'{"orders": [{"id": 1}, {"id": 2}]}', DAY)
    inbox.put("shop", "orders", None, b'{"orders": []}\n{"orders": [{"id": 3}]}', DAY)
    assert project.run(p, "2026-01-01").ok
    assert project.table("shop.orders") == [(1,), (2,), (3,)]
    inbox.put("shop", "orders", None, b'{"orders": [{"id": 4}]}', DAY)
    assert project.run(p, "2026-01-02").ok
    assert project.run(p, "2026-01-01").ok
    assert project.run(p, "2026-01-03").ok
    assert project.table("shop.orders") == [(1,), (2,), (3,), (4,)]
    parts = [path.read_bytes() for path in sorted((project.root / ".tidemill/archive").rglob("a*-posted-*"))]
    assert parts[0] == b'{"orders": [{"id": 1}, {"id": 2}]}\n{"orders": []}\n{"orders": [{"id": 3}]}\n'


def test_what_a_failed_batch_took_is_not_taken_again(project: Project) -> None:
    p, inbox = project.pipeline(), open_inbox(project.settings)
    p.source(sources.webhook(), name="orders", columns={"id": "long"}, max_rejected=0)
    inbox.put("shop", "orders", None, b'{"id": "no number"}', DAY)
    assert project.run(p, "2026-01-01").state is RunState.FAILED
    inbox.put("shop", "orders", None, b'{"id": 2}', DAY)
    p = project.pipeline()
    p.source(sources.webhook(), name="orders", columns={"id": "string"})
    assert project.run(p, "2026-01-01").ok
    assert project.run(p, "2026-01-02").ok
    assert project.table("shop.orders") == [("2",), ("no number",)]
