"""Prefect with its own server on SQLite: a chain of tasks in a flow, and mapped tasks."""

# mypy: disable-error-code="untyped-decorator"
# Prefect is not installed where types are checked.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

folder = Path(sys.argv[1])
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ |= {
    "PREFECT_HOME": str(folder / "home"),
    "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    "PREFECT_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
program = str(Path(sys.executable).with_name("prefect"))
began_at = time.perf_counter()
with (folder / "server.log").open("w") as log:
    server = subprocess.Popen(
        [program, "server", "start", "--port", str(port)], stdout=log, stderr=log, start_new_session=True
    )
try:
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2).read()
            break
        except OSError:
            if time.perf_counter() - began_at > 120:
                raise SystemExit("the server does not answer") from None
            time.sleep(0.1)
    from prefect import flow, task

    @task
    def noop(before: Any = None) -> None:
        """Do nothing."""

    @flow
    def chain() -> None:
        """Twenty tasks, one after another."""
        before = None
        for _ in range(20):
            before = noop(before)

    @flow
    def wide(count: int) -> None:
        """So many tasks at once."""
        for future in noop.map(list(range(count))):
            future.result()

    def seconds(work: Callable[[], Any]) -> float:
        """How long it takes."""
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    wide(1)
    made = {
        "first_task_s": round(time.perf_counter() - began_at, 2),
        "chain_ms_per_task": round(statistics.median(seconds(chain) for _ in range(3)) / 20 * 1000, 1),
        "par200_tasks_per_s": round(200 / seconds(lambda: wide(200)), 1),
    }
    print(json.dumps(made))
finally:
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(30)
