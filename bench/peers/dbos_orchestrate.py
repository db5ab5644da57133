"""DBOS as durable steps in one process: a chain of steps in a workflow, and queued workflows of one step each."""

# mypy: disable-error-code="untyped-decorator"
# DBOS is not installed where types are checked.
from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from dbos import DBOS, DBOSConfig

folder, url = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
config: DBOSConfig = {
    "name": "bench",
    "system_database_url": url or f"sqlite:///{folder}/dbos.sqlite",
    "run_admin_server": False,
    "log_level": "ERROR",
}
DBOS(config=config)


@DBOS.step()
def noop() -> None:
    """Do nothing."""


@DBOS.workflow()
def chain() -> None:
    """Twenty steps."""
    for _ in range(20):
        noop()


@DBOS.workflow()
def one() -> None:
    """One step."""
    noop()


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def wide(count: int) -> None:
    """So many queued workflows."""
    for handle in [DBOS.enqueue_workflow("bench", one) for _ in range(count)]:
        handle.get_result()


DBOS.launch()
DBOS.register_queue("bench", polling_interval_sec=0.1)
chain()
made = {
    "chain_ms_per_task": round(statistics.median(seconds(chain) for _ in range(9)) / 20 * 1000, 2),
    "par1000_tasks_per_s": round(1000 / seconds(lambda: wide(1000)), 1),
}
DBOS.destroy()
print(json.dumps(made))
