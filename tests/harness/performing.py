"""Tries of one DAG, performed one by one: what they hand over is recorded as a scheduler would."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import tidemill as tm
from tidemill.adapters.memory.xcoms import MemoryXComs
from tidemill.authoring import registry
from tidemill.authoring.task_context import TaskServices
from tidemill.flow.perform import perform
from tidemill.model.batch import Interval
from tidemill.model.graph import WHOLE
from tidemill.model.run import RunInfo, RunKind
from tidemill.operators import PythonOperator
from tidemill.ports.executor import Job
from tidemill.testing.clock import ManualClock

NIGHT = Interval(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC))


class Big:
    def __init__(self):
        self.kept = {}

    def put(self, name, content):
        self.kept[name] = content
        return f"archive/{name}"

    def get(self, address):
        return self.kept[address.removeprefix("archive/")]


class Worker:
    """Performs tries of one DAG and records what they hand over, as a scheduler would."""

    def __init__(self, root):
        registry.clear()
        self.clock, self.xcoms, self.big = ManualClock(), MemoryXComs(), Big()
        self.services = TaskServices(self.xcoms, self.clock, Path(root), big=self.big)
        self.dag = tm.DAG("d", schedule="@daily", start="2026-01-01", params={"n": 3})

    def __call__(self, task, index=WHOLE, *, failed=0, interval=NIGHT, conf=None, number=1, dag=None):
        key = None if interval else "k"
        run = RunInfo(7, 70, 1, "d", "v", "d.py", RunKind.SCHEDULED, interval, key, conf or {})
        job = Job(7, 1, (task, index), number, "default", self.clock.now(), None, run, failed)
        outcome, self.report = perform(dag or self.dag, job, self.services)
        self.xcoms.put(7, task, index, self.report.xcoms)
        return outcome

    def made(self, function, **options):
        """A task of a function, performed."""
        with self.dag:
            PythonOperator(task_id=function.__name__, python_callable=function, **options)
        return self(function.__name__)
