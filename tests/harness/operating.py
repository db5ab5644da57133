"""Operators of one DAG, performed one by one beside other pipelines that the test makes up."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tidemill as tm
from tidemill.adapters.memory.xcoms import MemoryXComs
from tidemill.authoring.task_context import TaskServices
from tidemill.flow.perform import perform
from tidemill.model.batch import Interval
from tidemill.model.errors import UnknownName
from tidemill.model.graph import WHOLE
from tidemill.model.run import RunInfo, RunKind
from tidemill.ports.executor import Job
from tidemill.testing.clock import ManualClock

NIGHT = Interval(datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC))


class Others:
    """Other pipelines, as the test has them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.states: dict[Any, Any] = {}

    def trigger(self, pipeline, **given):
        if pipeline == "none":
            raise UnknownName.of("pipeline", pipeline, ["other"])
        self.asked.append({"pipeline": pipeline, **given})
        return 100 + len(self.asked)

    def run_state(self, run_id):
        return self.states.get(run_id)

    def state_at(self, pipeline, moment):
        return self.states.get((pipeline, moment))

    def task_states_at(self, pipeline, task, moment):
        return self.states.get((pipeline, task, moment), [])

    def published(self, table, interval):
        return (table, interval) in self.states


class Worker:
    def __init__(self, root: Path) -> None:
        self.clock, self.xcoms, self.others = ManualClock(NIGHT.end), MemoryXComs(), Others()
        self.services = TaskServices(self.xcoms, self.clock, root, pipelines=self.others)
        self.dag = tm.DAG("d", schedule="@daily", start="2026-01-01", zone="Europe/London")

    def __call__(self, task, index=WHOLE, *, failed=0, kind=RunKind.SCHEDULED, interval=NIGHT):
        run = RunInfo(7, 70, 1, "d", "v", "d.py", kind, interval, None if interval else "k")
        job = Job(7, 1, (task, index), 1, "default", self.clock.now(), None, run, failed)
        outcome, self.report = perform(self.dag, job, self.services)
        self.xcoms.put(7, task, index, self.report.xcoms)
        return outcome

    def value(self, task):
        return self.xcoms.get(7, task)
