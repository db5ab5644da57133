"""Dagster on a SQLite instance: jobs by the in-process executor, and by the one with a process for each step."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

folder = Path(sys.argv[1])
home = folder / "home"
home.mkdir(parents=True, exist_ok=True)
(home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
os.environ |= {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
JOBS = """
from dagster import In, Nothing, in_process_executor, job, multiprocess_executor, op


@op
def first():
    return None


@op(ins={"before": In(Nothing)})
def later():
    return None


def make(name, count, chained, executor):
    @job(name=name, executor_def=executor)
    def made():
        before = None
        for number in range(count):
            if chained and before is not None:
                before = later.alias(f"t{number}")(before)
            else:
                before = first.alias(f"t{number}")()

    return made


def chain_in_process(): return make("chain_in_process", 20, True, in_process_executor)
def chain_processes(): return make("chain_processes", 20, True, multiprocess_executor)
def wide_in_process(): return make("wide_in_process", 200, False, in_process_executor)
"""
(folder / "jobs_of_bench.py").write_text(JOBS)
sys.path.insert(0, str(folder))
os.environ["PYTHONPATH"] = str(folder)


def main() -> None:
    """Measure, and print. Its step processes import this file again, so nothing is done by importing it."""
    import jobs_of_bench
    from dagster import DagsterInstance, execute_job, reconstructable

    instance = DagsterInstance.get()

    def seconds(job: Any) -> float:
        """How long a job takes."""
        began = time.perf_counter()
        assert execute_job(reconstructable(job), instance=instance).success
        return time.perf_counter() - began

    in_process = statistics.median(seconds(jobs_of_bench.chain_in_process) for _ in range(3))
    made = {
        "chain_in_process_ms_per_task": round(in_process / 20 * 1000, 1),
        "chain_ms_per_task": round(seconds(jobs_of_bench.chain_processes) / 20 * 1000, 1),
        "par200_tasks_per_s": round(200 / seconds(jobs_of_bench.wide_in_process), 1),
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main()
