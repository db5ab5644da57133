"""Tidemill as an orchestrator beside Airflow, Dagster, Prefect and DBOS, with no-op tasks on the same machine.

    ./run bench orchestrate [--only tidemill,airflow,...] [--do startup,throughput,history,files]

Each is as its users have it: durable state, real worker processes where it has them; each in a virtual environment of
its own. A peer that cannot be installed or run makes the bench fail. Tidemill runs on SQLite (synchronous=FULL), and on
PostgreSQL where the server's programs are installed. The exit code is 1 where a figure of Tidemill's is over its limit.

- *chain*: 20 tasks, one after another: milliseconds a task, from asking for the run to its recorded end.
- *wide*: 1,000 independent tasks in a run (200 for peers that would take minutes): tasks a second.
- *first task*: seconds from the command that starts everything to the end of the first task.
- *idle*: processes, memory (PSS: what is shared is counted by parts), and processor time, with nothing to do.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import environments
import measure
from figures import keep

PEERS = Path(__file__).resolve().parent / "peers"
#: Where Tidemill's figures must be: (what, most or least, limit).
LIMITS = {
    "chain_ms_per_task": ("most", {"sqlite": 4.0, "postgresql": 8.0}),
    "par1000_tasks_per_s": ("least", {"sqlite": 700.0, "postgresql": 500.0}),
    "first_task_s": ("most", {"sqlite": 1.5}),
}


def measured(name: str, script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a peer's script in its environment; what it prints last is its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [environments.python(name), str(PEERS / script), str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"{name} could not be measured:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    print(f"{name:<22} {json.dumps(found)}", flush=True)
    return found


def over(found: dict[str, Any], database: str) -> list[str]:
    """Figures of Tidemill's that are not where they must be."""
    missed = []
    for name, (side, limits) in LIMITS.items():
        limit, value = limits.get(database), found.get(name)
        if limit is None or value is None:
            continue
        # What the disk takes for itself is not the scheduler's.
        value -= found["fsync_ms"] if name == "chain_ms_per_task" else 0
        if (value > limit) if side == "most" else (value < limit):
            missed.append(f"{database} {name}: {value:g}, and at {side} {limit:g} is wanted")
    return missed + _over_beside(found, database)


def _over_beside(found: dict[str, Any], database: str) -> list[str]:
    missed = []
    if "par10000_tasks_per_s" in found and found["par1000_tasks_per_s"] > 1.3 * found["par10000_tasks_per_s"]:
        missed.append(f"{database}: a task of 10,000 takes more than 1.3 times one of 1,000")
    history = found.get("history")
    if history and history["after_ms_per_task"] > 1.2 * history["before_ms_per_task"]:
        missed.append(f"{database}: 100,000 finished runs make the loop more than 1.2 times as slow")
    idle = found.get("idle")
    if idle and (idle["processes"] > 5 or idle["pss_mb"] > 150 or idle["cpu_percent"] > 0.5):
        missed.append(f"{database} idle: {idle}")
    if "files" in found and found["files"]["change_seen_s"] > 2:
        missed.append(f"{database}: a changed file is seen after {found['files']['change_seen_s']} s")
    return missed


def tidemill(root: Path, do: str) -> tuple[dict[str, Any], list[str]]:
    """On both databases."""
    sys.path.insert(0, str(PEERS.parents[1] / "tests"))
    from harness.postgres import running

    made = {"tidemill (sqlite)": measured("tidemill", "tidemill_orchestrate.py", root / "sqlite", "--do", do)}
    missed = over(made["tidemill (sqlite)"], "sqlite")
    with ExitStack() as stack:
        server = stack.enter_context(running(durable=True))
        url = server.new_database()
        arguments = ("--do", "throughput", "--url", url)
        made["tidemill (postgresql)"] = measured("tidemill", "tidemill_orchestrate.py", root / "postgresql", *arguments)
        missed += over(made["tidemill (postgresql)"], "postgresql")
    return made, missed


def main() -> int:
    """Run the bench; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run bench orchestrate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="tidemill,dbos,dagster,prefect,airflow")
    parser.add_argument("--do", default="startup,throughput,history,files", help="what is measured of Tidemill")
    options = parser.parse_args()
    about = measure.machine()
    print(f"{about['cores']} cores, {about['processor']}, load {about['load_before']} before the start")
    found: dict[str, Any] = {}
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="tidemill-bench-") as name:
        for peer in options.only.split(","):
            if peer == "tidemill":
                made, missed = tidemill(Path(name), options.do)
                found |= made
            else:
                found[peer] = measured(peer, f"{peer}_orchestrate.py", Path(name) / peer)
    print(f"\n{'':<22} {'chain ms/task':>14} {'tasks/s':>9} {'first task s':>13} {'idle MB':>8}")
    for peer, figures in found.items():
        rate = figures.get("par1000_tasks_per_s", figures.get("par200_tasks_per_s", "-"))
        idle = figures.get("idle", {}).get("pss_mb", "-")
        print(f"{peer:<22} {figures.get('chain_ms_per_task', '-'):>14} {rate:>9} "
              f"{figures.get('first_task_s', '-'):>13} {idle:>8}")  # fmt: skip
    for text in missed:
        print(f"OVER: {text}")
    keep("orchestrate", about, found)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
