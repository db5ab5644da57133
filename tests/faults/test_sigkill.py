"""SIGKILL of the whole process group at random moments of a backfill, while a reader compares facts with their sum.

TIDEMILL_SIGKILLS sets the number of kills: 200 is the figure of record, the default keeps the suite short.
TIDEMILL_SIGKILL_SEED repeats the moments of an earlier session.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from harness import crashing, racing, services
from harness.forking import PATIENCE, pipe, ran, started
from tidemill.wiring.services import alive
from tidemill.wiring.settings import Settings

KILLS = int(os.environ.get("TIDEMILL_SIGKILLS", "20"))
SEED = int(os.environ.get("TIDEMILL_SIGKILL_SEED", random.randrange(1 << 32)))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 6 * KILLS)]

DAYS = crashing.DAYS
#: The factor by which the time of kills is adapted.
ADAPT = 1.1


@dataclass
class Bench:
    """Folders of backfills, one after another, each watched by a reader of its own."""

    base: Path
    #: Seconds before which a kill comes. Adapted to how fast this computer is at present.
    longest: float = 0.0
    kills: int = 0
    #: How many kills came after a publish since the one before.
    advanced: int = 0
    completed: int = 0
    reads: int = 0
    states: int = 0
    #: Seconds after which each kill came.
    delays: list[float] = field(default_factory=list)
    folder: int = 0

    @property
    def root(self) -> Path:
        return self.base / str(self.folder)

    def told(self) -> str:
        last = ", ".join(f"{d:.3f}" for d in self.delays[-8:])
        return (
            f"seed {SEED}: {self.kills} kills, {self.advanced} of them after a publish, {self.completed} completed "
            f"backfills, {self.reads} reads of {self.states} states; killed after ... {last} s"
        )


def report_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else "no report"


def start_backfill(bench: Bench, days: list[str] = DAYS) -> tuple[BaseProcess, Path]:
    """Start it, and wait until it leads its process group."""
    report = bench.base / f"backfill-{bench.folder}.txt"
    report.unlink(missing_ok=True)
    ready, tell = pipe()
    child = started(racing.backfill, bench.root, days, tell, report)
    tell.close()
    assert ready.poll(PATIENCE), "the backfill does not start"
    assert ready.recv() == "ready"
    ready.close()
    return child, report


def start_reader(bench: Bench) -> tuple[BaseProcess, Connection, Path]:
    report = bench.base / f"reader-{bench.folder}.txt"
    stop, tell = pipe()
    child = started(racing.compare, bench.root, stop, report)
    stop.close()
    return child, tell, report


def publishes(root: Path) -> int:
    """How many batches of a project are published, by plain SQL."""
    database = root / Settings(root, "test").metadata_url.removeprefix("sqlite:///")
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute("select count(*) from batches where state = 'published'").fetchone()
    except sqlite3.OperationalError:  # no file yet, or no tables in it
        return 0
    return int(found)


def backfill_under_fire(bench: Bench, rng: random.Random) -> None:
    """One backfill in a fresh folder, killed and begun again until it completes or enough kills have happened.

    Kills come later where backfills get nowhere, and earlier where they advance: there is a publish to two kills, and
    so they fall before, into and after all steps of runs.
    """
    bench.folder += 1
    crashing.write_feeds(bench.root, DAYS)
    reader, tell, noted = start_reader(bench)
    while True:
        done = publishes(bench.root)
        child, report = start_backfill(bench)
        delay = rng.uniform(0, bench.longest) if bench.kills < KILLS else PATIENCE
        child.join(delay)
        if child.exitcode is None:
            assert bench.kills < KILLS, f"the backfill hangs; {bench.told()}"
            assert child.pid is not None
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(child.pid, signal.SIGKILL)
            child.join(PATIENCE)
        if child.exitcode != -signal.SIGKILL:
            break
        bench.kills += 1
        bench.delays.append(delay)
        advance = publishes(bench.root) - done
        bench.advanced += advance > 0
        bench.longest *= ADAPT ** (1 - 2 * advance)
        assert reader.is_alive(), f"the reader ended: {report_of(noted)}; {bench.told()}"
    assert child.exitcode == 0, f"{report_of(report)}; {bench.told()}"
    tell.send("stop")
    reader.join(PATIENCE)
    assert reader.exitcode == 0, f"{report_of(noted)}; {bench.told()}"
    seen = json.loads(noted.read_text(encoding="utf-8"))
    bench.reads += seen["reads"]
    bench.states += len(seen["states"])
    assert ran(racing.verify, bench.root, DAYS, report) == 0, f"{report_of(report)}; {bench.told()}"
    bench.completed += 1
    shutil.rmtree(bench.root)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the state of processes is read from /proc")
def test_a_killed_process_that_its_parent_has_not_waited_for_is_gone() -> None:
    """In a container without an init process it would else block its batch until the lease ends."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = f"{socket.gethostname()}:{child.pid}:0"
    assert alive(holder)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(holder)
    child.communicate()
    assert not alive(holder)


def test_kills_at_random_moments_are_never_seen_by_a_reader(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    bench = Bench(tmp_path)
    crashing.write_feeds(bench.root, DAYS)
    child, report = start_backfill(bench, DAYS[:3])
    child.join(PATIENCE)
    assert child.exitcode == 0, report_of(report)
    setup, *runs = json.loads(report_of(report))
    bench.longest = setup + 2 * sum(runs) / len(runs)
    rng = random.Random(SEED)
    while bench.kills < KILLS:
        backfill_under_fire(bench, rng)
    services.tell(request, f"kills: {bench.told()}; a run takes {sum(runs) / len(runs):.2f} s")
    assert bench.completed >= 1
    assert bench.reads > bench.kills
