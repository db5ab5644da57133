"""What becomes of 200 runs when processes are killed at random: workers, the scheduler, the parser, all at once.

    ./run bench kills [--runs 200] [--every 1.5] [--url postgresql://...] [--seed 1]

A project with task-first runs (six tasks each, with retries) and data-first runs (an append table, fed by files) is
driven by `tidemill up`, while processes get SIGKILL: one every `--every` seconds on average, the root with all of its
children every tenth time; then it is started again. A worker's first data-first task takes 1.3 s to load its
libraries on the machine measured, so kills that come much faster than that leave little but waiting. At the end every
run must have ended well, each batch must be published once, and the table must hold each row once. The exit code is 1
where that is not so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import measure
from figures import keep

DAGS = """
import pathlib, time
import tidemill as tm
from datetime import timedelta

MARKS = pathlib.Path("{marks}")

@tm.dag(schedule="1h", start="{start}", catchup=True, max_active_runs=8,
        default_args={{"retries": 3, "retry_delay": timedelta(seconds=0)}})
def tasks():
    @tm.task
    def begin(ds=None):
        return [1, 2, 3]

    @tm.task
    def work(n, ti=None):
        time.sleep(0.05)
        return n * 10

    @tm.task
    def end(numbers, ti=None):
        time.sleep(0.02)
        assert sorted(numbers) == [10, 20, 30], numbers
        return sum(numbers)

    end(work.expand(n=begin()))

tasks()

rows = tm.Pipeline("rows", schedule="1h", start="{start}", catchup=True, max_active_runs=4, retries=3,
                   retry_delay="1s")

@rows.source
def given(interval):
    for n in range(10):
        yield {{"id": f"{{interval.start:%Y-%m-%dT%H}}-{{n}}", "n": n}}

@rows.table
def kept(given):
    return given.with_columns(twice=tm.col("n") * 2)
"""


def children_of(root: int) -> list[int]:
    """Its processes: scheduler, parser, attendant, workers."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == root and fields[0] != "Z":
            children.append(int(stat.parent.name))
    return sorted(children)


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench kills", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--every", type=float, default=1.5, help="seconds between two kills, on average")
    parser.add_argument("--limit", type=float, default=1800, help="seconds after which it gives up")
    parser.add_argument("--url")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    from datetime import UTC, datetime, timedelta

    each = options.runs // 2
    start = (datetime.now(UTC) - timedelta(hours=each)).replace(minute=0, second=0, microsecond=0)
    with tempfile.TemporaryDirectory(prefix="tidemill-kills-") as name:
        folder = Path(name)
        (folder / "pipelines").mkdir()
        (folder / "marks").mkdir()
        database = f'[metadata]\nurl = "{options.url}"\n' if options.url else ""
        (folder / "tidemill.toml").write_text(f'[project]\nname = "kills"\n{database}')
        text = DAGS.format(marks=folder / "marks", start=start.strftime("%Y-%m-%dT%H:%M"))
        (folder / "pipelines" / "all.py").write_text(text)
        found = harass(folder, each, rng, every=options.every, limit=options.limit)
    print(json.dumps(found, indent=1))
    keep("kills", measure.machine(), found)
    return 0 if found["lost"] == 0 and found["doubled"] == 0 and found["unfinished"] == 0 else 1


def harass(folder: Path, each: int, rng: random.Random, *, every: float, limit: float) -> dict[str, Any]:
    """Kill until all runs have ended; then look."""
    from tidemill.model.run import RUN_ENDS, RunState
    from tidemill.wiring.services import open_metadata, system_clock
    from tidemill.wiring.settings import load_settings

    kills: Counter[str] = Counter()
    log = (folder / "up.log").open("a")
    command = [str(Path(sys.executable).with_name("tidemill")), "--project", str(folder), "up", "--workers", "4"]

    def up() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=log, stderr=log)

    root = up()
    began = time.monotonic()
    metadata = open_metadata(load_settings(folder), system_clock())
    until = began + limit

    def ended() -> tuple[int, int]:
        with metadata.read() as tx:
            last = [tx.runs.last(batch.id) for batch in tx.batches.recent()]
        done = sum(1 for run in last if run is not None and run.state in RUN_ENDS)
        return done, len(last)

    while time.monotonic() < until:
        time.sleep(rng.uniform(0.4, 1.6) * every)
        done, known = ended()
        if done >= 2 * each - 2 and done == known:
            break
        children = children_of(root.pid)
        if not children:
            continue
        if rng.random() < 0.1:
            kills["everything at once"] += 1
            for pid in [root.pid, *children]:
                kill(pid)
            root.wait()
            root = up()
            continue
        kills["one process"] += 1
        kill(rng.choice(children))
    seconds = time.monotonic() - began
    root.send_signal(signal.SIGINT)
    root.wait(60)
    log.close()
    with metadata.read() as tx:
        batches = tx.batches.recent()
        last = {batch.id: tx.runs.last(batch.id) for batch in batches}
        states = Counter(str(run.state) if run else "none" for run in last.values())
        tries = Counter(task.tries for run in tx.runs.recent() for task in tx.runs.tasks(run.id))
        attempts = sum(run.attempt for run in last.values() if run is not None)
        published = [batch.id for batch in batches if batch.published_at is not None]
        commits = Counter(
            commit.batch_id for commit in tx.refs.commits("main") if commit.kind == "publish" and commit.batch_id
        )
        failures = [run.error for run in last.values() if run is not None and run.state is RunState.FAILED]
    metadata.close()
    wanted, ids = rows_of(folder)
    return {
        "runs": len(batches),
        "states": dict(states),
        "seconds": round(seconds, 1),
        "kills": dict(kills),
        "attempts": attempts,
        "tries of tasks": {str(number): count for number, count in sorted(tries.items())},
        "published": len(published),
        "unfinished": sum(1 for run in last.values() if run is None or run.state not in RUN_ENDS),
        "lost": len(wanted - set(ids)) + sum(count for state, count in states.items() if state != "success"),
        "doubled": len(ids) - len(set(ids)) + sum(count - 1 for count in commits.values()),
        "failures": failures[:5],
    }


def rows_of(folder: Path) -> tuple[set[str], list[str]]:
    """Ids that should be in the table, by its published batches, and those that are."""
    import tidemill as tm

    project = str(folder)
    found = tm.query("select id from rows.kept", project=project).to_arrow()
    batches = tm.query(
        "select strftime(interval_start, '%Y-%m-%dT%H') as h from tidemill.batches "
        "where pipeline = 'rows' and state = 'published'",
        project=project,
    ).to_arrow()
    hours = batches.column("h").to_pylist()
    return {f"{hour}-{n}" for hour in hours for n in range(10)}, found.column("id").to_pylist()


def kill(pid: int) -> None:
    """SIGKILL; it may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
