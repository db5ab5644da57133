"""Airflow as `airflow standalone` starts it, with its local executor on SQLite; driven through its API."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

folder = Path(sys.argv[1])
(folder / "dags").mkdir(parents=True, exist_ok=True)
(folder / "dags" / "bench.py").write_text("""
import datetime
from airflow.sdk import dag, task

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)


def make(name, count, chained):
    @dag(dag_id=name, schedule=None, start_date=START, catchup=False)
    def made():
        @task
        def noop():
            return None

        before = None
        for number in range(count):
            now = noop.override(task_id=f"t{number}")()
            if chained and before is not None:
                before >> now
            before = now

    return made()


one = make("one", 1, False)
chain = make("chain", 20, True)
wide = make("wide", 200, False)
""")
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
program = str(Path(sys.executable).with_name("airflow"))
environment = {
    **os.environ,
    "AIRFLOW_HOME": str(folder),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__API__PORT": str(port),
    "PATH": f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}",
}
subprocess.run([program, "db", "migrate"], env=environment, check=True, capture_output=True)
began = time.perf_counter()
with (folder / "standalone.log").open("w") as log:
    server = subprocess.Popen([program, "standalone"], env=environment, stdout=log, stderr=log, start_new_session=True)


def call(method: str, path: str, body: Any = None, token: str = "") -> Any:
    """Ask the API."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def until(what: Any, limit: float = 240) -> Any:
    """Ask again until there is an answer that is true."""
    end = time.perf_counter() + limit
    while True:
        try:
            found = what()
        except OSError:
            found = None
        if found:
            return found
        if time.perf_counter() > end:
            raise SystemExit("it took too long")
        time.sleep(0.25)


def run(dag: str) -> float:
    """Seconds of a run, asked for through the API."""
    asked = time.perf_counter()
    made = call("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None}, token)["dag_run_id"]
    state = until(
        lambda: (found := call("GET", f"/api/v2/dags/{dag}/dagRuns/{made}", token=token)["state"])
        in ("success", "failed") and found
    )  # fmt: skip
    assert state == "success", state
    return time.perf_counter() - asked


def proportional(pid: int) -> int:
    """Kilobytes of a process, what it shares counted by its part."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


try:
    token = until(lambda: call("GET", "/auth/token")["access_token"])
    until(lambda: {"one", "chain", "wide"} <= {
        dag["dag_id"] for dag in call("GET", "/api/v2/dags?limit=100", token=token)["dags"]
    })  # fmt: skip
    run("one")
    made: dict[str, Any] = {"first_task_s": round(time.perf_counter() - began, 1)}
    made["chain_ms_per_task"] = round(statistics.median(run("chain") for _ in range(2)) / 20 * 1000)
    made["par200_tasks_per_s"] = round(200 / run("wide"), 1)
    time.sleep(20)
    found = subprocess.run(["ps", "-o", "pid=", "-g", str(server.pid)], capture_output=True, text=True).stdout.split()
    made["idle"] = {"processes": len(found), "pss_mb": round(sum(proportional(int(pid)) for pid in found) / 1024)}
    print(json.dumps(made))
finally:
    os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
