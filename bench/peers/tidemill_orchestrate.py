"""Tidemill as an orchestrator: `tidemill up` in a project of its own, no-op tasks, real workers, a durable database.

Called by bench/orchestrate.py with a folder and what to measure; prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidemill.adapters.sql.store import SqlMetadata
from tidemill.flow.control import trigger
from tidemill.model.run import RUN_ENDS, RunState
from tidemill.wiring.services import open_metadata, system_clock
from tidemill.wiring.serving import ring
from tidemill.wiring.settings import load_settings

DAGS = """
import tidemill as tm
from tidemill.operators import PythonOperator


def noop():
    return None


SHAPES = (("one", 1, False), ("chain20", 20, True), ("par1000", 1000, False), ("par10000", 10000, False))
for name, count, chained in SHAPES:
    with tm.DAG(name):
        before = None
        for number in range(count):
            task = PythonOperator(task_id=f"t{number}", python_callable=noop)
            if chained and before is not None:
                before >> task
            before = task

with tm.DAG("first", schedule="@daily", start="2026-01-01"):
    PythonOperator(task_id="t", python_callable=noop)
"""
SMALL = """
import tidemill as tm
from tidemill.operators import EmptyOperator

with tm.DAG("small{number}"):
    EmptyOperator(task_id="{task}")
"""
LIMIT = 300.0


class Project:
    """A project, and `tidemill up` in it."""

    def __init__(self, folder: Path, url: str | None, files: dict[str, str]) -> None:
        (folder / "pipelines").mkdir(parents=True)
        database = f'[metadata]\nurl = "{url}"\n' if url else ""
        (folder / "tidemill.toml").write_text(f'[project]\nname = "bench"\n{database}', encoding="utf-8")
        for name, text in files.items():
            (folder / "pipelines" / f"{name}.py").write_text(text, encoding="utf-8")
        self.folder = folder
        self.settings = load_settings(folder)
        self.metadata: SqlMetadata | None = None
        self.began = time.monotonic()
        self.began_at = time.time()
        with (folder / "up.log").open("w") as log:
            self.root = subprocess.Popen(
                [str(Path(sys.executable).with_name("tidemill")), "--project", str(folder), "up"],
                stdout=log,
                stderr=log,
            )

    def connect(self) -> SqlMetadata:
        """The database, once it is there."""
        if self.metadata is None:
            made = open_metadata(self.settings, system_clock())
            assert isinstance(made, SqlMetadata)
            self.metadata = made
        return self.metadata

    def close(self) -> None:
        """End it."""
        self.root.send_signal(signal.SIGINT)
        self.root.wait(60)
        if self.metadata is not None:
            self.metadata.close()

    def wait_for(self, pipeline: str) -> None:
        """Until a pipeline is known."""

        def known() -> bool:
            with self.connect().read() as tx:
                return tx.definitions.pipeline(pipeline) is not None

        wait(known)

    def run(self, pipeline: str) -> float:
        """Seconds from asking for a run to its recorded end."""
        metadata = self.connect()
        run = trigger(metadata, pipeline, system_clock().now())
        ring(self.settings)

        def ended() -> bool:
            with metadata.read() as tx:
                found = tx.runs.get(run.id)
                return found is not None and found.state in RUN_ENDS

        wait(ended)
        with metadata.read() as tx:
            done = tx.runs.get(run.id)
            assert done is not None
            assert done.ended_at is not None
            assert done.state is RunState.SUCCESS, done.error
            if pipeline == "chain20":
                assert len(tx.runs.tasks(run.id)) == 20
        return (done.ended_at - run.created_at).total_seconds()

    def tree(self) -> list[int]:
        """Process ids of the root and all below it."""
        below: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found = [self.root.pid]
        for pid in found:
            found += below.get(pid, [])
        return found


def wait(what: Callable[[], bool], every: float = 0.02) -> None:
    """Look until it is so."""
    until = time.monotonic() + LIMIT
    while not what():
        if time.monotonic() > until:
            raise SystemExit("it took too long")
        time.sleep(every)


def pss(pid: int) -> int:
    """Kilobytes of a process, what it shares counted by its part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def ticks(pids: list[int]) -> int:
    """Processor time of processes."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


def idle(project: Project, settle: float, window: float) -> dict[str, Any]:
    """Processes, memory and processor time with nothing to do."""
    time.sleep(settle)
    pids = project.tree()
    before, began = ticks(pids), time.monotonic()
    time.sleep(window)
    used = (ticks(pids) - before) / os.sysconf("SC_CLK_TCK")
    after = project.tree()
    return {
        "processes": len(after),
        "pss_mb": round(sum(map(pss, after)) / 1024, 1),
        "cpu_percent": round(100 * used / (time.monotonic() - began), 3),
        "window_s": window,
    }


def startup(folder: Path, url: str | None) -> dict[str, Any]:
    """From the start of `tidemill up` to the first finished task."""
    project = Project(folder, url, {"dags": DAGS})
    found: list[float] = []

    def finished() -> bool:
        try:
            with project.connect().read() as tx:
                tasks = [task for run in tx.runs.recent(pipeline="first") for task in tx.runs.tasks(run.id)]
        except Exception:
            return False  # the database is being made
        ends = [task.ended_at.timestamp() for task in tasks if task.ended_at is not None]
        found[:] = [min(ends) - project.began_at] if ends else []
        return bool(ends)

    wait(finished, 0.05)
    made: dict[str, Any] = {"first_task_s": round(found[0], 3)}
    project.wait_for("par10000")
    made["idle"] = idle(project, 65, 60)
    project.close()
    return made


def throughput(folder: Path, url: str | None, repeats: int) -> dict[str, Any]:
    """Chains and wide runs."""
    project = Project(folder, url, {"dags": DAGS})
    project.wait_for("par10000")
    project.run("one")
    project.run("chain20")
    chains = [project.run("chain20") / 20 * 1000 for _ in range(repeats)]
    wide = [1000 / project.run("par1000") for _ in range(3)]
    many = 10_000 / project.run("par10000")
    project.close()
    return {
        "chain_ms_per_task": round(statistics.median(chains), 2),
        "chain_ms_per_task_worst": round(max(chains), 2),
        "par1000_tasks_per_s": round(statistics.median(wide)),
        "par10000_tasks_per_s": round(many),
    }


def history(folder: Path, url: str | None, finished: int) -> dict[str, Any]:
    """The same chain before and after so many finished runs are in the database."""
    project = Project(folder, url, {"dags": DAGS})
    project.wait_for("chain20")
    project.run("chain20")
    before = statistics.median(project.run("chain20") / 20 * 1000 for _ in range(7))
    fill(project.connect(), finished)
    project.run("chain20")
    after = statistics.median(project.run("chain20") / 20 * 1000 for _ in range(7))
    project.close()
    return {"runs": finished, "before_ms_per_task": round(before, 2), "after_ms_per_task": round(after, 2)}


def fill(metadata: SqlMetadata, count: int) -> None:
    """Put finished runs with their batches and a task each into the database."""
    from sqlalchemy import text

    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
    with metadata.session(writing=True) as session:
        at = "'2025-01-01 00:00:00.000000'"
        at = at if session.dialect == "sqlite" else f"CAST({at} AS timestamptz)"
        definition = "(SELECT max(id) FROM definitions WHERE pipeline = 'chain20')"
        for statement in (
            f"INSERT INTO batches (project, pipeline, run_key, state, created_at, published_at) {numbers}"
            f"SELECT 'bench', 'chain20', 'old-' || i, 'published', {at}, {at} FROM n",
            f"INSERT INTO fences (project, purpose, at) {numbers}SELECT 'bench', 'old ' || i, {at} FROM n",
            "INSERT INTO runs (project, batch_id, attempt, state, fence, created_at, started_at, ended_at, kind,"
            f" definition_id, pipeline) SELECT 'bench', b.id, 1, 'success', f.id, {at}, {at}, {at}, 'manual',"
            f" {definition}, b.pipeline"
            " FROM batches b JOIN fences f ON f.purpose = 'old ' || substr(b.run_key, 5) WHERE b.run_key LIKE 'old-%'",
            "INSERT INTO tasks (run_id, task, map_index, state, tries, failed, lost, started_at, ended_at)"
            f" SELECT id, 't0', -1, 'success', 1, 0, 0, {at}, {at} FROM runs WHERE created_at = {at}",
        ):
            session._connection.execute(text(statement))


def files(folder: Path, url: str | None, count: int) -> dict[str, Any]:
    """Many files: how long the first look takes, and until a changed one is recorded."""
    names = {f"small{number}": SMALL.format(number=number, task="a") for number in range(count)}
    project = Project(folder, url, names)
    metadata = project.connect()

    def all_known() -> bool:
        with metadata.read() as tx:
            return len(tx.definitions.pipelines()) >= count

    wait(all_known, 0.2)
    first = time.monotonic() - project.began
    time.sleep(3)
    seen = []
    for number in (0, count // 2, count - 1):
        with metadata.read() as tx:
            record = tx.definitions.pipeline(f"small{number}")
            assert record is not None
        made = folder / "new.tmp"
        made.write_text(SMALL.format(number=number, task="b"), encoding="utf-8")
        began = time.monotonic()
        made.rename(folder / "pipelines" / f"small{number}.py")

        def changed(name: str = f"small{number}", before: int = record.definition_id) -> bool:
            with metadata.read() as tx:
                now = tx.definitions.pipeline(name)
                return now is not None and now.definition_id != before

        wait(changed, 0.01)
        seen.append(time.monotonic() - began)
    project.close()
    return {"files": count, "first_look_s": round(first, 2), "change_seen_s": round(max(seen), 2)}


def fsync(folder: Path) -> float:
    """Milliseconds that the disk takes to make a page durable."""
    taken = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(200):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--do", default="startup,throughput,history,files")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {"fsync_ms": round(fsync(options.folder), 3)}
    todo = options.do.split(",")
    if "startup" in todo:
        made |= startup(options.folder / "startup", options.url)
    if "throughput" in todo:
        made |= throughput(options.folder / "throughput", options.url, options.repeats)
    if "history" in todo:
        made["history"] = history(options.folder / "history", options.url, 100_000)
    if "files" in todo:
        made["files"] = files(options.folder / "files", options.url, 5_000)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
